"""Experiments that need only the networks."""

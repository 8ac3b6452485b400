"""Experiments with networks alone."""

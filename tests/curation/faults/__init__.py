"""Faults that tests put into real worker processes."""

"""Faults that tests inject into real worker processes."""

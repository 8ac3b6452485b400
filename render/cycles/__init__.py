"""Renders with Cycles, inside this process."""

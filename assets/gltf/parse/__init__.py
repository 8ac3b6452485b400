"""Turns a glTF file on disk into a `Document`: parsed and checked, with nothing decoded yet."""

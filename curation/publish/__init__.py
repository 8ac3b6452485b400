"""Describes an output for others, and uploads it to the model hub."""

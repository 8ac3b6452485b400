"""Folders and hub repositories in TRELLIS.2's layout, read and written."""

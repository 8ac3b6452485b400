"""Presents an output: summaries, a report page, and a data card."""

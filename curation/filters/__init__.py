"""Measures clips and decides, by thresholds, which of them become samples."""

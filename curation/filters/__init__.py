"""A clip becomes measures, and thresholds decide whether it is wanted."""

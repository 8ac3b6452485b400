"""Exact coverage: the alpha of an image, from geometry and materials alone."""

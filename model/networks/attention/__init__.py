"""Attention between frames: patterns as segments of keys, backends, and the choice among them."""

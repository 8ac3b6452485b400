"""TRELLIS.2's autoencoders: sparse and dense."""

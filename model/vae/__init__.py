"""TRELLIS.2's sparse and dense autoencoders."""

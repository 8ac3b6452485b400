"""TRELLIS.2's networks under our own code, and what Helix4D adds to make them 4D."""

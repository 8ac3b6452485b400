"""Compiled loops of this package: arrays in, arrays out."""

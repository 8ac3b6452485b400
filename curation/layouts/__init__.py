"""Writes the samples of an output in the layouts that other people's tools read, from shards alone."""

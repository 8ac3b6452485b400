"""Latent shards become the clips of each step."""

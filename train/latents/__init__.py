"""Curation shards become latent shards."""

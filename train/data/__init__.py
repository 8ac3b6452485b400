"""Load the clips of each step from latent shards."""

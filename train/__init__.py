"""Shards become weights: latent encoding, batching, the training loop, checkpoints.

Names are imported from their modules (`helix4d.train.loop`, ...), so that a Ray worker does not pay for the trainer.
"""

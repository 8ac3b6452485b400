"""Training: latent encoding, data loading, the training loop, checkpoints.

Import names from their modules (`helix4d.train.loop`, ...), so that Ray workers do not load the whole trainer.
"""

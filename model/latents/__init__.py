"""Encode O-Voxels as latents and decode latents to O-Voxels."""

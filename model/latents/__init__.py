"""O-Voxels become latents, and latents O-Voxels."""

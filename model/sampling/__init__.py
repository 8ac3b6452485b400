"""Generate meshes from a video: samplers, guidance, and the three-stage pipeline."""

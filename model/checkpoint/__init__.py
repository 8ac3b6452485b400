"""Read and write checkpoints in TRELLIS.2's layout, from folders and hub repositories."""

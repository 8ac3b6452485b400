"""A mesh frame becomes an O-Voxel and back."""

"""Meshes become O-Voxels."""

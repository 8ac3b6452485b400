"""Presents images and O-Voxels: contact sheets, turntables, 3D pages."""

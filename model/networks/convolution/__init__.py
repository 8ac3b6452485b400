"""Submanifold convolution on voxels: gathers in plain torch, implicit matrix products in Triton."""

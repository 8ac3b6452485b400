"""O-Voxels on disk: `.vxz`."""

"""Images and O-Voxels as things for people: contact sheets, turntables, 3D pages."""

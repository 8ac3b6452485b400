"""O-Voxels become meshes: extracted, cleaned, unwrapped, textured, written as GLB."""

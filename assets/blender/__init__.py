"""What only Blender reads becomes `Clip`s: the one wing of this package that imports bpy."""

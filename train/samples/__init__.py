"""Sample trained stages: previews and generated meshes."""

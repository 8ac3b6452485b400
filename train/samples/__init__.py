"""A trained stage becomes samples: previews and generated meshes."""

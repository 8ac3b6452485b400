"""A glTF file on disk becomes a `Document`: parsed and checked, nothing decoded."""

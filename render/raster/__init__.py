"""Renders with OpenGL, without Blender."""

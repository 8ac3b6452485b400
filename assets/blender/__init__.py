"""Turns files of the formats that only Blender reads into `Clip`s."""

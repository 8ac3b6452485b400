"""Turns FBX files into `Clip`s with ufbx, which reads and evaluates them.

Nothing here is imported until an FBX file is opened.
"""

"""Turns FBX files into `Clip`s with ufbx, which parses and evaluates them.

Nothing here is imported until an FBX file is opened.
"""

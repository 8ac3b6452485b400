"""Turns USD files into `Clip`s with usd-core, Pixar's reference implementation of composition and evaluation.

Nothing here is imported until a USD file is opened.
"""

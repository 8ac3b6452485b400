"""Turns USD files into `Clip`s with Pixar's own library, usd-core, so that composition and evaluation are USD's.

Nothing here is imported until a USD file is opened.
"""

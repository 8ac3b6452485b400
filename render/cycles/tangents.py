"""Finds the clips for which Blender's tangents, and so the pixels, depend on the timing of threads.

Normal maps are read along tangents, which Blender computes anew for every frame. For a mesh of more than 10,000 faces
several threads add to the same tangent, in the order in which they arrive (`intern/mikktspace/mikktspace.hh`), so its
last bits differ from run to run, and a few bytes of the denoised images with them.
"""

from __future__ import annotations

from helix4d.assets import Clip

_MOST_SERIAL_FACES = 10_000
"""Largest number of faces for which Blender computes tangents in one thread."""


def depend_on_timing(clip: Clip) -> bool:
    """Return whether the tangents of any frame depend on the timing of threads, if there are several."""
    if all(material.normal_texture is None for material in clip.materials):
        return False
    return any(len(frame.faces) > _MOST_SERIAL_FACES for frame in clip.frames)

"""Small surfaces without symmetry, on which every rotation and motion is visible."""

from __future__ import annotations

import numpy as np

from helix4d.evaluation import Surface

_QUADS = ((0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3))
_FACES = np.array([t for a, b, c, d in _QUADS for t in ((a, b, c), (a, c, d))], np.int32)


def box(low: tuple[float, float, float], high: tuple[float, float, float]) -> Surface:
    """A box with 8 vertices and 12 triangles."""
    corners = np.array([[(low, high)[i >> axis & 1][axis] for axis in range(3)] for i in range(8)], np.float32)
    return Surface(corners, _FACES)


def join(*parts: Surface) -> Surface:
    starts = np.cumsum([0] + [len(part.vertices) for part in parts[:-1]])
    faces = [part.faces + start for part, start in zip(parts, starts, strict=True)]
    return Surface(np.concatenate([part.vertices for part in parts]), np.concatenate(faces).astype(np.int32))


def tripod() -> Surface:
    """Three arms of different lengths: only the identity rotation maps it to itself."""
    return join(
        box((-0.1, -0.1, -0.1), (0.45, 0.1, 0.1)),
        box((-0.1, 0.1, -0.1), (0.0, 0.3, 0.05)),
        box((-0.1, -0.1, 0.1), (0.05, 0.0, 0.2)),
    )


def moved(surface: Surface, shift: tuple[float, float, float]) -> Surface:
    return Surface(surface.vertices + np.array(shift, np.float32), surface.faces)

"""Compiled loop of `render.ovoxel_picture`: which face each sample of a picture shows."""

from __future__ import annotations

import math

import numba
import numpy as np


@numba.njit(cache=True, nogil=True)
def nearest_faces(  # type: ignore[no-untyped-def]
    vertices,  # (V, 3) float32 in the world
    faces,  # (F, 3) int32
    alpha,  # (F,) float32 in [0, 1]
    rotation,  # (3, 3) float64, world to camera
    translation,  # (3,) float64
    focal,  # in samples
    center,  # (2,) float64, principal point in samples
    thresholds,  # (K, K) float32 in (0, 1): a face is there where its alpha is above
    size,  # samples per side
):
    """(size, size) int32: the nearest face at the center of each sample, -1 where there is none."""
    pixels = np.empty((len(vertices), 3))
    for v in range(len(vertices)):
        # Written out, not a matrix product: how BLAS rounds depends on its number of threads.
        x, y, z = float(vertices[v, 0]), float(vertices[v, 1]), float(vertices[v, 2])
        depth = rotation[2, 0] * x + rotation[2, 1] * y + rotation[2, 2] * z + translation[2]
        right = rotation[0, 0] * x + rotation[0, 1] * y + rotation[0, 2] * z + translation[0]
        down = rotation[1, 0] * x + rotation[1, 1] * y + rotation[1, 2] * z + translation[1]
        pixels[v, 2] = depth
        pixels[v, 0] = focal * right / depth + center[0] if depth > 0.0 else 0.0
        pixels[v, 1] = focal * down / depth + center[1] if depth > 0.0 else 0.0
    nearest = np.full((size, size), np.inf)
    winner = np.full((size, size), -1, np.int32)
    tile = len(thresholds)
    for face in range(len(faces)):
        i, j, k = faces[face, 0], faces[face, 1], faces[face, 2]
        if pixels[i, 2] <= 0.0 or pixels[j, 2] <= 0.0 or pixels[k, 2] <= 0.0:
            continue
        ax, ay, bx, by, cx, cy = pixels[i, 0], pixels[i, 1], pixels[j, 0], pixels[j, 1], pixels[k, 0], pixels[k, 1]
        area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
        if area == 0.0:
            continue
        x0, x1 = max(math.ceil(min(ax, bx, cx) - 0.5), 0), min(math.floor(max(ax, bx, cx) - 0.5), size - 1)
        y0, y1 = max(math.ceil(min(ay, by, cy) - 0.5), 0), min(math.floor(max(ay, by, cy) - 0.5), size - 1)
        # Two walls of one shell, near and far, must not leave the same holes.
        turned = area < 0.0
        for y in range(y0, y1 + 1):
            for x in range(x0, x1 + 1):
                px, py = x + 0.5, y + 0.5
                u = ((bx - px) * (cy - py) - (by - py) * (cx - px)) / area
                v = ((cx - px) * (ay - py) - (cy - py) * (ax - px)) / area
                w = 1.0 - u - v
                if u < 0.0 or v < 0.0 or w < 0.0:
                    continue
                threshold = thresholds[y % tile, x % tile]
                if alpha[face] <= (1.0 - threshold if turned else threshold):
                    continue
                z = u * pixels[i, 2] + v * pixels[j, 2] + w * pixels[k, 2]
                if z < nearest[y, x]:
                    nearest[y, x] = z
                    winner[y, x] = face
    return winner

"""Compiled loops of `ovoxel_picture`: which face each sample of a picture shows, and how it looks."""

from __future__ import annotations

import math

import numba
import numpy as np

from helix4d.render.depth_kernels import draw_faces


@numba.njit(cache=True, nogil=True)
def nearest_faces(  # type: ignore[no-untyped-def]
    vertices,  # (V, 3) float32 in world space
    faces,  # (F, 3) int32
    alpha,  # (F,) float32 in [0, 1]
    rotation,  # (3, 3) float64, world to camera
    translation,  # (3,) float64
    focal,  # in samples
    center,  # (2,) float64, principal point in samples
    thresholds,  # (K, K) float32 in (0, 1): a face is visible where its alpha is above
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
        pixels[v, 0] = focal * right / depth + center[0] if depth > 0.0 else np.nan  # behind the camera
        pixels[v, 1] = focal * down / depth + center[1] if depth > 0.0 else np.nan
    nearest = np.full((size, size), np.inf)
    winner = np.full((size, size), -1, np.int32)
    draw_faces(pixels, faces, alpha, thresholds, nearest, winner, None)
    return winner


@numba.njit(cache=True, nogil=True)
def shade(  # type: ignore[no-untyped-def]
    winner,  # (S·K, S·K) int32 from `nearest_faces`
    vertices,  # (V, 3) float32 in world space
    faces,  # (F, 3) int32
    base_color,  # (V, 3) uint8
    eye,  # (3,) float64 in world space
    ambient,  # share of the light that comes from all directions; the rest comes from the eye
    samples,  # K, per side of a pixel
):
    """Sum over the samples of each pixel: (S, S) int64 samples with a face, (S, S, 3) colors, (S, S, 3) normals."""
    size = len(winner) // samples
    count = np.zeros((size, size), np.int64)
    color = np.zeros((size, size, 3))
    normal = np.zeros((size, size, 3))
    a, b, c, towards = np.empty(3), np.empty(3), np.empty(3), np.empty(3)
    n = np.empty(3)
    for y in range(size * samples):
        for x in range(size * samples):
            face = winner[y, x]
            if face < 0:
                continue
            i, j, k = faces[face, 0], faces[face, 1], faces[face, 2]
            for axis in range(3):
                a[axis], b[axis], c[axis] = vertices[i, axis], vertices[j, axis], vertices[k, axis]
                towards[axis] = eye[axis] - (a[axis] + b[axis] + c[axis]) / 3.0
            for axis in range(3):
                p, q = (axis + 1) % 3, (axis + 2) % 3
                n[axis] = (b[p] - a[p]) * (c[q] - a[q]) - (b[q] - a[q]) * (c[p] - a[p])
            length = math.sqrt(n[0] * n[0] + n[1] * n[1] + n[2] * n[2])
            distance = math.sqrt(towards[0] * towards[0] + towards[1] * towards[1] + towards[2] * towards[2])
            facing = (n[0] * towards[0] + n[1] * towards[1] + n[2] * towards[2]) / max(length * distance, 1e-30)
            light = ambient + (1.0 - ambient) * abs(facing)
            turned = (-1.0 if facing < 0.0 else 1.0) / max(length, 1e-30)
            row, column = y // samples, x // samples
            count[row, column] += 1
            for axis in range(3):
                mean = (float(base_color[i, axis]) + float(base_color[j, axis]) + float(base_color[k, axis])) / 3.0
                color[row, column, axis] += mean * light
                normal[row, column, axis] += n[axis] * turned
    return count, color, normal

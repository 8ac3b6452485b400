"""Measures how much of a surface is visible from outside, how much of that glows, and how much of a picture it fills.

A frame is seen from 32 directions. Compiled loops render depth buffers of 256² pixels. Unlike a ray caster, they give
the same result on every machine, need no system library, and take milliseconds for an ordinary mesh.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from helix4d.assets import AlphaMode, Clip, Material
from helix4d.assets.triangles import areas
from helix4d.curation.filters.emission import emissive_samples
from helix4d.curation.filters.surface_kernels import count_samples, sample_points, see
from helix4d.render.depth_kernels import draw_faces

DIRECTIONS = 32
IMAGE_SIZE = 256
_RADIUS = math.sqrt(3) / 2
"""Radius of the unit cube's bounding sphere, which fits into every picture."""
_SPACING = 1 / 32
_MOST_PARTS = 64
_TOLERANCE = 1e-3
"""Surfaces closer to each other than this share of the cube's edge count as one."""


@dataclass(frozen=True)
class Visibility:
    """Visibility of one frame.

    Attributes:
        visible: share of the area that is visible from any direction; 1 for a frame without surface.
        foreground: share of the bounding sphere's disc that the silhouette fills, averaged over the directions.
        emissive: share of the visible area that emits light (`helix4d.curation.filters.emission`).
    """

    visible: float
    foreground: float
    emissive: float


def frame_visibility(clip: Clip, frame: int) -> Visibility:
    """Measure a frame of a normalized clip. Faces are visible from both sides; only opaque ones hide others.

    Outlines hide nothing, since their near side is culled.
    """
    chosen = clip.frames[frame]
    area = areas(chosen.triangles())
    solid = area > 0
    if not solid.any():
        return Visibility(1.0, 0.0, 0.0)
    faces = np.ascontiguousarray(chosen.faces[solid])
    materials = np.array([_is_opaque(material) for material in clip.materials] or [True])
    opaque = materials[chosen.topology.material_ids[solid]]
    triangles = chosen.triangles()[solid].astype(np.float64)
    parts = count_samples(triangles, _SPACING, _MOST_PARTS)
    points, owners = sample_points(triangles, parts)
    weights = (area[solid] / parts**2)[owners]
    emits = emissive_samples(clip, chosen.topology, solid, parts)
    whole, emitting = weights.sum(), weights[emits].sum()
    filled = 0
    for axes in view_axes(DIRECTIONS):
        pixels = _project(chosen.vertices, axes)
        depth = np.full((IMAGE_SIZE, IMAGE_SIZE), np.inf)
        winner = np.full((IMAGE_SIZE, IMAGE_SIZE), -1, np.int32)
        covered = np.zeros((IMAGE_SIZE, IMAGE_SIZE), np.bool_)
        draw_faces(pixels, faces, opaque, None, depth, winner, covered)
        filled += int(covered.sum())
        hidden = ~see(pixels, faces, _project(points, axes), owners, winner, _TOLERANCE)
        points, owners, weights, emits = points[hidden], owners[hidden], weights[hidden], emits[hidden]
    disc = math.pi / 4 * IMAGE_SIZE**2
    seen = whole - weights.sum()
    emissive = (emitting - weights[emits].sum()) / seen if seen > 0 else 0.0
    return Visibility(float(1 - weights.sum() / whole), filled / (DIRECTIONS * disc), float(emissive))


def view_axes(count: int) -> np.ndarray:
    """Return view axes for directions spread evenly over the sphere.

    Shape (count, 3, 3) float64, rows: right, down and away from the eye.
    """
    number = np.arange(count)
    z = 1 - (2 * number + 1) / count
    angle = math.pi * (3 - math.sqrt(5)) * number
    flat = np.sqrt(1 - z**2)
    away = np.stack([flat * np.cos(angle), flat * np.sin(angle), z], axis=1)
    helper = np.where(np.abs(z)[:, None] < 0.9, [[0.0, 0.0, 1.0]], [[1.0, 0.0, 0.0]])
    right = np.cross(away, helper)
    right /= np.linalg.norm(right, axis=1, keepdims=True)
    return np.stack([right, np.cross(away, right), away], axis=1)


def _project(points: np.ndarray, axes: np.ndarray) -> np.ndarray:
    """Return (N, 3) float64: x to the right and y down in pixels, and depth."""
    # Not a matrix product: the rounding of BLAS depends on its number of threads.
    turned = points[:, :1] * axes[:, 0] + points[:, 1:2] * axes[:, 1] + points[:, 2:] * axes[:, 2]
    turned[:, :2] = (turned[:, :2] / (2 * _RADIUS) + 0.5) * IMAGE_SIZE
    return turned


def _is_opaque(material: Material) -> bool:
    return material.alpha_mode is AlphaMode.OPAQUE and material.transmission == 0.0 and not material.outline

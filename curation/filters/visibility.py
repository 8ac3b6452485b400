"""Measures how much of a surface is visible from outside, how much of that glows, and how much of a picture it fills.

A frame is seen from 32 directions. Compiled loops render depth buffers of 256² pixels. Unlike a ray caster, they give
the same result on every machine, need no system library, and take milliseconds for an ordinary mesh.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from helix4d.assets import AlphaMode, Clip, Material
from helix4d.core.arrays import BoolArray, Float32Array, Float64Array, Int32Array, Int64Array
from helix4d.curation.filters.emission import emissive_samples
from helix4d.curation.filters.surface_kernels import count_samples, project, visible_samples
from helix4d.render.depth_kernels import draw_faces

DIRECTIONS = 32
IMAGE_SIZE = 256
_EXTENT = math.sqrt(3)
"""Diameter of the unit cube's bounding sphere, which fills every picture."""
_SPACING = 1 / 32
_MOST_PARTS = 64
_LARGE = 8
"""Minimum number of parts per side of a large triangle: a quarter of the cube's edge."""
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
    solid = chosen.areas > 0
    if not solid.any():
        return Visibility(1.0, 0.0, 0.0)
    faces = np.ascontiguousarray(chosen.faces[solid])
    materials = np.array([_is_opaque(material) for material in clip.materials] or [True])
    opaque = materials[chosen.topology.material_ids[solid]]
    directions = view_axes(DIRECTIONS)
    parts = count_samples(chosen.vertices, faces, _SPACING, _MOST_PARTS)
    drawn = _without_repeats(chosen.vertices, faces, opaque, parts)
    winners, filled = _fronts(chosen.vertices, faces[drawn], opaque[drawn], directions)
    if len(drawn) < len(faces):
        winners = np.where(winners < 0, winners, drawn[winners])
    hidden = ~visible_samples(chosen.vertices, faces, parts, directions, winners, _EXTENT, _TOLERANCE)
    weights = np.repeat(chosen.areas[solid] / parts**2, parts**2)
    emits = emissive_samples(clip, chosen.topology, solid, parts)
    whole, emitting = weights.sum(), weights[emits].sum()
    weights, emits = weights[hidden], emits[hidden]
    disc = math.pi / 4 * IMAGE_SIZE**2
    seen = whole - weights.sum()
    emissive = (emitting - weights[emits].sum()) / seen if seen > 0 else 0.0
    return Visibility(float(1 - weights.sum() / whole), filled / (DIRECTIONS * disc), float(emissive))


def _without_repeats(vertices: Float32Array, faces: Int32Array, opaque: BoolArray, parts: Int64Array) -> Int32Array:
    """Return the (K,) triangles without large duplicates of earlier ones, which a depth buffer never shows.

    Only large triangles are compared: they take the longest to draw, and most meshes have few.
    """
    large = np.flatnonzero(parts >= _LARGE)
    corners = vertices[faces[large]].reshape(-1, 9)
    first = np.unique(np.column_stack([corners, opaque[large]]), axis=0, return_index=True)[1]
    kept = parts < _LARGE
    kept[large[first]] = True
    return np.flatnonzero(kept).astype(np.int32)


def _fronts(
    vertices: Float32Array, faces: Int32Array, opaque: BoolArray, directions: Float64Array
) -> tuple[Int32Array, int]:
    """Return the opaque face in front of each pixel as (D, H, H) int32, −1 for none, and the count of covered pixels.

    Args:
        vertices: (V, 3) positions.
        faces: (F, 3) triangles.
        opaque: (F,) mask of those that hide others.
        directions: (D, 3, 3) axes of the directions.
    """
    pixels = np.empty((len(vertices), 3))
    winners = np.full((len(directions), IMAGE_SIZE, IMAGE_SIZE), -1, np.int32)
    filled = 0
    for axes, winner in zip(directions, winners, strict=True):
        project(vertices, axes, IMAGE_SIZE, _EXTENT, pixels)
        depth = np.full((IMAGE_SIZE, IMAGE_SIZE), np.inf)
        covered = np.zeros((IMAGE_SIZE, IMAGE_SIZE), np.bool_)
        draw_faces(pixels, faces, opaque, None, depth, winner, covered)
        filled += int(covered.sum())
    return winners, filled


def view_axes(count: int) -> Float64Array:
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


def _is_opaque(material: Material) -> bool:
    return material.alpha_mode is AlphaMode.OPAQUE and material.transmission == 0.0 and not material.outline

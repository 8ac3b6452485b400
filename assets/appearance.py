"""Measures how much visible surfaces change in color, opacity or emission, independent of motion."""

from __future__ import annotations

from dataclasses import fields

import numpy as np

from helix4d.assets.clip import AlphaMode, Clip, Frame, Material, Texture

_TEXTURES = tuple(field.name for field in fields(Material) if field.name.endswith("_texture"))


def appearance_change(clip: Clip) -> float:
    """Return the largest change in appearance of a visible surface, from 0 to 1; 0 if only its shape changes.

    Each frame is compared with the first one that has the same triangles, on triangles with area: base color, vertex
    color, alpha (except of opaque materials), emission, transmission, metallic and roughness, each from 0 to 1, as well
    as shifts of textures as a share of their size. What appears or vanishes counts as motion (`assets.motion`).
    """
    firsts: list[Frame] = []
    largest = 0.0
    for frame in clip.frames:
        first = next((one for one in firsts if one.topology.same_triangles(frame.topology)), None)
        if first is None:
            firsts.append(frame)
        elif frame.topology is not first.topology:
            largest = max(largest, _change(first, frame, clip))
    return largest


def _change(first: Frame, frame: Frame, clip: Clip) -> float:
    shown = (first.areas > 0) | (frame.areas > 0)
    one, two = first.topology, frame.topology
    pairs = np.unique(np.stack([one.material_ids[shown], two.material_ids[shown]]), axis=1).T.tolist()
    changes = [material_change(clip.materials[before], clip.materials[after]) for before, after in pairs]
    if one.colors is not None and two.colors is not None and one.colors is not two.colors:
        changes.append(float(np.abs(one.colors[shown] - two.colors[shown]).max(initial=0.0)))
    return max(changes, default=0.0)


def material_change(one: Material, two: Material) -> float:
    """Return the largest difference of two materials as `appearance_change` measures it."""
    if one is two:
        return 0.0
    difference = float(np.abs(_numbers(one) - _numbers(two)).max())
    moved = [_texture_change(getattr(one, name), getattr(two, name)) for name in _TEXTURES]
    return min(max(difference, *moved), 1.0)


def _numbers(material: Material) -> np.ndarray:
    alpha = 1.0 if material.alpha_mode is AlphaMode.OPAQUE else material.alpha
    cutoff = material.alpha_cutoff if material.alpha_mode is AlphaMode.MASK else 0.0
    others = alpha, cutoff, material.metallic, material.roughness, material.transmission, material.normal_scale
    return np.array([*material.base_color, *np.minimum(material.emissive, 1.0), *others])


def _texture_change(one: Texture | None, two: Texture | None) -> float:
    if one is None or two is None or one.image != two.image or one.uv_set != two.uv_set:
        return 0.0 if one is two else 1.0
    return float(np.abs(one.matrix() - two.matrix()).max())

"""Finds the samples of a surface that emit light, from the factors and textures of its materials."""

from __future__ import annotations

import numpy as np

from helix4d.assets import Clip, Material, Texture, Topology, Wrap
from helix4d.core.arrays import BoolArray, Float64Array, Int64Array, UInt8Array
from helix4d.curation.filters.surface_kernels import sample_points

LEAST_LUMINANCE = 0.1
"""Minimum linear luminance of an emissive surface; a white surface in white light of strength 1 has 1."""
_LUMINANCE = np.array([0.2126, 0.7152, 0.0722])
"""Of linear sRGB, from BT.709."""


def emissive_samples(clip: Clip, topology: Topology, faces: BoolArray, parts: Int64Array) -> BoolArray:
    """Return (S,) bool: the samples whose emission has a luminance of at least `LEAST_LUMINANCE`.

    Emission is the factor times the texel nearest to the sample. Unlit materials have none.

    Args:
        clip: clip with the materials and images.
        topology: topology of the sampled frame.
        faces: (F,) bool mask of the sampled triangles.
        parts: parts per side of each of these, as for `sample_points`, which defines the order of the samples.
    """
    ids = topology.material_ids[faces]
    counts = parts**2
    glows = np.zeros(int(counts.sum()), np.bool_)
    for number in np.unique(ids):
        material = clip.materials[number] if clip.materials else Material()
        factor = np.array(material.emissive)
        if material.unlit or factor @ _LUMINANCE < LEAST_LUMINANCE:
            continue
        texture = material.emissive_texture
        chosen = ids == number
        samples = np.repeat(chosen, counts)
        if texture is None:
            glows |= samples
            continue
        uvs = topology.uvs[texture.uv_set][faces][chosen].astype(np.float64) @ texture.matrix()[:, :2].T
        corners = np.concatenate([uvs + texture.matrix()[:, 2], np.zeros((*uvs.shape[:2], 1))], axis=2)
        triangles = np.arange(3 * len(corners), dtype=np.int32).reshape(-1, 3)
        places = sample_points(corners.reshape(-1, 3), triangles, parts[chosen])[0][:, :2]
        light = _linear(_texels(clip.images[texture.image], texture, places))
        glows[samples] = (light * factor) @ _LUMINANCE >= LEAST_LUMINANCE
    return glows


def _texels(image: UInt8Array, texture: Texture, places: Float64Array) -> UInt8Array:
    """Return the (S, 3) texels at (S, 2) positions, where (0, 0) is the upper left corner of the image."""
    columns, rows = (
        _wrapped(np.floor(places[:, axis] * image.shape[1 - axis]).astype(np.int64), image.shape[1 - axis], wrap)
        for axis, wrap in enumerate((texture.wrap_u, texture.wrap_v))
    )
    return np.asarray(image[rows, columns, :3])


def _wrapped(number: Int64Array, size: int, wrap: Wrap) -> Int64Array:
    if wrap is Wrap.CLAMP:
        return np.clip(number, 0, size - 1)
    if wrap is Wrap.MIRROR:
        folded = number % (2 * size)
        return np.minimum(folded, 2 * size - 1 - folded)
    return number % size


def _linear(srgb: UInt8Array) -> Float64Array:
    """Decode sRGB."""
    value = srgb / 255.0
    return np.asarray(np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4))

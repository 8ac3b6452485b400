"""Emission for O-Voxels, which have no attribute for it: sampled like a base color, and optionally added to that.

Base colors are stored without conversion from sRGB, as in TRELLIS.2. The emission of a voxel is that of a picture:
factor times texel in linear light, at most 1, converted to sRGB. The sum of both is taken in linear light.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import numpy as np

from helix4d.assets import Material
from helix4d.core.srgb import linear_to_srgb, srgb_to_linear
from helix4d.voxelize.convert.surface import MaterialTable, material_table

Emissive = Literal["ignore", "add"]
"""Treatment of emission: "ignore" leaves base colors unchanged, as TRELLIS.2 does; "add" adds emission to them."""


def glows(material: Material) -> bool:
    """Return whether a material emits light; unlit materials do not."""
    return max(material.emissive) > 0.0 and not material.unlit


def emission_table(materials: Sequence[Material], images: Sequence[np.ndarray]) -> MaterialTable:
    """Build the table of materials whose base color, as voxels store it, is the emission of the given ones."""
    encoded: dict[tuple[int, tuple[float, float, float]], int] = {}
    textures: list[np.ndarray] = []
    emitting = [_emitting(material, images, encoded, textures) for material in materials]
    return material_table(emitting, textures)


def add_emission(base_color: np.ndarray, emission: np.ndarray) -> np.ndarray:
    """Add (N, 3) uint8 emission to (N, 3) uint8 base colors, both sRGB: the sum in linear light, at most 1."""
    total = np.minimum(_LINEAR[base_color] + _LINEAR[emission], 1.0)
    return np.where(emission == 0, base_color, np.rint(255.0 * linear_to_srgb(total))).astype(np.uint8)


def _emitting(
    material: Material,
    images: Sequence[np.ndarray],
    encoded: dict[tuple[int, tuple[float, float, float]], int],
    textures: list[np.ndarray],
) -> Material:
    """Return a material whose base color is the emission of another; adds its texture to `textures`."""
    if not glows(material):
        return Material(base_color=(0.0, 0.0, 0.0))
    texture, factor = material.emissive_texture, material.emissive
    if texture is None:
        # A byte, like the texels of a texture; the kernels round down.
        red, green, blue = np.minimum((np.rint(255 * linear_to_srgb(np.minimum(factor, 1.0))) + 0.25) / 255, 1.0)
        return Material(base_color=(float(red), float(green), float(blue)))
    key = texture.image, factor
    if key not in encoded:
        encoded[key] = len(textures)
        textures.append(_encoded_image(images[texture.image], factor))
    return Material(base_color_texture=replace(texture, image=encoded[key]))


def _encoded_image(image: np.ndarray, factor: Sequence[float]) -> np.ndarray:
    """Return the emission of each texel of (H, W, 4) uint8, encoded as (H, W, 4) uint8."""
    result = np.full_like(image, 255)
    for channel in range(3):
        table = np.rint(255.0 * linear_to_srgb(np.minimum(_LINEAR * factor[channel], 1.0))).astype(np.uint8)
        result[..., channel] = table[image[..., channel]]
    return result


_LINEAR = srgb_to_linear(np.arange(256) / 255.0)
"""Linear values of the 256 bytes of an sRGB channel."""

"""Converts KHR_materials_pbrSpecularGlossiness to metallic-roughness.

A surface of diffuse color d and specular color s is interpreted as a mixture of a dielectric (reflectance 0.04) and a
metal, with the metallic value for which the base colors derived from d and s are equally bright. Colors are linear.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

from helix4d.core.arrays import Float64Array, UInt8Array
from helix4d.core.srgb import linear_to_srgb, srgb_to_linear

_DIELECTRIC = 0.04
_ROWS = 256  # converted at a time, to bound memory
_LUMA = np.array([0.299, 0.587, 0.114])


def convert_factors(diffuse: Float64Array, specular: Float64Array) -> tuple[Float64Array, Float64Array]:
    """Convert (..., 3) linear diffuse and specular colors to (..., 3) base color and (...) metallic."""
    strongest = specular.max(axis=-1)
    diffuse_light = np.sqrt((diffuse**2) @ _LUMA)
    specular_light = np.sqrt((specular**2) @ _LUMA)
    # metallic solves a m² + b m + c = 0: base colors derived from d and from s must be equally bright.
    a = _DIELECTRIC
    b = diffuse_light * (1 - strongest) / (1 - _DIELECTRIC) + specular_light - 2 * _DIELECTRIC
    c = _DIELECTRIC - specular_light
    root = np.sqrt(np.maximum(b * b - 4 * a * c, 0.0))
    metallic = np.where(specular_light < _DIELECTRIC, 0.0, np.clip((root - b) / (2 * a), 0.0, 1.0))
    share = metallic[..., None]
    from_diffuse = diffuse * ((1 - strongest) / (1 - _DIELECTRIC))[..., None] / np.maximum(1 - share, 1e-6)
    from_specular = (specular - _DIELECTRIC * (1 - share)) / np.maximum(share, 1e-6)
    base = from_diffuse + (from_specular - from_diffuse) * share**2
    return np.clip(base, 0.0, 1.0), metallic


def convert_textures(
    diffuse_image: UInt8Array | None,
    specular_image: UInt8Array | None,
    diffuse: Float64Array,
    specular: Float64Array,
    glossiness: float,
) -> tuple[UInt8Array, UInt8Array]:
    """Convert textures to a base color image (sRGB, alpha kept) and a metallic-roughness image, factors included.

    Args:
        diffuse_image: (H, W, 4) uint8, RGB in sRGB; at most one of the two images may be None.
        specular_image: (H', W', 4) uint8, RGB specular in sRGB, A glossiness.
        diffuse, specular: (3,) linear factors.
        glossiness: glossiness factor.

    Returns:
        Two (H, W, 4) uint8 images of the size of the larger input.
    """
    images = [image for image in (diffuse_image, specular_image) if image is not None]
    height, width = max((image.shape[:2] for image in images), key=lambda shape: shape[0] * shape[1])
    first, second = (_resized(image, height, width) for image in (diffuse_image, specular_image))
    base_image = np.full((height, width, 4), 255, np.uint8)
    metallic_image = np.full((height, width, 4), 255, np.uint8)
    table = srgb_to_linear(np.arange(256) / 255.0)
    for top in range(0, height, _ROWS):
        rows = slice(top, top + _ROWS)
        d, s = table[first[rows, :, :3]] * diffuse, table[second[rows, :, :3]] * specular
        base, metallic = convert_factors(d, s)
        base_image[rows, :, :3] = np.rint(255 * linear_to_srgb(base))
        base_image[rows, :, 3] = first[rows, :, 3]
        roughness = 1.0 - glossiness * second[rows, :, 3] / 255.0
        metallic_image[rows, :, 1] = np.rint(255 * np.clip(roughness, 0.0, 1.0))
        metallic_image[rows, :, 2] = np.rint(255 * metallic)
    return base_image, metallic_image


def _resized(image: UInt8Array | None, height: int, width: int) -> UInt8Array:
    if image is None:
        return np.full((height, width, 4), 255, np.uint8)
    if image.shape[:2] == (height, width):
        return image
    # Channel by channel: Pillow would premultiply by alpha, which here is independent glossiness or coverage.
    channels = [
        np.asarray(Image.fromarray(image[..., n]).resize((width, height), Image.Resampling.BILINEAR)) for n in range(4)
    ]
    return np.stack(channels, axis=-1)

"""Procedural textures: seamless noise, palettes, and the maps of metallic-roughness materials."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from helix4d.core import generator
from helix4d.core.arrays import Float64Array, UInt8Array


def linear(hex_color: str) -> tuple[float, float, float]:
    """Convert an sRGB color such as "#c0392b" to linear RGB."""
    red, green, blue = (_to_linear(value) for value in srgb(hex_color))
    return red, green, blue


def srgb(hex_color: str) -> Float64Array:
    """Convert "#rrggbb" to (3,) sRGB in [0, 1]."""
    return np.array([int(hex_color[at : at + 2], 16) for at in (1, 3, 5)]) / 255


def coordinates(size: int) -> tuple[Float64Array, Float64Array]:
    """Return (size, size) u (right) and v (down) at pixel centers."""
    center = (np.arange(size) + 0.5) / size
    u, v = np.meshgrid(center, center)
    return u, v


def noise(name: str, size: int, cells: int | tuple[int, int] = 4, octaves: int = 4) -> Float64Array:
    """Return (size, size) seamless fractal noise in [0, 1], centered on 0.5.

    Args:
        name: name of the random stream.
        size: pixels per side.
        cells: number of cells of the coarsest octave, horizontally and vertically.
        octaves: number of octaves, each with half the cell size and amplitude of the previous one.
    """
    across, down = (cells, cells) if isinstance(cells, int) else cells
    u, v = coordinates(size)
    total, height = np.zeros((size, size)), 0.5
    for octave in range(octaves):
        lattice = generator("samples", name, octave).random((down << octave, across << octave)) - 0.5
        total += height * _bilinear(lattice, u * lattice.shape[1], v * lattice.shape[0])
        height /= 2
    return np.clip(0.5 + 1.3 * total, 0.0, 1.0)


def palette(values: Float64Array, colors: Sequence[str]) -> Float64Array:
    """Interpolate evenly spaced colors at `values` in [0, 1]; returns (..., 3) sRGB in [0, 1]."""
    stops = np.linspace(0.0, 1.0, len(colors))
    table = np.array([srgb(color) for color in colors])
    return np.stack([np.interp(values, stops, table[:, channel]) for channel in range(3)], axis=-1)


def mix(first: Float64Array, second: Float64Array, amount: Float64Array | float) -> Float64Array:
    """Blend (H, W, 3) images from `first` (amount 0) to `second` (amount 1); `amount` is (H, W)."""
    share = np.asarray(amount, float)[..., None]
    blend: Float64Array = first * (1 - share) + second * share
    return blend


def step(values: Float64Array, edge: float, softness: float = 0.02) -> Float64Array:
    """Return 0 below the edge and 1 above it, with a soft transition."""
    return np.clip((values - edge) / softness + 0.5, 0.0, 1.0)


def pixels(image: Float64Array, levels: int = 128) -> UInt8Array:
    """Quantize (H, W, C) values in [0, 1] to uint8 with few levels, which PNG compresses well."""
    coarse = np.round(np.clip(image, 0.0, 1.0) * (levels - 1)) / (levels - 1)
    return np.round(coarse * 255).astype(np.uint8)


def metallic_roughness(metallic: Float64Array | float, roughness: Float64Array) -> UInt8Array:
    """Return an (H, W, 3) uint8 map: roughness in green, metallic in blue, red unused."""
    shape = np.shape(roughness)
    channels = [np.ones(shape), np.broadcast_to(roughness, shape), np.broadcast_to(metallic, shape)]
    return pixels(np.stack(channels, axis=-1), 64)


def normal_map(height: Float64Array, strength: float) -> UInt8Array:
    """Return an (H, W, 3) uint8 tangent-space normal map (+Y up) of a seamless height map.

    Args:
        height: (H, W) heights in [0, 1].
        strength: slope of a rise of 1 over the width of the image, divided by its size in pixels.
    """
    right = (np.roll(height, -1, axis=1) - np.roll(height, 1, axis=1)) / 2
    down = (np.roll(height, -1, axis=0) - np.roll(height, 1, axis=0)) / 2
    normal = np.stack([-right * strength, down * strength, np.ones_like(height)], axis=-1)
    normal /= np.linalg.norm(normal, axis=-1, keepdims=True)
    return np.round((normal * 0.5 + 0.5) * 255).astype(np.uint8) & np.uint8(0xFE)


def _bilinear(lattice: Float64Array, x: Float64Array, y: Float64Array) -> Float64Array:
    """Interpolate between lattice points seamlessly, with easing so that the cells are not visible."""
    rows, columns = lattice.shape
    left, top = np.floor(x).astype(int), np.floor(y).astype(int)
    across, down = x - left, y - top
    across, down = across * across * (3 - 2 * across), down * down * (3 - 2 * down)
    left, top = left % columns, top % rows
    right, bottom = (left + 1) % columns, (top + 1) % rows
    upper = lattice[top, left] * (1 - across) + lattice[top, right] * across
    lower = lattice[bottom, left] * (1 - across) + lattice[bottom, right] * across
    value: Float64Array = upper * (1 - down) + lower * down
    return value


def _to_linear(value: float) -> float:
    return value / 12.92 if value <= 0.04045 else float(((value + 0.055) / 1.055) ** 2.4)

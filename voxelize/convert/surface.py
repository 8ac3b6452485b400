"""Material tables and mip pyramids, prepared once per clip."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from helix4d.assets import AlphaMode, Material, Texture, Wrap
from helix4d.voxelize.kernels.compilation import warm_up
from helix4d.voxelize.kernels.texture_kernels import (
    BLEND,
    CLAMP,
    COLOR,
    MASK,
    MIRROR,
    MODE,
    OPAQUE,
    REPEAT,
    SHARED,
    SURFACE,
    build_pyramid,
)

MAX_TEXTURE_SIZE = 2048
_MODES = {AlphaMode.OPAQUE: OPAQUE, AlphaMode.MASK: MASK, AlphaMode.BLEND: BLEND}
_WRAPS = {Wrap.REPEAT: REPEAT, Wrap.CLAMP: CLAMP, Wrap.MIRROR: MIRROR}


@dataclass(frozen=True, eq=False)
class MaterialTable:
    """Materials in the layout of the kernels; texture_kernels.py documents the columns.

    Attributes:
        layout: (M, 16) int64.
        transforms: (M, 12) float64.
        factors: (M, 8) float64.
        texels: (X,) uint32, the pyramids of all images in use.
    """

    layout: np.ndarray
    transforms: np.ndarray
    factors: np.ndarray
    texels: np.ndarray


NO_MATERIALS = MaterialTable(np.zeros((0, 16), np.int64), np.zeros((0, 12)), np.zeros((0, 8)), np.zeros(0, np.uint32))


def material_table(materials: Sequence[Material], images: Sequence[np.ndarray]) -> MaterialTable:
    """Build tables of the materials and pyramids of the (H, W, 4) uint8 images that they use."""
    warm_up()
    used = {_key(texture) for m in materials for texture in _textures(m) if texture is not None}
    squares = {key: square_image(images[key[0]], nearest=key[1]) for key in sorted(used)}
    offsets: dict[tuple[int, bool], int] = {}
    total = 0
    for image, square in squares.items():
        offsets[image] = total
        total += (4 * len(square) ** 2 - 1) // 3
    texels = np.empty(total, np.uint32)
    for image, square in squares.items():
        build_pyramid(square, texels[offsets[image] :])
    layout = np.zeros((len(materials), 16), np.int64)
    transforms = np.zeros((len(materials), 12))
    factors = np.zeros((len(materials), 8))
    for row, material in enumerate(materials):
        layout[row, MODE] = _MODES[material.alpha_mode]
        for slot, (first, texture) in enumerate(zip((COLOR, SURFACE), _textures(material), strict=True)):
            layout[row, first] = -1
            if texture is not None:
                size = len(squares[_key(texture)])
                layout[row, first : first + 6] = (
                    offsets[_key(texture)],
                    size.bit_length() - 1,
                    texture.uv_set,
                    _WRAPS[texture.wrap_u],
                    _WRAPS[texture.wrap_v],
                    texture.nearest,
                )
                transforms[row, 6 * slot : 6 * slot + 6] = texture.matrix().ravel()
        color, surface = layout[row, COLOR : COLOR + 6], layout[row, SURFACE : SURFACE + 6]
        alike = np.array_equal(color[1:], surface[1:]) and np.array_equal(transforms[row, :6], transforms[row, 6:])
        layout[row, SHARED] = alike and color[0] >= 0 and surface[0] >= 0
        factors[row, :7] = (
            *material.base_color,
            material.metallic,
            material.roughness,
            material.alpha,
            material.alpha_cutoff,
        )
    return MaterialTable(layout, transforms, factors, texels)


def square_image(image: np.ndarray, nearest: bool = False) -> np.ndarray:
    """Resize (H, W, 4) to (S, S, 4) uint8, S the next power of two of the longer side, at most 2048.

    The filter is Pillow's bilinear: linear interpolation when enlarging, which equals sampling the original, and a tent
    over the whole footprint when shrinking. Unlike Lanczos it does not overshoot at the edges of masks. Channels are
    filtered separately, because they are data and not premultiplied color.

    With `nearest`, texels keep their values and sharp borders: the image is enlarged to at least eight times its size,
    so that each border moves by at most a sixteenth of a texel.
    """
    height, width = image.shape[:2]
    size = min(1 << (max(height, width) - 1).bit_length(), MAX_TEXTURE_SIZE)
    if (height, width) == (size, size):
        return np.ascontiguousarray(image)
    if nearest and max(height, width) <= MAX_TEXTURE_SIZE:
        size = min(8 * size, MAX_TEXTURE_SIZE)
        rows, columns = ((np.arange(size) * 2 + 1) * side // (2 * size) for side in (height, width))
        return np.ascontiguousarray(image[rows][:, columns])
    channels = [
        np.asarray(Image.fromarray(np.ascontiguousarray(image[..., c])).resize((size, size), Image.Resampling.BILINEAR))
        for c in range(4)
    ]
    return np.stack(channels, axis=-1)


def _key(texture: Texture) -> tuple[int, bool]:
    return texture.image, texture.nearest


def _textures(material: Material) -> tuple[Texture | None, Texture | None]:
    return material.base_color_texture, material.metallic_roughness_texture

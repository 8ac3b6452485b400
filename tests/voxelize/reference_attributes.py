"""A plain sampler of voxel attributes with the official rules, in float32 as officially, or in float64.

It shares no code with `helix4d.voxelize`: crossings by rows and columns, barycentrics from dot products, levels and
texels by definition. Textures are square powers of two, filtered linearly, without a transform.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from helix4d.assets import AlphaMode, Clip, Material, Texture, Wrap

CHANNELS = ("base_color", "metallic", "roughness", "alpha")


def reference_attributes(clip: Clip, resolution: int, dtype: type = np.float32) -> tuple[np.ndarray, np.ndarray]:
    """Sample frame 0 of a clip in [-0.5, 0.5]^3.

    Returns:
        keys (N,) int64, ascending, x R^2 + y R + z; values (N, 6) uint8: base color 3, metallic, roughness, alpha.
    """
    frame = clip.frames[0]
    topology = frame.topology
    corners = (frame.vertices.astype(np.float32) + np.float32(0.5))[topology.faces]
    pyramids = [_pyramid(image) for image in clip.images]
    keys, sums = [], []
    for face, triangle in enumerate(corners):
        voxels = np.unique(np.concatenate([_crossed(triangle.astype(np.float64), a, resolution) for a in range(3)]))
        if not len(voxels):
            continue
        material = clip.materials[topology.material_ids[face]]
        places = np.stack([voxels // resolution**2, voxels // resolution % resolution, voxels % resolution], axis=1)
        centers = (places + 0.5).astype(dtype) * dtype(1 / resolution)
        first, second, third, distance = projected(centers, *triangle.astype(dtype))
        weight = (1 - distance)[:, None]
        values = np.ones((len(voxels), 6), dtype)
        for texture, into, channels in _textures(material):
            uvs = topology.uvs[texture.uv_set, face].astype(np.float32).astype(dtype)
            uvs[:, 1] = 1 - uvs[:, 1]
            at = first[:, None] * uvs[0] + second[:, None] * uvs[1] + third[:, None] * uvs[2]
            level = _level(triangle.astype(dtype), uvs, len(pyramids[texture.image][0]), resolution)
            wraps = texture.wrap_u, texture.wrap_v
            values[:, into] = _trilinear(pyramids[texture.image], at, level, wraps)[:, channels]
        values *= np.array([*material.base_color, material.metallic, material.roughness, material.alpha], dtype)
        if material.alpha_mode is AlphaMode.OPAQUE:
            values[:, 5] = 1
        elif material.alpha_mode is AlphaMode.MASK:
            values[:, 5] = values[:, 5] >= material.alpha_cutoff
        keys.append(voxels)
        sums.append(np.concatenate([values * weight, weight], axis=1))
    found, rows = np.unique(np.concatenate(keys), return_inverse=True)
    total = np.zeros((len(found), 7), dtype)
    np.add.at(total, rows, np.concatenate(sums))
    return found, np.clip(total[:, :6] / total[:, 6:] * dtype(255), 0, 255).astype(np.uint8)


def _textures(material: Material) -> Iterator[tuple[Texture, list[int], list[int]]]:
    """Each texture with the columns of the values that it fills, and its channels there."""
    if material.base_color_texture is not None:
        yield material.base_color_texture, [0, 1, 2, 5], [0, 1, 2, 3]
    if material.metallic_roughness_texture is not None:
        yield material.metallic_roughness_texture, [3, 4], [2, 1]


def _crossed(triangle: np.ndarray, a: int, resolution: int) -> np.ndarray:
    """Keys of the four voxels around each grid edge along axis a that a (3, 3) float64 triangle crosses."""
    b, c = (a + 1) % 3, (a + 2) % 3
    size = np.float64(np.float32(1) / np.float32(resolution))
    low, middle, high = triangle[np.argsort(triangle[:, c], kind="stable")]
    ends = [min(int(corner[c] / size), resolution - 1) for corner in (low, middle, high)]
    rows = np.arange(ends[0], ends[2])
    y = (rows + 1) * size
    tip = np.where((rows < ends[1])[:, None], low, high)  # the corner that both edges of this half share
    base = np.where((rows < ends[1])[:, None], high, low)
    with np.errstate(divide="ignore", invalid="ignore"):
        s = ((y - tip[:, c]) / (middle[c] - tip[:, c]))[:, None]
        t = ((y - tip[:, c]) / (base[:, c] - tip[:, c]))[:, None]
        p = np.where(middle[c] == tip[:, c : c + 1], tip, (1 - s) * tip + s * middle)
        q = (1 - t) * tip + t * base
    p, q = np.where((p[:, b] > q[:, b])[:, None], q, p), np.where((p[:, b] > q[:, b])[:, None], p, q)
    first, stop = ((np.clip((end[:, b] / size).astype(int), 0, resolution - 1)) for end in (p, q))
    counts = np.maximum(stop - first, 0)
    row = np.repeat(np.arange(len(rows)), counts)
    column = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts) + first[row]
    x = (column + 1) * size
    s = (x - p[row, b]) / (q[row, b] - p[row, b])
    k = (((1 - s) * p[row, a] + s * q[row, a]) / size).astype(np.int64)
    kept = (k >= 0) & (k < resolution)
    strides = np.array([resolution**2, resolution, 1])
    keys = (k * strides[a] + column * strides[b] + rows[row] * strides[c])[kept]
    return np.concatenate([keys, keys + strides[b], keys + strides[c], keys + strides[b] + strides[c]])


def projected(points: np.ndarray, a: np.ndarray, b: np.ndarray, c: np.ndarray) -> tuple[np.ndarray, ...]:
    """Barycentrics 0, 1, 2 of (N, 3) points projected to a triangle's plane, and signed distances, each (N,).

    All in the dtype of the arguments. The denominator is a difference of products: in float32 it loses as many digits
    as the square of the triangle's aspect ratio has.
    """
    ab, ac = b - a, c - a
    normal = np.cross(ab, ac)
    normal = normal / np.sqrt((normal * normal).sum())
    distance = (points - a) @ normal
    flat = points - distance[:, None] * normal - a
    d00, d01, d11, d20, d21 = ab @ ab, ab @ ac, ac @ ac, flat @ ab, flat @ ac
    denominator = d00 * d11 - d01 * d01
    second, third = (d11 * d20 - d01 * d21) / denominator, (d00 * d21 - d01 * d20) / denominator
    return 1 - second - third, second, third, distance


def _level(triangle: np.ndarray, uvs: np.ndarray, size: int, resolution: int) -> float:
    """The mip level at which a texel is as large as a voxel, by the geometric mean of both directions."""
    e1, e2 = triangle[1] - triangle[0], triangle[2] - triangle[0]
    (du1, dv1), (du2, dv2) = uvs[1] - uvs[0], uvs[2] - uvs[0]
    determinant = du1 * dv2 - dv1 * du2
    if abs(determinant) < 1e-6:
        return 0.0
    along_u, along_v = (dv2 * e1 - dv1 * e2) / determinant, (du1 * e2 - du2 * e1) / determinant
    area = np.linalg.norm(along_u) * np.linalg.norm(along_v)
    return float(np.log2(size / resolution / np.sqrt(area)))


def _pyramid(image: np.ndarray) -> list[np.ndarray]:
    """Levels of an (S, S, 4) uint8 image: means of 2x2 texels, rounded down."""
    size = len(image)
    if image.shape[:2] != (size, size) or size & (size - 1):
        raise ValueError(f"an image of {image.shape[1]}x{image.shape[0]}: only square powers of two are supported")
    levels = [image]
    while len(levels[-1]) > 1:
        half = levels[-1].astype(np.uint16)
        levels.append(((half[::2, ::2] + half[1::2, ::2] + half[::2, 1::2] + half[1::2, 1::2]) // 4).astype(np.uint8))
    return levels


def _trilinear(pyramid: list[np.ndarray], at: np.ndarray, level: float, wraps: tuple[Wrap, Wrap]) -> np.ndarray:
    level = min(max(level, 0.0), len(pyramid) - 1)
    lower = int(level)
    share = at.dtype.type(level - lower)
    values = _bilinear(pyramid[lower], at, wraps)
    return values if share == 0 else (1 - share) * values + share * _bilinear(pyramid[lower + 1], at, wraps)


def _bilinear(image: np.ndarray, at: np.ndarray, wraps: tuple[Wrap, Wrap]) -> np.ndarray:
    """(N, 4) in [0, 1] at (N, 2) UVs with v up; texel centers at +0.5."""
    size = len(image)
    x, y = at[:, 0] * size, (1 - at[:, 1]) * size
    left, top = np.floor(x - 0.5).astype(np.int64), np.floor(y - 0.5).astype(np.int64)
    right, lower = (x - left - 0.5).astype(at.dtype)[:, None], (y - top - 0.5).astype(at.dtype)[:, None]
    i0, i1 = (_wrapped(column, size, wraps[0]) for column in (left, left + 1))
    j0, j1 = (_wrapped(row, size, wraps[1]) for row in (top, top + 1))
    above = (1 - right) * image[j0, i0] + right * image[j0, i1]
    below = (1 - right) * image[j1, i0] + right * image[j1, i1]
    return ((1 - lower) * above + lower * below) / at.dtype.type(255)


def _wrapped(texels: np.ndarray, size: int, wrap: Wrap) -> np.ndarray:
    if wrap is Wrap.CLAMP:
        return np.clip(texels, 0, size - 1)
    if wrap is Wrap.REPEAT:
        return texels % size
    there_and_back = np.concatenate([np.arange(size), np.arange(size)[::-1]])
    return there_and_back[texels % (2 * size)]

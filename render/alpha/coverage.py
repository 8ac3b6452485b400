"""Alpha without noise: how much of every pixel a frame covers, from geometry and the materials' alpha.

Coverage needs no depth order, because the transmittance of a stack of layers is the product of theirs. So one
rasterization with fixed sample positions handles OPAQUE, MASK and BLEND, at a fraction of a path tracer's cost and
without its noise, which denoisers do not remove from alpha.
"""

from __future__ import annotations

import numpy as np

from helix4d.assets import AlphaMode, Clip, Frame, Material, Topology, Wrap
from helix4d.render.alpha.coverage_kernels import CLAMP, MIRROR, REPEAT, covered, transmit
from helix4d.render.scene.cameras import Camera, project

SAMPLES = 16
"""Samples per pixel: no two share a row or column of a 16×16 grid, so an axis-aligned edge crosses in 16 steps."""

_LEVELS = 7
"""Number of sizes of an alpha texture, each half the previous one."""

NEAREST_DEPTH = 0.01
"""Smallest depth of a vertex; Blender's camera clips there too."""

_PerFace = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
_PerMaterial = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]
_WRAPS = {Wrap.REPEAT: REPEAT, Wrap.CLAMP: CLAMP, Wrap.MIRROR: MIRROR}


class Coverage:
    """Computes the alpha of a clip's frames, with tables that its materials and topologies share.

    Args:
        clip: inside the unit cube.
        cull_back_faces: see `helix4d.render.cycles.materials.build_materials`.
    """

    def __init__(self, clip: Clip, cull_back_faces: bool = False) -> None:
        self._clip = clip
        self._cull_back_faces = cull_back_faces
        self._kinds = [_is_translucent(material, clip) for material in clip.materials]
        self._tables, self._texels = _tables(clip, self._kinds)
        self._topology: Topology | None = None
        self._faces: _PerFace

    def alpha(self, frame: int, camera: Camera) -> np.ndarray | None:
        """(H, W) float32 coverage in [0, 1], or None if the camera is inside the object or too close to it."""
        shown = self._clip.frames[frame]
        pixels, depths = project(camera, shown.vertices)
        used = depths[shown.faces]
        if used.size and used.min() < NEAREST_DEPTH:
            return None
        if shown.topology is not self._topology:
            self._faces = self._per_face(shown)
            self._topology = shown.topology
        size = camera.image_size
        left = np.ones((size, size, SAMPLES), np.float32)
        closed = np.zeros((size, size), bool)
        transmit(pixels, depths, shown.faces, *self._faces, *self._tables, self._texels, _OFFSETS, left, closed)
        return np.asarray(covered(left, closed))

    def _per_face(self, frame: Frame) -> _PerFace:
        topology, materials = frame.topology, self._clip.materials
        translucent = np.array(self._kinds, bool)[topology.material_ids]
        classes = np.where(translucent, topology.material_ids, -1).astype(np.int32)
        hidden = np.array([material.hides_back(self._cull_back_faces) for material in materials])[topology.material_ids]
        uvs = np.zeros((len(classes), 3, 2))
        for index, material in enumerate(materials):
            texture = material.base_color_texture
            if self._kinds[index] and texture is not None and texture.uv_set < len(topology.uvs):
                faces = topology.material_ids == index
                matrix = texture.matrix()
                uvs[faces] = topology.uvs[texture.uv_set, faces] @ matrix[:, :2].T + matrix[:, 2]
        shape = (len(classes), 3)
        alpha = np.ones(shape) if topology.colors is None else topology.colors[..., 3].astype(np.float64)
        return classes, hidden, uvs, alpha


def _is_translucent(material: Material, clip: Clip) -> bool:
    """Return whether some point of the material may be less than fully opaque."""
    if material.alpha_mode is AlphaMode.OPAQUE:
        return False
    colored = any(frame.topology.colors is not None for frame in clip.frames)
    whole = material.alpha_cutoff if material.alpha_mode is AlphaMode.MASK else 1.0
    return material.alpha < whole or material.base_color_texture is not None or colored


def _tables(clip: Clip, translucent: list[bool]) -> tuple[_PerMaterial, np.ndarray]:
    """Factor, cutoff, first texel, shape, wrap and filter per material, and the alpha texels of all images in use."""
    count = len(clip.materials)
    factors, cutoffs = np.ones(count), np.full(count, -1.0)
    first, shapes = np.full((count, _LEVELS), -1, np.int64), np.ones((count, 2), np.int64)
    wraps = np.zeros((count, 3), np.int64)
    starts: dict[int, list[int]] = {}
    texels: list[np.ndarray] = [np.zeros(1, np.uint8)]
    for index, material in enumerate(clip.materials):
        factors[index] = material.alpha
        if material.alpha_mode is AlphaMode.MASK:
            cutoffs[index] = max(material.alpha_cutoff, 0.0)
        texture = material.base_color_texture
        if texture is None or not translucent[index]:
            continue
        image = clip.images[texture.image]
        if texture.image not in starts:
            starts[texture.image] = []
            alpha = np.ascontiguousarray(image[..., 3])
            for _ in range(_LEVELS):
                starts[texture.image].append(sum(map(len, texels)))
                texels.append(alpha.ravel())
                alpha = _halved(alpha)
        first[index] = starts[texture.image]
        shapes[index] = image.shape[:2]
        wraps[index] = _WRAPS[texture.wrap_u], _WRAPS[texture.wrap_v], texture.nearest
    return (factors, cutoffs, first, shapes, wraps), np.concatenate(texels)


def _halved(alpha: np.ndarray) -> np.ndarray:
    """Means of 2 × 2 texels, uint8; an odd last row or column counts twice."""
    even = np.pad(alpha, ((0, alpha.shape[0] % 2), (0, alpha.shape[1] % 2)), mode="edge").astype(np.uint16)
    total = even[::2, ::2] + even[1::2, ::2] + even[::2, 1::2] + even[1::2, 1::2]
    return ((total + 2) // 4).astype(np.uint8)


def _sample_offsets() -> np.ndarray:
    """(SAMPLES, 2) positions in (0, 1)²: the Hammersley set, with one point in every row and column."""
    index = np.arange(SAMPLES)
    bits = SAMPLES.bit_length() - 1
    mirrored = sum(((index >> bit) & 1) << (bits - 1 - bit) for bit in range(bits))
    return np.asarray((np.stack([index, mirrored], axis=1) + 0.5) / SAMPLES)


_OFFSETS = _sample_offsets()

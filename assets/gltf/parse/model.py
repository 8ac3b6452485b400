"""Typed objects for the parts of a glTF file that determine its geometry; all their references are valid."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from helix4d.assets.gltf.parse.material_settings import MaterialSetting

COMPONENT_DTYPES: Mapping[int, np.dtype] = {
    5120: np.dtype("<i1"),
    5121: np.dtype("<u1"),
    5122: np.dtype("<i2"),
    5123: np.dtype("<u2"),
    5125: np.dtype("<u4"),
    5126: np.dtype("<f4"),
}
ELEMENT_SIZES: Mapping[str, int] = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4, "MAT2": 4, "MAT3": 9, "MAT4": 16}


@dataclass(frozen=True)
class Buffer:
    """A buffer; `uri` is None for the GLB's binary chunk and for the fallback buffers of compressed views."""

    uri: str | None
    byte_length: int
    fallback: bool


@dataclass(frozen=True)
class Meshopt:
    """EXT_meshopt_compression or KHR_meshopt_compression of a buffer view."""

    buffer: int
    offset: int
    length: int
    stride: int
    count: int
    mode: str
    filter: str


@dataclass(frozen=True)
class BufferView:
    """A buffer view; `stride` is None if elements are tightly packed."""

    buffer: int
    offset: int
    length: int
    stride: int | None
    meshopt: Meshopt | None


@dataclass(frozen=True)
class Sparse:
    """Sparse elements of an accessor, which replace those of its view."""

    count: int
    indices_view: int
    indices_offset: int
    indices_dtype: np.dtype
    values_view: int
    values_offset: int


@dataclass(frozen=True)
class Accessor:
    """An accessor; all its elements are zero if `view` is None."""

    view: int | None
    offset: int
    dtype: np.dtype
    normalized: bool
    count: int
    kind: str
    sparse: Sparse | None

    @property
    def components(self) -> int:
        """Number of components per element."""
        return ELEMENT_SIZES[self.kind]

    @property
    def element_bytes(self) -> int:
        """Bytes per element, tightly packed."""
        return self.components * self.dtype.itemsize


@dataclass(frozen=True)
class Draco:
    """KHR_draco_mesh_compression: the buffer view, and the unique id of each attribute in it."""

    view: int
    attributes: Mapping[str, int]


@dataclass(frozen=True)
class Primitive:
    """A mesh primitive: accessor indices by attribute name; `mode` is glTF's (4 triangles, 5 strip, 6 fan)."""

    attributes: Mapping[str, int]
    indices: int | None
    material: int | None
    mode: int
    targets: tuple[Mapping[str, int], ...]
    draco: Draco | None
    where: str


@dataclass(frozen=True)
class Mesh:
    """A mesh; each of its primitives has `targets` morph targets."""

    primitives: tuple[Primitive, ...]
    weights: tuple[float, ...]
    targets: int


@dataclass(frozen=True)
class Skin:
    """A skin; `inverse_bind` is an accessor of MAT4, or None for identity matrices."""

    joints: tuple[int, ...]
    inverse_bind: int | None


@dataclass(frozen=True)
class Node:
    """A node: either `matrix` (row-major here) or translation, rotation (x, y, z, w) and scale."""

    children: tuple[int, ...]
    mesh: int | None
    skin: int | None
    matrix: tuple[float, ...] | None
    translation: tuple[float, ...]
    rotation: tuple[float, ...]
    scale: tuple[float, ...]
    weights: tuple[float, ...] | None
    visible: bool
    instancing: Mapping[str, int]


class Interpolation(StrEnum):
    """Interpolation of an animation sampler (glTF 2.0 appendix C)."""

    STEP = "STEP"
    LINEAR = "LINEAR"
    CUBICSPLINE = "CUBICSPLINE"


class Property(StrEnum):
    """Property that a channel animates; IGNORED ones belong to cameras, lights, and unsupported material extensions."""

    TRANSLATION = "translation"
    ROTATION = "rotation"
    SCALE = "scale"
    WEIGHTS = "weights"
    MESH_WEIGHTS = "mesh weights"
    VISIBLE = "visible"
    MATERIAL = "a material"
    IGNORED = "ignored"


@dataclass(frozen=True)
class Channel:
    """An animation channel; `input` and `output` are accessors.

    `target` is a node (a mesh for MESH_WEIGHTS, a material for MATERIAL), `element` the only morph weight that is
    animated, or None for all, and `setting` what MATERIAL animates.
    """

    target: int
    property: Property
    element: int | None
    input: int
    output: int
    interpolation: Interpolation
    where: str
    setting: MaterialSetting | None = None


@dataclass(frozen=True)
class Animation:
    """An animation of the file."""

    name: str
    channels: tuple[Channel, ...]

"""The parts of a glTF file that decide where its triangles are, typed and with every reference checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

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
    """`uri` is None for the GLB's binary chunk and for the fallback buffers of compressed views."""

    uri: str | None
    byte_length: int
    fallback: bool


@dataclass(frozen=True)
class Meshopt:
    """EXT_meshopt_compression / KHR_meshopt_compression of a buffer view."""

    buffer: int
    offset: int
    length: int
    stride: int
    count: int
    mode: str
    filter: str


@dataclass(frozen=True)
class BufferView:
    """`stride` is None where elements are packed tightly."""

    buffer: int
    offset: int
    length: int
    stride: int | None
    meshopt: Meshopt | None


@dataclass(frozen=True)
class Sparse:
    """Elements of an accessor that replace those of its view."""

    count: int
    indices_view: int
    indices_offset: int
    indices_dtype: np.dtype
    values_view: int
    values_offset: int


@dataclass(frozen=True)
class Accessor:
    """`view` None means zeros."""

    view: int | None
    offset: int
    dtype: np.dtype
    normalized: bool
    count: int
    kind: str
    sparse: Sparse | None

    @property
    def components(self) -> int:
        """Numbers per element."""
        return ELEMENT_SIZES[self.kind]

    @property
    def element_bytes(self) -> int:
        """Bytes per element, packed tightly."""
        return self.components * self.dtype.itemsize


@dataclass(frozen=True)
class Draco:
    """KHR_draco_mesh_compression: the view, and each attribute's unique id in it."""

    view: int
    attributes: Mapping[str, int]


@dataclass(frozen=True)
class Primitive:
    """Accessor indices by attribute name; `mode` as in glTF (4 triangles, 5 strip, 6 fan)."""

    attributes: Mapping[str, int]
    indices: int | None
    material: int | None
    mode: int
    targets: tuple[Mapping[str, int], ...]
    draco: Draco | None
    where: str


@dataclass(frozen=True)
class Mesh:
    """A list of primitives with as many morph targets each."""

    primitives: tuple[Primitive, ...]
    weights: tuple[float, ...]
    targets: int


@dataclass(frozen=True)
class Skin:
    """`inverse_bind` is an accessor of MAT4, or None for identities."""

    joints: tuple[int, ...]
    inverse_bind: int | None


@dataclass(frozen=True)
class Node:
    """A place in the hierarchy: either `matrix` (row-major here) or translation, rotation (x, y, z, w) and scale."""

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
    """glTF 2.0 appendix C."""

    STEP = "STEP"
    LINEAR = "LINEAR"
    CUBICSPLINE = "CUBICSPLINE"


class Property(StrEnum):
    """What a channel drives. IGNORED ones (materials, cameras, lights) count for the clip's times only."""

    TRANSLATION = "translation"
    ROTATION = "rotation"
    SCALE = "scale"
    WEIGHTS = "weights"
    MESH_WEIGHTS = "mesh weights"
    VISIBLE = "visible"
    IGNORED = "ignored"


@dataclass(frozen=True)
class Channel:
    """`target` is a node (a mesh for MESH_WEIGHTS); `input` and `output` are accessors."""

    target: int
    property: Property
    input: int
    output: int
    interpolation: Interpolation
    where: str


@dataclass(frozen=True)
class Animation:
    """A clip of the file."""

    name: str
    channels: tuple[Channel, ...]

"""A small writer for binary glTF 2.0: meshes, skins, morph targets, materials and animations.

It supports what the samples and generated clips need, in strict conformance with the specification: aligned buffer
views with targets, exact minima and maxima, normalized weights. Numbers are rounded before they are converted to
float32, so that files do not depend on the last bit of a machine's sine.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from helix4d.assets.gltf.packing import pack_glb

Vector = Sequence[float] | np.ndarray
"""A point, a direction or a color."""

_DECIMALS = 6
_NORMAL_STEPS = 128
_ARRAY_BUFFER, _ELEMENT_ARRAY_BUFFER = 34962, 34963
_COMPONENT_TYPES = {
    np.dtype(np.int8): 5120,
    np.dtype(np.uint8): 5121,
    np.dtype(np.int16): 5122,
    np.dtype(np.uint16): 5123,
    np.dtype(np.uint32): 5125,
    np.dtype(np.float32): 5126,
}
_ELEMENT_TYPES = {(): "SCALAR", (2,): "VEC2", (3,): "VEC3", (4,): "VEC4", (4, 4): "MAT4"}


@dataclass(frozen=True, eq=False)
class Mesh:
    """A triangle mesh in glTF's axes: Y up, counter-clockwise seen from outside, v = 0 at the top of the image.

    Attributes:
        positions: (V, 3) float64 meters.
        normals: (V, 3) float64 unit.
        uvs: (V, 2) float64.
        faces: (F, 3) int64.
        colors: (V, 4) float64 linear RGBA in [0, 1], or None.
        joints: (V, 4) int64 joint numbers, or None.
        weights: (V, 4) float64 that sum to 1, or None.
    """

    positions: np.ndarray
    normals: np.ndarray
    uvs: np.ndarray
    faces: np.ndarray
    colors: np.ndarray | None = None
    joints: np.ndarray | None = None
    weights: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class Target:
    """A morph target of a mesh.

    Attributes:
        name: name in `targetNames`.
        positions: (V, 3) absolute positions in meters; the file stores differences.
        normals: (V, 3) unit normals at those positions.
        sparse: store only the vertices that move, as a sparse accessor.
    """

    name: str
    positions: np.ndarray
    normals: np.ndarray
    sparse: bool = False


@dataclass(frozen=True, eq=False)
class Part:
    """A primitive: one mesh with one material."""

    mesh: Mesh
    material: int
    targets: Sequence[Target] = ()


@dataclass(frozen=True, eq=False)
class Track:
    """An animation channel with its own sampler.

    Attributes:
        node: index of the animated node.
        path: translation, rotation (quaternions x, y, z, w), scale or weights.
        times: (K,) key times in seconds.
        values: (K, n) values.
        interpolation: LINEAR, STEP or CUBICSPLINE.
        tangents: (K, n) derivatives per second for CUBICSPLINE, else None.
    """

    node: int
    path: str
    times: np.ndarray
    values: np.ndarray
    interpolation: str = "LINEAR"
    tangents: np.ndarray | None = None


class GlbBuilder:
    """Builds one asset; every method that adds an object returns its index.

    Args:
        generator: `asset.generator`, the program that writes the file.
        extras: `asset.extras`.
    """

    def __init__(self, generator: str, extras: Mapping[str, Any]) -> None:
        self._generator = generator
        self._extras = dict(extras)
        self._lists: dict[str, list[dict[str, Any]]] = {}
        self._extensions: set[str] = set()
        self._required: set[str] = set()
        self._buffer = bytearray()
        self._views: dict[tuple[bytes, int | None, int | None], int] = {}
        self._accessors: dict[tuple[bytes, str, str, bool, int | None, bool], int] = {}

    def texture(self, pixels: np.ndarray, name: str = "", compress_level: int = 9) -> int:
        """Add a PNG of (H, W, 3) or (H, W, 4) uint8 pixels, first row on top, with a repeating linear sampler."""
        stream = io.BytesIO()
        Image.fromarray(pixels).save(stream, format="PNG", compress_level=compress_level)
        return self.image_file(stream.getvalue(), "image/png", name)

    def image_file(self, data: bytes, mime_type: str, name: str = "") -> int:
        """Add a texture from the bytes of a PNG, JPEG or WebP file, with a repeating linear sampler.

        WebP has no fallback: readers without EXT_texture_webp refuse the file.
        """
        image = self._add("images", {"name": name, "bufferView": self._view(data, None, None), "mimeType": mime_type})
        if "samplers" not in self._lists:
            self._add("samplers", {"magFilter": 9729, "minFilter": 9987, "wrapS": 10497, "wrapT": 10497})
        if mime_type != "image/webp":
            return self._add("textures", {"sampler": 0, "source": image})
        self._extensions.add("EXT_texture_webp")
        self._required.add("EXT_texture_webp")
        return self._add("textures", {"sampler": 0, "extensions": {"EXT_texture_webp": {"source": image}}})

    def material(
        self,
        name: str,
        color: Vector = (1.0, 1.0, 1.0),
        alpha: float = 1.0,
        metallic: float = 0.0,
        roughness: float = 0.6,
        color_texture: Mapping[str, Any] | int | None = None,
        metallic_roughness_texture: Mapping[str, Any] | int | None = None,
        normal_texture: Mapping[str, Any] | int | None = None,
        emissive: Vector | None = None,
        emissive_strength: float | None = None,
        emissive_texture: Mapping[str, Any] | int | None = None,
        alpha_mode: str = "OPAQUE",
        alpha_cutoff: float | None = None,
        double_sided: bool = False,
        extensions: Mapping[str, Any] | None = None,
    ) -> int:
        """Add a metallic-roughness material; colors are linear, and textures are indices or textureInfo objects."""
        pbr: dict[str, Any] = {
            "baseColorFactor": _floats([*color, alpha]),
            "metallicFactor": metallic,
            "roughnessFactor": roughness,
        }
        material: dict[str, Any] = {"name": name, "pbrMetallicRoughness": pbr}
        textures = (
            (pbr, "baseColorTexture", color_texture),
            (pbr, "metallicRoughnessTexture", metallic_roughness_texture),
            (material, "normalTexture", normal_texture),
            (material, "emissiveTexture", emissive_texture),
        )
        for owner, key, texture in textures:
            if texture is not None:
                owner[key] = {"index": texture} if isinstance(texture, int) else dict(texture)
                self._extensions.update(owner[key].get("extensions", {}))
        if emissive is not None:
            material["emissiveFactor"] = _floats(emissive)
        if alpha_mode != "OPAQUE":
            material["alphaMode"] = alpha_mode
        if alpha_cutoff is not None:
            material["alphaCutoff"] = alpha_cutoff
        if double_sided:
            material["doubleSided"] = True
        all_extensions = dict(extensions or {})
        if emissive_strength is not None:
            all_extensions["KHR_materials_emissive_strength"] = {"emissiveStrength": emissive_strength}
        if all_extensions:
            material["extensions"] = all_extensions
            self._extensions.update(all_extensions)
        return self._add("materials", material)

    def mesh(self, name: str, parts: Sequence[Part], quantized: bool = False) -> int:
        """Add a mesh with one primitive per part; all parts must have the same targets.

        Args:
            name: name of the mesh.
            parts: primitives.
            quantized: use KHR_mesh_quantization: 16-bit positions (in [−1, 1] m) and UVs (in [0, 1]), 8-bit normals.
                Sparse targets are stored in full.
        """
        mesh: dict[str, Any] = {"name": name, "primitives": [self._primitive(part, quantized) for part in parts]}
        if parts[0].targets:
            mesh["weights"] = [0.0] * len(parts[0].targets)
            mesh["extras"] = {"targetNames": [target.name for target in parts[0].targets]}
        if quantized:
            self._extensions.add("KHR_mesh_quantization")
            self._required.add("KHR_mesh_quantization")
        return self._add("meshes", mesh)

    def node(
        self,
        name: str,
        parent: int | None = None,
        mesh: int | None = None,
        translation: Vector | None = None,
        rotation: Vector | None = None,
        scale: Vector | None = None,
    ) -> int:
        """Add a node to `parent`, or to the scene if None."""
        node: dict[str, Any] = {"name": name}
        if mesh is not None:
            node["mesh"] = mesh
        for key, values in (("translation", translation), ("rotation", rotation), ("scale", scale)):
            if values is not None:
                node[key] = _floats(values)
        index = self._add("nodes", node)
        if parent is not None:
            self._lists["nodes"][parent].setdefault("children", []).append(index)
        return index

    def skin(self, node: int, joints: Sequence[int], rest_positions: np.ndarray) -> None:
        """Add a skin to the mesh of `node`, for joints that have only a translation in the rest pose.

        Args:
            node: index of a node with a mesh that has joints and weights.
            joints: indices of J nodes.
            rest_positions: (J, 3) rest positions of the joints in the space of the mesh.
        """
        matrices = np.tile(np.eye(4), (len(joints), 1, 1))
        matrices[:, 3, :3] = -np.asarray(rest_positions)  # row 3, as the file is column-major
        inverse = self._accessor(_single(matrices))
        self._lists["nodes"][node]["skin"] = self._add(
            "skins", {"joints": list(joints), "inverseBindMatrices": inverse}
        )

    def animation(self, name: str, tracks: Sequence[Track]) -> int:
        """Add an animation."""
        channels, samplers = [], []
        for track in tracks:
            values = np.asarray(track.values, np.float64)
            if track.interpolation == "CUBICSPLINE":
                tangents = np.zeros_like(values) if track.tangents is None else track.tangents
                values = np.stack([tangents, values, tangents], axis=1).reshape(-1, values.shape[-1])
            if track.path == "weights":
                values = values.reshape(-1)
            samplers.append(
                {
                    "input": self._accessor(_single(track.times), bounds=True),
                    "output": self._accessor(_single(values)),
                    "interpolation": track.interpolation,
                }
            )
            target = {"node": track.node, "path": track.path}
            channels.append({"sampler": len(samplers) - 1, "target": target})
        return self._add("animations", {"name": name, "channels": channels, "samplers": samplers})

    def build(self) -> bytes:
        """Return the bytes of the file."""
        children = {child for node in self._lists["nodes"] for child in node.get("children", ())}
        roots = [index for index in range(len(self._lists["nodes"])) if index not in children]
        document: dict[str, Any] = {
            "asset": {"version": "2.0", "generator": self._generator, "extras": self._extras},
            "scene": 0,
            "scenes": [{"nodes": roots}],
            "buffers": [{"byteLength": len(self._buffer)}],
            **self._lists,
        }
        if self._extensions:
            document["extensionsUsed"] = sorted(self._extensions)
        if self._required:
            document["extensionsRequired"] = sorted(self._required)
        return pack_glb(document, bytes(self._buffer))

    def _primitive(self, part: Part, quantized: bool) -> dict[str, Any]:
        mesh = part.mesh
        positions = _single(mesh.positions)
        normals = _single(mesh.normals)
        attributes: dict[str, int] = {}
        if quantized:
            attributes["POSITION"] = self._vertex_accessor(_integers(positions, np.int16), True, True)
            attributes["NORMAL"] = self._vertex_accessor(_integers(normals, np.int8), normalized=True)
        else:
            attributes["POSITION"] = self._vertex_accessor(positions, bounds=True)
            attributes["NORMAL"] = self._vertex_accessor(normals)
        if "Texture" in json.dumps(self._lists["materials"][part.material]):
            uvs = _integers(mesh.uvs, np.uint16) if quantized else _single(mesh.uvs)
            attributes["TEXCOORD_0"] = self._vertex_accessor(uvs, normalized=quantized)
        if mesh.colors is not None:
            attributes["COLOR_0"] = self._vertex_accessor(_integers(mesh.colors, np.uint8), normalized=True)
        if mesh.joints is not None and mesh.weights is not None:
            weights = _single(mesh.weights)
            used = np.where(weights > 0, mesh.joints, 0)  # the specification requires joint 0 where the weight is 0
            attributes["JOINTS_0"] = self._vertex_accessor(used.astype(np.uint8))
            attributes["WEIGHTS_0"] = self._vertex_accessor((weights / weights.sum(axis=1, keepdims=True)).astype("f4"))
        index_type = np.uint16 if len(positions) < 65535 else np.uint32
        indices = self._accessor(mesh.faces.reshape(-1).astype(index_type), target=_ELEMENT_ARRAY_BUFFER)
        primitive: dict[str, Any] = {"attributes": attributes, "indices": indices, "material": part.material}
        if part.targets:
            primitive["targets"] = [self._target(target, mesh, quantized) for target in part.targets]
        return primitive

    def _target(self, target: Target, mesh: Mesh, quantized: bool) -> dict[str, int]:
        deltas = {
            "POSITION": _single(target.positions - mesh.positions),
            "NORMAL": _single(target.normals - mesh.normals),
        }
        if quantized:
            # Differences of normals may exceed 1, so they stay floats, of few bits.
            coarse = (np.round(deltas["NORMAL"] * _NORMAL_STEPS) / _NORMAL_STEPS + 0.0).astype(np.float32)
            return {
                "POSITION": self._vertex_accessor(_integers(deltas["POSITION"], np.int16), True, True),
                "NORMAL": self._vertex_accessor(coarse),
            }
        if not target.sparse:
            return {key: self._vertex_accessor(delta, bounds=key == "POSITION") for key, delta in deltas.items()}
        return {key: self._sparse_accessor(delta, bounds=key == "POSITION") for key, delta in deltas.items()}

    def _vertex_accessor(self, array: np.ndarray, bounds: bool = False, normalized: bool = False) -> int:
        return self._accessor(array, bounds, _ARRAY_BUFFER, normalized)

    def _sparse_accessor(self, array: np.ndarray, bounds: bool) -> int:
        moved = np.flatnonzero(np.any(array != 0, axis=1))
        if not len(moved):
            moved = np.zeros(1, int)  # the specification requires at least one element
        accessor: dict[str, Any] = {
            "componentType": _COMPONENT_TYPES[array.dtype],
            "count": len(array),
            "type": _ELEMENT_TYPES[array.shape[1:]],
            "sparse": {
                "count": len(moved),
                "indices": {"bufferView": self._view(moved.astype("<u2").tobytes(), None, None), "componentType": 5123},
                "values": {"bufferView": self._view(array[moved].tobytes(), None, None)},
            },
        }
        if bounds:
            accessor["min"], accessor["max"] = _bounds(array)
        return self._add("accessors", accessor)

    def _accessor(
        self, array: np.ndarray, bounds: bool = False, target: int | None = None, normalized: bool = False
    ) -> int:
        element = _ELEMENT_TYPES[array.shape[1:]]
        item_bytes = array.dtype.itemsize * int(np.prod(array.shape[1:], dtype=int))
        rows = np.ascontiguousarray(array).reshape(len(array), -1)
        stride = None
        if target == _ARRAY_BUFFER:
            stride = -(-item_bytes // 4) * 4  # vertex attributes must be aligned to four bytes
            packed = np.zeros((len(rows), stride), np.uint8)
            packed[:, :item_bytes] = rows.view(np.uint8).reshape(len(rows), -1)
            data = packed.tobytes()
        else:
            data = rows.tobytes()
        key = (data, str(array.dtype), element, bounds, target, normalized)
        if key not in self._accessors:
            accessor: dict[str, Any] = {
                "bufferView": self._view(data, target, stride),
                "componentType": _COMPONENT_TYPES[array.dtype],
                "count": len(array),
                "type": element,
            }
            if normalized:
                accessor["normalized"] = True
            if bounds:
                accessor["min"], accessor["max"] = _bounds(array)
            self._accessors[key] = self._add("accessors", accessor)
        return self._accessors[key]

    def _view(self, data: bytes, target: int | None, stride: int | None) -> int:
        key = (data, target, stride)
        if key not in self._views:
            self._buffer.extend(b"\0" * (-len(self._buffer) % 4))
            view: dict[str, Any] = {"buffer": 0, "byteOffset": len(self._buffer), "byteLength": len(data)}
            if target is not None:
                view["target"] = target
            if stride is not None:
                view["byteStride"] = stride
            self._buffer.extend(data)
            self._views[key] = self._add("bufferViews", view)
        return self._views[key]

    def _add(self, kind: str, value: dict[str, Any]) -> int:
        values = self._lists.setdefault(kind, [])
        values.append(value)
        return len(values) - 1


def _floats(values: Vector) -> list[float]:
    return [round(float(value), _DECIMALS) for value in values]


def _single(values: np.ndarray) -> np.ndarray:
    """Round values and convert them to float32; adding 0 turns −0 into 0."""
    return (np.round(np.asarray(values, np.float64), _DECIMALS) + 0.0).astype(np.float32)


def _integers(values: np.ndarray, dtype: type) -> np.ndarray:
    """Convert values to glTF's normalized integers, which map the maximum of the type to 1."""
    largest = np.iinfo(dtype).max
    least = -1.0 if np.iinfo(dtype).min < 0 else 0.0
    integers: np.ndarray = np.round(np.clip(values, least, 1.0) * largest).astype(dtype)
    return integers


def _bounds(array: np.ndarray) -> tuple[list[Any], list[Any]]:
    rows = array.reshape(len(array), -1)
    return rows.min(axis=0).tolist(), rows.max(axis=0).tolist()

"""Random animated GLBs with many features of glTF at once, the same file for the same seed.

Features: hierarchies with matrices and mirroring scales; indexed and plain triangles, strips and fans; sparse, strided
and quantized accessors; morph targets; skins with four or eight weights per vertex; instancing; STEP, LINEAR and
CUBICSPLINE with float and normalized outputs; meshopt compression. Nothing in a file depends on textures or materials.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import meshoptimizer
import numpy as np

from tests.assets.glb import COMPONENTS, Builder

_LIMITS = {"i1": 127, "u1": 255, "i2": 32767, "u2": 65535}
_QUANTIZED = "KHR_mesh_quantization"
_INSTANCING = "EXT_mesh_gpu_instancing"
_MESHOPT = "EXT_meshopt_compression"


@dataclass(frozen=True)
class RandomGlb:
    """A file with one or two animations, each of which moves the root from its first to its last key.

    Attributes:
        data: the bytes of the GLB.
        spans: first and last key of each animation, in seconds.
        order: nodes from the root, level by level.
    """

    data: bytes
    spans: tuple[tuple[float, float], ...]
    order: tuple[int, ...]


def random_glb(seed: int) -> RandomGlb:
    """The file of a seed."""
    return _Maker(np.random.default_rng(seed)).build()


class _Maker:
    """Draws one file; later parts depend on earlier ones through `self`."""

    def __init__(self, random: np.random.Generator) -> None:
        self.random = random
        self.builder = _PackedBuilder() if self.chance(0.2) else Builder()
        self.gltf = self.builder.gltf
        self.gltf["meshes"] = []
        self.joints: set[int] = set()
        self.morphing: set[int] = set()

    def build(self) -> RandomGlb:
        self.add_nodes(self.count(4, 9))
        for _ in range(self.count(1, 3)):
            self.add_mesh()
        spans = tuple(self.animate(number) for number in range(self.count(1, 2)))
        used = sorted({_QUANTIZED, *self.gltf.get("extensionsUsed", ())})
        self.gltf["extensionsUsed"] = self.gltf["extensionsRequired"] = used
        order = [0]
        for node in order:  # grows during iteration
            order.extend(self.nodes[node].get("children", ()))
        return RandomGlb(self.builder.bytes(), spans, tuple(order))

    def chance(self, share: float) -> bool:
        return bool(self.random.random() < share)

    def count(self, least: int, most: int) -> int:
        return int(self.random.integers(least, most + 1))

    def choice(self, *options: Any) -> Any:
        return options[int(self.random.integers(len(options)))]

    def extension(self, name: str) -> None:
        self.gltf.setdefault("extensionsUsed", []).append(name)

    # Nodes

    def add_nodes(self, count: int) -> None:
        self.parents = [-1] + [int(self.random.integers(number)) for number in range(1, count)]
        self.nodes: list[dict[str, Any]] = []
        for number in range(count):
            placed = {
                "translation": self.random.uniform(-1, 1, 3),
                "rotation": self.rotations(1)[0],
                "scale": self.scales(1)[0],
            }
            if number and self.chance(0.2):
                node: dict[str, Any] = {"matrix": _matrix(**placed).T.reshape(-1).tolist()}
            else:
                node = {name: value.tolist() for name, value in placed.items() if self.chance(0.8)}
            children = [child for child, parent in enumerate(self.parents) if parent == number]
            self.nodes.append({"name": f"node{number}", **node, **({"children": children} if children else {})})
        self.gltf["nodes"] = self.nodes

    def rotations(self, count: int) -> np.ndarray:
        """(count, 4) unit quaternions."""
        quaternions = self.random.normal(size=(count, 4))
        return quaternions / np.linalg.norm(quaternions, axis=1, keepdims=True)

    def scales(self, count: int) -> np.ndarray:
        """(count, 3), of which one in five mirrors, and half are uniform."""
        scales = self.random.uniform(0.5, 1.5, (count, 3))
        if self.chance(0.5):
            scales[:] = scales[:, :1]
        if self.chance(0.2):
            scales *= self.random.choice([-1.0, 1.0], 3)
        return scales

    # Meshes

    def add_mesh(self) -> None:
        """A mesh of one or two primitives, at one or two free nodes, with their skins, instances and weights."""
        targets = self.count(1, 3) if self.chance(0.4) else 0
        count = self.count(1, 2)
        places = self.count(1, 2)
        free = [number for number, node in enumerate(self.nodes) if "mesh" not in node]
        # three.js does not animate the morph weights of joints. Those of two primitives it also gives to meshes below
        # their node, and it confuses them with those of another node that has the same mesh.
        if targets:
            free = [number for number in free if number not in self.joints]
        if targets and count == 2:
            free = [number for number in free if "children" not in self.nodes[number]]
            places = 1
        chosen = self.random.permutation(free)[:places].tolist()
        if not chosen:
            return
        if targets:
            self.morphing.update(chosen)
        still = [number for number in range(len(self.nodes)) if number not in self.morphing]
        joints = min(self.count(2, 6), len(still)) if self.chance(0.4) else 0
        eight = self.chance(0.5)
        primitives = [self.primitive(targets, joints, eight) for _ in range(count)]
        mesh: dict[str, Any] = {"primitives": primitives}
        if targets and self.chance(0.6):
            mesh["weights"] = self.random.uniform(-0.5, 1, targets).tolist()
        self.gltf["meshes"].append(mesh)
        for number in chosen:
            node = self.nodes[number]
            node["mesh"] = len(self.gltf["meshes"]) - 1
            if targets and self.chance(0.4):
                node["weights"] = self.random.uniform(-0.5, 1, targets).tolist()
            if joints:
                node["skin"] = self.skin(self.random.permutation(still)[:joints].tolist())
            elif not targets and self.chance(0.3):
                node["extensions"] = {_INSTANCING: {"attributes": self.instances(self.count(1, 4))}}
                self.extension(_INSTANCING)

    def primitive(self, targets: int, joints: int, eight: bool) -> dict[str, Any]:
        count = self.count(8, 30)
        kind = self.choice("f4", "f4", "f4", "i1", "u1", "i2", "u2")
        positions, mode, indices = self.triangles(count, kind)
        attributes = {"POSITION": self.vectors(positions, kind)}
        if self.chance(0.5):
            normals = self.random.normal(size=(count, 3))
            attributes["NORMAL"] = self.builder.accessor(normals / np.linalg.norm(normals, axis=1, keepdims=True))
        primitive: dict[str, Any] = {"attributes": attributes, "mode": mode}
        if indices is not None:
            primitive["indices"] = self.builder.accessor(indices, self.choice("u1", "u2", "u4"))
        if targets:
            primitive["targets"] = [{"POSITION": self.deltas(count, kind)} for _ in range(targets)]
        for number in range((2 if eight else 1) if joints else 0):
            attributes[f"JOINTS_{number}"] = self.builder.accessor(
                self.random.integers(0, joints, (count, 4)), self.choice("u1", "u2")
            )
        if joints:
            self.add_weights(attributes, count, 8 if eight else 4)
        return primitive

    def triangles(self, count: int, kind: str) -> tuple[np.ndarray, int, np.ndarray | None]:
        """Points in [-1, 1] times the limits of their type, and the mode and indices of triangles with an area."""
        while True:
            low = 0.0 if kind.startswith("u") else -1.0
            points = self.random.uniform(low, 1, (count, 3))
            positions = points.astype(np.float32) if kind == "f4" else np.rint(points * _LIMITS[kind])
            mode = self.choice(4, 4, 4, 5, 6)
            indices = None
            if mode == 4 and self.chance(0.8):
                rows = [self.random.permutation(count)[:3] for _ in range(self.count(5, 40))]
                indices = np.concatenate(rows)
            elif mode == 4:
                if count % 3:
                    continue
            elif self.chance(0.5):
                indices = self.random.permutation(count)
            corners = positions[_corners(mode, np.arange(count) if indices is None else indices)]
            normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
            if np.linalg.norm(normals, axis=1).min() > 1e-3:
                return positions, mode, indices

    def vectors(self, values: np.ndarray, kind: str) -> int:
        """An accessor of (N, 3) positions: packed, strided or sparse; of integers normalized ones."""
        extra = {"min": values.min(axis=0).tolist(), "max": values.max(axis=0).tolist()}
        if kind != "f4":
            extra["normalized"] = True
        if self.chance(0.25):
            return self.sparse(values, kind, extra)
        array = values.astype(f"<{kind}")
        if kind != "f4" or self.chance(0.3):  # vertex attributes begin at multiples of four bytes
            return self.strided(array, kind, extra)
        return self.builder.accessor(array, kind, **extra)

    def strided(self, array: np.ndarray, kind: str, extra: dict[str, Any]) -> int:
        """An accessor whose rows have bytes of others between them."""
        data = array.tobytes()
        row = len(data) // len(array)
        stride = -(-row // 4) * 4 + 4 * self.count(0, 2)
        rows = [data[start : start + row] + b"\x7f" * (stride - row) for start in range(0, len(data), row)]
        view = self.builder.view(b"".join(rows), byteStride=stride)
        entry = {"bufferView": view, "componentType": COMPONENTS[kind], "count": len(array), "type": "VEC3", **extra}
        self.gltf["accessors"].append(entry)
        return len(self.gltf["accessors"]) - 1

    def sparse(self, values: np.ndarray, kind: str, extra: dict[str, Any]) -> int:
        """An accessor without a buffer view, or with wrong values, which a sparse part puts right."""
        array = values.astype(f"<{kind}")
        whole = kind != "f4" or self.chance(0.5)  # three.js has no sparse accessors of strided views
        changed = np.arange(len(array)) if whole else np.sort(self.random.permutation(len(array))[:5])
        base = array.copy()
        base[changed] = 0
        number = self.builder.accessor(base, kind, **extra)
        accessor = self.gltf["accessors"][number]
        if whole:
            del accessor["bufferView"]
        accessor["sparse"] = {
            "count": len(changed),
            "indices": {"bufferView": self.builder.view(changed.astype("<u2").tobytes()), "componentType": 5123},
            "values": {"bufferView": self.builder.view(array[changed].tobytes())},
        }
        return number

    def deltas(self, count: int, kind: str) -> int:
        """An accessor of morph deltas; those of quantized meshes are quantized, too."""
        values = self.random.uniform(-0.5, 0.5, (count, 3))
        kind = "f4" if kind == "f4" else self.choice("f4", "i1", "i2")
        return self.vectors(values if kind == "f4" else np.rint(values * _LIMITS[kind]), kind)

    # Skins and instances

    def add_weights(self, attributes: dict[str, int], count: int, slots: int) -> None:
        """WEIGHTS_0 and, with eight slots, WEIGHTS_1, which together sum to one; a third of them are zero."""
        shares = self.random.random((count, slots)) * (self.random.random((count, slots)) < 0.67)
        shares[:, 0] += 0.05
        shares /= shares.sum(axis=1, keepdims=True)
        kind = self.choice("f4", "u1", "u2")
        if kind != "f4":
            shares = np.floor(shares * _LIMITS[kind])
            shares[:, 0] += _LIMITS[kind] - shares.sum(axis=1)
        extra = {} if kind == "f4" else {"normalized": True}
        for number in range(slots // 4):
            attributes[f"WEIGHTS_{number}"] = self.builder.accessor(
                shares[:, 4 * number : 4 * number + 4], kind, **extra
            )

    def skin(self, joints: list[int]) -> int:
        self.joints.update(joints)
        skin: dict[str, Any] = {"joints": joints}
        if self.chance(0.8):
            matrices = [
                _matrix(self.random.uniform(-1, 1, 3), rotation, scale).T.reshape(-1)
                for rotation, scale in zip(self.rotations(len(joints)), self.scales(len(joints)), strict=True)
            ]
            skin["inverseBindMatrices"] = self.builder.accessor(np.stack(matrices))
        self.gltf.setdefault("skins", []).append(skin)
        return len(self.gltf["skins"]) - 1

    def instances(self, count: int) -> dict[str, int]:
        return {
            "TRANSLATION": self.builder.accessor(self.random.uniform(-2, 2, (count, 3))),
            "ROTATION": self.quaternions(self.rotations(count)),
            "SCALE": self.builder.accessor(self.scales(count)),
        }

    # Animations

    def animate(self, number: int) -> tuple[float, float]:
        """Add an animation, and return its first and last key."""
        start, length = (0.0, 1.0) if self.chance(0.5) else self.random.uniform([0, 0.5], [1, 3])
        self.span = np.float32(start), np.float32(start + length)
        self.channel(number, 0, "translation", whole=True)
        for node, values in enumerate(self.nodes):
            paths = [] if "matrix" in values else ["translation", "rotation", "scale"]
            if node == 0:
                paths.remove("translation")
            if self.targets(node):
                paths.append("weights")
            for path in paths:
                if self.chance(0.35):
                    self.channel(number, node, path)
        return float(self.span[0]), float(self.span[1])

    def targets(self, node: int) -> int:
        if "mesh" not in self.nodes[node]:
            return 0
        return len(self.gltf["meshes"][self.nodes[node]["mesh"]]["primitives"][0].get("targets", ()))

    def channel(self, animation: int, node: int, path: str, whole: bool = False) -> None:
        interpolation = self.choice("LINEAR", "LINEAR", "STEP", "CUBICSPLINE")
        times = np.unique(self.random.uniform(*self.span, self.count(2, 6)).astype(np.float32))
        if whole or self.chance(0.3):
            times = np.unique(np.concatenate([times, self.span]))
        values = self.values(node, path, len(times))
        if interpolation == "CUBICSPLINE":
            tangents = self.random.uniform(-0.5, 0.5, (2, *values.shape))
            values = np.stack([tangents[0], values, tangents[1]], axis=1).reshape(-1, values.shape[-1])
        if path == "weights":
            values = values.reshape(-1, 1)
        output = self.builder.accessor(values) if interpolation == "CUBICSPLINE" else self.output(path, values)
        self.builder.channel(node, path, times, output, interpolation, animation)

    def values(self, node: int, path: str, keys: int) -> np.ndarray:
        """(keys, W); of weights one number per target in a row."""
        if path == "rotation":
            return self.rotations(keys)
        if path == "scale":
            return self.scales(keys)
        return self.random.uniform(-1, 1, (keys, 3 if path == "translation" else self.targets(node)))

    def output(self, path: str, values: np.ndarray) -> int:
        """An accessor of the values of keys; rotations and weights may be normalized integers."""
        if path == "rotation":
            return self.quaternions(values)
        if path == "weights" and self.chance(0.5):
            kind = self.choice("i1", "i2")
            return self.builder.accessor(np.rint(values * _LIMITS[kind]), kind, normalized=True)
        return self.builder.accessor(values)

    def quaternions(self, values: np.ndarray) -> int:
        if self.chance(0.7):
            return self.builder.accessor(values)
        return self.builder.accessor(np.rint(values * _LIMITS["i2"]), "i2", normalized=True)


class _PackedBuilder(Builder):
    """Compresses the rows of accessors with meshopt wherever they are multiples of four bytes."""

    def __init__(self) -> None:
        super().__init__()
        self.unpacked = 0
        self.gltf["buffers"] = [{}, {"extensions": {_MESHOPT: {"fallback": True}}}]
        self.gltf["extensionsUsed"] = [_MESHOPT]

    def accessor(self, array: Any, dtype: str = "f4", **extra: Any) -> int:
        number = super().accessor(array, dtype, **extra)
        accessor = self.gltf["accessors"][number]
        view = self.gltf["bufferViews"][accessor["bufferView"]]
        stride = view["byteLength"] // accessor["count"]
        if stride % 4 == 0:
            start = view["byteOffset"]
            rows = np.frombuffer(bytes(self.binary[start:]), np.uint8).reshape(accessor["count"], stride)
            del self.binary[start:]
            data = meshoptimizer.encode_vertex_buffer(rows, accessor["count"], stride)
            self.binary.extend(data)
            size = view["byteLength"]
            packed = {"byteLength": len(data), "byteStride": stride, "count": accessor["count"], "mode": "ATTRIBUTES"}
            self.gltf["bufferViews"][accessor["bufferView"]] = {
                "buffer": 1,
                "byteOffset": self.unpacked,
                "byteLength": size,
                "extensions": {_MESHOPT: {"buffer": 0, "byteOffset": start, **packed}},
            }
            self.unpacked += size
        return number

    def bytes(self) -> bytes:
        self.gltf["buffers"][1]["byteLength"] = max(self.unpacked, 1)
        return super().bytes()


def _corners(mode: int, indices: np.ndarray) -> np.ndarray:
    """(F, 3) vertices of the triangles of a list, strip or fan."""
    if mode == 4:
        return indices.reshape(-1, 3)
    numbers = np.arange(len(indices) - 2)
    first = indices[numbers] if mode == 5 else np.full(len(numbers), indices[0])
    return np.stack([first, indices[numbers + 1], indices[numbers + 2]], axis=1)


def _matrix(translation: Sequence[float], rotation: Sequence[float], scale: Sequence[float]) -> np.ndarray:
    """(4, 4) translation · rotation · scale; the rotation is a unit quaternion (x, y, z, w)."""
    *axis, w = rotation
    x, y, z = axis
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    matrix = np.eye(4)
    matrix[:3, :3] = (np.eye(3) + 2 * w * cross + 2 * cross @ cross) * np.asarray(scale)
    matrix[:3, 3] = translation
    return matrix

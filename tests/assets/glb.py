"""Small glTF files for tests, built in memory."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np

COMPONENTS = {"i1": 5120, "u1": 5121, "i2": 5122, "u2": 5123, "u4": 5125, "f4": 5126}
_KINDS = {1: "SCALAR", 2: "VEC2", 3: "VEC3", 4: "VEC4", 16: "MAT4"}


class Builder:
    """Collects arrays into one binary chunk; `gltf` is the JSON, which tests may modify."""

    def __init__(self) -> None:
        self.binary = bytearray()
        self.gltf: dict[str, Any] = {
            "asset": {"version": "2.0"},
            "scene": 0,
            "scenes": [{"nodes": [0]}],
            "nodes": [{"mesh": 0}],
            "meshes": [{"primitives": [{"attributes": {}}]}],
            "accessors": [],
            "bufferViews": [],
            "animations": [],
        }

    def view(self, data: bytes, **extra: Any) -> int:
        self.binary.extend(b"\0" * (-len(self.binary) % 4))
        self.gltf["bufferViews"].append({"buffer": 0, "byteOffset": len(self.binary), "byteLength": len(data), **extra})
        self.binary.extend(data)
        return len(self.gltf["bufferViews"]) - 1

    def accessor(self, array: Any, dtype: str = "f4", **extra: Any) -> int:
        array = np.asarray(array, f"<{dtype}")
        array = array.reshape(len(array), -1)
        self.gltf["accessors"].append(
            {
                "bufferView": self.view(array.tobytes()),
                "componentType": COMPONENTS[dtype],
                "count": len(array),
                "type": _KINDS[array.shape[1]],
                **extra,
            }
        )
        return len(self.gltf["accessors"]) - 1

    @property
    def primitive(self) -> dict[str, Any]:
        return self.gltf["meshes"][0]["primitives"][0]

    def channel(
        self, node: int, path: str, times: Any, values: Any, interpolation: str = "LINEAR", animation: int = 0
    ) -> None:
        animations = self.gltf["animations"]
        while len(animations) <= animation:
            animations.append({"name": f"clip {len(animations)}", "samplers": [], "channels": []})
        entry = animations[animation]
        entry["samplers"].append(
            {
                "input": times if isinstance(times, int) else self.accessor(times),
                "output": values if isinstance(values, int) else self.accessor(values),
                "interpolation": interpolation,
            }
        )
        entry["channels"].append({"sampler": len(entry["samplers"]) - 1, "target": {"node": node, "path": path}})

    def bytes(self) -> bytes:
        if self.binary:
            self.gltf.setdefault("buffers", [{}])[0].setdefault("byteLength", len(self.binary))
        text = json.dumps(self.gltf).encode()
        text += b" " * (-len(text) % 4)
        body = struct.pack("<II", len(text), 0x4E4F534A) + text
        if self.binary:
            data = bytes(self.binary) + b"\0" * (-len(self.binary) % 4)
            body += struct.pack("<II", len(data), 0x004E4942) + data
        return b"glTF" + struct.pack("<II", 2, 12 + len(body)) + body

    def write(self, folder: Path, name: str = "test.glb") -> Path:
        path = folder / name
        path.write_bytes(self.bytes())
        return path


TETRAHEDRON = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]], np.float32)
TETRAHEDRON_FACES = np.array([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]], np.uint16)


def tetrahedron(normals: bool = True) -> Builder:
    """An indexed tetrahedron without animation."""
    builder = Builder()
    builder.primitive["attributes"]["POSITION"] = builder.accessor(TETRAHEDRON)
    if normals:
        directions = TETRAHEDRON - TETRAHEDRON.mean(axis=0)
        directions /= np.linalg.norm(directions, axis=1, keepdims=True)
        builder.primitive["attributes"]["NORMAL"] = builder.accessor(directions)
    builder.primitive["indices"] = builder.accessor(TETRAHEDRON_FACES.reshape(-1), "u2")
    return builder


def moving_tetrahedron() -> Builder:
    """A tetrahedron that moves by 2 along x in one second."""
    builder = tetrahedron()
    builder.channel(0, "translation", [0, 1], [[0, 0, 0], [2, 0, 0]])
    return builder

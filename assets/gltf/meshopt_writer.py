"""Compresses the geometry of a binary glTF file with EXT_meshopt_compression, which all major engines read.

Compressed views keep their uncompressed place in a fallback buffer that the file does not contain, so readers need the
extension.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from helix4d.assets.gltf.packing import pack_glb, unpack_glb
from helix4d.core.arrays import Int64Array
from helix4d.core.extras import missing_package

_ARRAY_BUFFER, _ELEMENT_ARRAY_BUFFER = 34962, 34963
_EXTENSION = "EXT_meshopt_compression"


def vertex_order(faces: Int64Array) -> tuple[Int64Array, Int64Array]:
    """Reorder triangles and vertices for the vertex cache, which also makes them compress well.

    Args:
        faces: (F, 3) that use every vertex.

    Returns:
        order (V,), the vertices in their new order, and faces (F, 3) of the reordered vertices.

    Raises:
        SetupError: if meshoptimizer is not installed.
    """
    meshoptimizer = _library()
    indices = np.ascontiguousarray(faces, np.uint32).ravel()
    count = int(indices.max()) + 1
    cached = np.zeros_like(indices)
    meshoptimizer.optimize_vertex_cache(cached, indices, len(indices), count)
    used, first = np.unique(cached, return_index=True)
    order = used[np.argsort(first)].astype(np.int64)
    place = np.zeros(count, np.int64)
    place[order] = np.arange(len(order))
    return order, place[cached].reshape(-1, 3)


def compress_glb(data: bytes) -> bytes:
    """Compress the vertex and index views of a file written by `GlbBuilder`; images and animations stay as they are.

    Raises:
        SetupError: if meshoptimizer is not installed.
    """
    meshoptimizer = _library()
    document, binary = unpack_glb(data)
    packed, fallback = bytearray(), 0
    index_types = {
        document["accessors"][part["indices"]]["bufferView"]: document["accessors"][part["indices"]]
        for mesh in document.get("meshes", ())
        for part in mesh["primitives"]
    }
    for number, view in enumerate(document["bufferViews"]):
        raw = bytes(binary[view["byteOffset"] : view["byteOffset"] + view["byteLength"]])
        packed.extend(b"\0" * (-len(packed) % 4))
        if view.get("target") == _ARRAY_BUFFER:
            mode, stride = "ATTRIBUTES", int(view["byteStride"])
            count = len(raw) // stride
            encoded = meshoptimizer.encode_vertex_buffer(np.frombuffer(raw, np.uint8), count, stride)
        elif view.get("target") == _ELEMENT_ARRAY_BUFFER:
            mode, count = "TRIANGLES", int(index_types[number]["count"])
            stride = len(raw) // count
            encoded = meshoptimizer.encode_index_buffer(np.frombuffer(raw, f"<u{stride}").astype(np.uint32), count)
        else:
            view["byteOffset"] = len(packed)
            packed.extend(raw)
            continue
        fallback += -fallback % 4
        view["extensions"] = {
            _EXTENSION: {
                "buffer": 0,
                "byteOffset": len(packed),
                "byteLength": len(encoded),
                "byteStride": stride,
                "mode": mode,
                "count": count,
            }
        }
        packed.extend(encoded)
        view["buffer"], view["byteOffset"] = 1, fallback
        fallback += len(raw)
    document["buffers"] = [
        {"byteLength": len(packed)},
        {"byteLength": fallback, "extensions": {_EXTENSION: {"fallback": True}}},
    ]
    for name in ("extensionsUsed", "extensionsRequired"):
        document[name] = sorted({*document.get(name, ()), _EXTENSION})
    return pack_glb(document, bytes(packed))


def _library() -> Any:
    try:
        import meshoptimizer
    except ImportError as error:
        raise missing_package("compressing meshes", "meshoptimizer", extras="model") from error
    return meshoptimizer

"""Decodes compressed geometry with maintained libraries: meshopt buffer views and Draco primitives.

The libraries are imported on first use: machines that only train have neither.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from helix4d.assets.gltf.parse.model import Meshopt
from helix4d.core.arrays import Int64Array, NumberArray, UInt8Array


@dataclass(frozen=True)
class DracoMesh:
    """A decoded mesh: `faces` (F, 3) int64, and `attributes` (V, components) in their stored type by unique id."""

    faces: Int64Array
    attributes: dict[int, NumberArray]


def decode_meshopt(data: bytes, meshopt: Meshopt) -> UInt8Array:
    """Decompress a buffer view to (count · stride,) uint8 (EXT_meshopt_compression, KHR_meshopt_compression).

    Raises:
        ValueError, RuntimeError: if the data is corrupt.
    """
    import meshoptimizer

    count, stride = meshopt.count, meshopt.stride
    if not data:
        raise ValueError("the view is empty")
    if meshopt.mode != "ATTRIBUTES":
        decode = (
            meshoptimizer.decode_index_buffer if meshopt.mode == "TRIANGLES" else meshoptimizer.decode_index_sequence
        )
        # The wrapper always passes 32-bit storage to the decoder, so decode to 32 bits and narrow afterwards.
        return np.asarray(decode(count, 4, data), np.uint32).astype(f"<u{stride}").view(np.uint8)
    raw = meshoptimizer.decode_vertex_buffer(count, stride, data, np.dtype((np.void, stride)))
    array = np.frombuffer(raw.tobytes(), np.uint8).copy()
    if meshopt.filter == "COLOR":
        return decode_color_filter(array, stride)
    filters = {
        "OCTAHEDRAL": meshoptimizer.decode_filter_oct,
        "QUATERNION": meshoptimizer.decode_filter_quat,
        "EXPONENTIAL": meshoptimizer.decode_filter_exp,
    }
    if meshopt.filter in filters:
        filtered: UInt8Array = filters[meshopt.filter](array, count, stride)
        return filtered
    return array


def decode_color_filter(data: UInt8Array, stride: int) -> UInt8Array:
    """Undo KHR_meshopt_compression's COLOR filter: (Y, Co, Cg, A) to RGBA of 8 or 16 bits per channel.

    The highest set bit of alpha encodes how many bits the other channels use; alpha itself has one bit less.
    """
    bits = 8 * stride // 4
    unsigned = data.view(f"<u{bits // 8}").reshape(-1, 4).astype(np.int64)
    signed = data.view(f"<i{bits // 8}").reshape(-1, 4).astype(np.int64)
    scale = unsigned[:, 3].copy()
    for shift in (1, 2, 4, 8):
        scale |= scale >> shift
    y, co, cg = unsigned[:, 0], signed[:, 1], signed[:, 2]
    alpha = ((unsigned[:, 3] << 1) & scale) | (unsigned[:, 3] & 1)
    rgba = np.stack([y + co - cg, y + cg, y - co - cg, alpha], axis=1)
    largest = (1 << bits) - 1
    widened = np.floor(rgba * (largest / np.maximum(scale, 1))[:, None] + 0.5)
    return np.clip(widened, 0, largest).astype(f"<u{bits // 8}").reshape(-1).view(np.uint8)


def decode_draco(data: bytes) -> DracoMesh:
    """Decode the bitstream of a KHR_draco_mesh_compression primitive.

    Raises:
        ValueError: if it cannot be decoded or contains no triangles.
    """
    import DracoPy

    try:
        mesh = DracoPy.decode(data)
    except (ValueError, RuntimeError, TypeError, MemoryError, DracoPy.FileTypeException) as error:
        raise ValueError(f"Draco data cannot be decoded ({error}): the file is corrupt") from error
    faces = getattr(mesh, "faces", None)
    if faces is None:
        raise ValueError("Draco data contains a point cloud, not triangles")
    attributes = {int(a["unique_id"]): np.asarray(a["data"]) for a in mesh.attributes if a["data"] is not None}
    return DracoMesh(
        np.asarray(faces).reshape(-1, 3).astype(np.int64),
        {key: value.reshape(len(value), -1) for key, value in attributes.items()},
    )

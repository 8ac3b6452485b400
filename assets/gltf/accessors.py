"""Decodes accessors to arrays: views, strides, sparse elements, normalized integers, meshopt (glTF 2.0 section 3.6)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from helix4d.assets.gltf.compression import decode_meshopt
from helix4d.assets.gltf.parse.document import Document
from helix4d.assets.gltf.parse.model import Accessor
from helix4d.core import AssetError, ReasonCode
from helix4d.core.arrays import Float64Array, NumberArray, UInt8Array

_SCALES: Mapping[np.dtype, float] = {
    np.dtype("<i1"): 127.0,
    np.dtype("<u1"): 255.0,
    np.dtype("<i2"): 32767.0,
    np.dtype("<u2"): 65535.0,
}


class Accessors:
    """Reads the accessors of a document, and caches buffers, decompressed views and arrays."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self._buffers: dict[int, bytes] = {}
        self._views: dict[int, UInt8Array] = {}
        self._arrays: dict[int, NumberArray] = {}

    def raw(self, index: int) -> NumberArray:
        """Return a read-only (count, components) array in the accessor's own type.

        Raises:
            AssetError: missing_buffer, corrupt_file, invalid_accessor.
        """
        if index not in self._arrays:
            array = self._read(index, self.document.accessors[index])
            array.setflags(write=False)
            self._arrays[index] = array
        return self._arrays[index]

    def floats(self, index: int) -> Float64Array:
        """Return a (count, components) array of float64; normalized integers are mapped to [0, 1] or [−1, 1]."""
        return to_floats(self.raw(index), self.document.accessors[index].normalized)

    def view(self, index: int) -> UInt8Array:
        """Return the decompressed bytes of a buffer view as a uint8 array."""
        if index not in self._views:
            view = self.document.views[index]
            if view.meshopt is None:
                data = np.frombuffer(self._buffer(view.buffer), np.uint8)
                self._views[index] = data[view.offset : view.offset + view.length]
            else:
                meshopt = view.meshopt
                source = self._buffer(meshopt.buffer)[meshopt.offset : meshopt.offset + meshopt.length]
                try:
                    self._views[index] = decode_meshopt(source, meshopt)
                except (ValueError, RuntimeError, MemoryError) as error:
                    message = f"bufferViews[{index}]: meshopt data cannot be decoded ({error}): the file is corrupt"
                    raise self._invalid(message) from error
        return self._views[index]

    def _read(self, index: int, accessor: Accessor) -> NumberArray:
        shape = (accessor.count, accessor.components)
        if accessor.kind in ("MAT2", "MAT3") and accessor.dtype.itemsize < 4:
            raise self._invalid(f"accessors[{index}]: {accessor.kind} of 8- or 16-bit integers is not supported")
        if accessor.view is None:
            array = np.zeros(shape, accessor.dtype)
        else:
            stride = self.document.views[accessor.view].stride or accessor.element_bytes
            array = self._strided(accessor.view, accessor.offset, shape, accessor.dtype, stride)
        if (sparse := accessor.sparse) is not None:
            indices = self._strided(
                sparse.indices_view,
                sparse.indices_offset,
                (sparse.count, 1),
                sparse.indices_dtype,
                sparse.indices_dtype.itemsize,
            )[:, 0]
            if indices.max() >= accessor.count:
                raise self._invalid(
                    f"accessors[{index}]: sparse index {indices.max():,} is out of range "
                    f"(the accessor has {accessor.count:,} elements)"
                )
            array = array.copy()
            array[indices] = self._strided(
                sparse.values_view,
                sparse.values_offset,
                (sparse.count, accessor.components),
                accessor.dtype,
                accessor.element_bytes,
            )
        return array.view()

    def _strided(self, view: int, offset: int, shape: tuple[int, int], dtype: np.dtype, stride: int) -> NumberArray:
        data = self.view(view)
        try:
            array = np.ndarray(shape, dtype, np.ascontiguousarray(data), offset, (stride, dtype.itemsize))
        except (TypeError, ValueError) as error:
            raise self._invalid(f"bufferViews[{view}]: too short for an accessor that uses it ({error})") from error
        return np.ascontiguousarray(array)

    def _buffer(self, index: int) -> bytes:
        if index in self._buffers:
            return self._buffers[index]
        buffer = self.document.buffers[index]
        data = self.document.binary if buffer.uri is None and index == 0 else None
        if buffer.uri is not None:
            data = self.document.resource(buffer.uri)
        if data is None:
            problem = f"the file {buffer.uri[:80]!r} is missing: restore it" if buffer.uri else "has no data"
            raise self.document.fail(ReasonCode.MISSING_BUFFER, f"buffers[{index}]: {problem}")
        if len(data) < buffer.byte_length:
            raise self.document.fail(
                ReasonCode.CORRUPT_FILE,
                f"buffers[{index}]: needs {buffer.byte_length:,} bytes, has {len(data):,}: the file is truncated",
            )
        self._buffers[index] = data
        return data

    def _invalid(self, message: str) -> AssetError:
        return self.document.fail(ReasonCode.INVALID_ACCESSOR, message)


def to_floats(array: NumberArray, normalized: bool) -> Float64Array:
    """Convert an array to float64.

    Normalized integers are divided by the maximum of their type and clamped at −1 (glTF 2.0 section 3.11).
    """
    floats = array.astype(np.float64)
    if normalized and array.dtype in _SCALES:
        np.maximum(floats / _SCALES[array.dtype], -1.0, out=floats)
    return floats

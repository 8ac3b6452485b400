"""Parse buffers, buffer views and accessors (glTF 2.0 section 3.6), and check their bounds without reading any data.

Invalid entries raise their errors when they are used, because exporters leave unused empty accessors behind.
"""

from __future__ import annotations

from collections.abc import Container

from helix4d.assets.gltf.parse.checked import Checked, parse_each
from helix4d.assets.gltf.parse.model import (
    COMPONENT_DTYPES,
    ELEMENT_SIZES,
    Accessor,
    Buffer,
    BufferView,
    Meshopt,
    Sparse,
)
from helix4d.assets.gltf.parse.values import JsonObject, alternatives
from helix4d.assets.limits import Limits
from helix4d.core import ReasonCode

_MESHOPT = ("KHR_meshopt_compression", "EXT_meshopt_compression")
_MODES = ("ATTRIBUTES", "TRIANGLES", "INDICES")
_FILTERS = ("NONE", "OCTAHEDRAL", "QUATERNION", "EXPONENTIAL", "COLOR")


def parse_buffers(root: JsonObject, has_binary: bool) -> Checked[Buffer]:
    """Parse the buffers.

    A buffer without a URI that is neither the GLB's binary chunk nor a fallback of compressed views raises
    missing_buffer when it is used.
    """

    def parse(numbered: tuple[int, JsonObject]) -> Buffer:
        number, entry = numbered
        uri = entry.text("uri") if entry.has("uri") else None
        fallback = any((extension := entry.extension(name)) and extension.boolean("fallback") for name in _MESHOPT)
        if uri is None and not fallback and not (number == 0 and has_binary):
            entry.fail("has no uri, and the file has no binary chunk for it", ReasonCode.MISSING_BUFFER)
        return Buffer(uri, entry.integer("byteLength", minimum=1), fallback)

    return parse_each(enumerate(root.children("buffers")), parse)


def parse_views(root: JsonObject, buffers: Checked[Buffer]) -> Checked[BufferView]:
    """Parse the buffer views; one that points past its buffer raises invalid_accessor when it is used."""

    def parse(entry: JsonObject) -> BufferView:
        stride = entry.integer("byteStride", minimum=1) if entry.has("byteStride") else None
        if stride is not None and stride > 252:
            entry.fail(f"byteStride must be at most 252, found {stride}")
        meshopt = next((_parse_meshopt(e, buffers) for name in _MESHOPT if (e := entry.extension(name))), None)
        buffer, offset, length = _slice(entry, buffers)
        return BufferView(buffer, offset, length, stride, meshopt)

    return parse_each(root.children("bufferViews", ReasonCode.INVALID_ACCESSOR), parse)


def parse_accessors(root: JsonObject, views: Checked[BufferView], limits: Limits) -> Checked[Accessor]:
    """Parse the accessors; one that is empty or points past its view raises invalid_accessor when it is used.

    Raises:
        AssetError: out_of_memory if they exceed a limit.
    """

    def parse(entry: JsonObject) -> Accessor:
        component = _component(entry, COMPONENT_DTYPES)
        kind = entry.choice("type", ELEMENT_SIZES)
        accessor = Accessor(
            view=entry.optional_index("bufferView", len(views)),
            offset=entry.integer("byteOffset", 0),
            dtype=COMPONENT_DTYPES[component],
            normalized=entry.boolean("normalized"),
            count=entry.integer("count", minimum=1),
            kind=kind,
            sparse=_parse_sparse(entry, views),
        )
        _check_fits(entry, accessor, views)
        return accessor

    accessors = parse_each(root.children("accessors", ReasonCode.INVALID_ACCESSOR), parse)
    total = sum(accessor.count * accessor.element_bytes for _, accessor in accessors.valid())
    if total > limits.accessor_bytes:
        message = f"accessors total {total:,} bytes, more than the limit of {limits.accessor_bytes:,}"
        root.fail(message, ReasonCode.OUT_OF_MEMORY)
    _check_unbacked(root, accessors, limits)
    return accessors


def view_bytes(view: BufferView) -> int:
    """Return the size of a view in bytes, after decompression."""
    return view.length if view.meshopt is None else view.meshopt.count * view.meshopt.stride


def _component(entry: JsonObject, choices: Container[int]) -> int:
    component = entry.integer("componentType")
    if component not in choices:
        valid = alternatives(number for number in COMPONENT_DTYPES if number in choices)
        entry.fail(f"componentType must be {valid}, found {component}")
    return component


def _slice(entry: JsonObject, buffers: Checked[Buffer]) -> tuple[int, int, int]:
    buffer = entry.index("buffer", len(buffers))
    offset = entry.integer("byteOffset", 0)
    length = entry.integer("byteLength", minimum=1)
    if offset + length > buffers[buffer].byte_length:
        entry.fail(
            f"points past buffers[{buffer}] (needs {offset + length:,} bytes, has {buffers[buffer].byte_length:,}): "
            "the file is truncated or corrupt"
        )
    return buffer, offset, length


def _parse_meshopt(entry: JsonObject, buffers: Checked[Buffer]) -> Meshopt:
    buffer, offset, length = _slice(entry, buffers)
    meshopt = Meshopt(
        buffer=buffer,
        offset=offset,
        length=length,
        stride=entry.integer("byteStride", minimum=1),
        count=entry.integer("count", minimum=1),
        mode=entry.choice("mode", _MODES),
        filter=entry.choice("filter", _FILTERS, "NONE"),
    )
    if meshopt.mode == "ATTRIBUTES":
        if meshopt.stride % 4 or meshopt.stride > 256:
            entry.fail(f"byteStride must be a multiple of 4 and at most 256, found {meshopt.stride}")
        strides = {"OCTAHEDRAL": (4, 8), "QUATERNION": (8,), "COLOR": (4, 8)}.get(meshopt.filter, (meshopt.stride,))
        if meshopt.stride not in strides:
            valid = alternatives(strides)
            entry.fail(f"byteStride must be {valid} for the filter {meshopt.filter}, found {meshopt.stride}")
        return meshopt
    if meshopt.stride not in (2, 4):
        entry.fail(f"byteStride must be 2 or 4 for the mode {meshopt.mode}, found {meshopt.stride}")
    if meshopt.filter != "NONE":
        entry.fail(f"filter must be NONE for the mode {meshopt.mode}, found {meshopt.filter}")
    if meshopt.mode == "TRIANGLES" and meshopt.count % 3:
        entry.fail(f"count must be a multiple of 3 for the mode TRIANGLES, found {meshopt.count:,}")
    return meshopt


def _parse_sparse(entry: JsonObject, views: Checked[BufferView]) -> Sparse | None:
    if not entry.has("sparse"):
        return None
    sparse = entry.child("sparse")
    indices, values = sparse.child("indices"), sparse.child("values")
    component = _component(indices, (5121, 5123, 5125))
    return Sparse(
        count=sparse.integer("count", minimum=1),
        indices_view=indices.index("bufferView", len(views)),
        indices_offset=indices.integer("byteOffset", 0),
        indices_dtype=COMPONENT_DTYPES[component],
        values_view=values.index("bufferView", len(views)),
        values_offset=values.integer("byteOffset", 0),
    )


def _check_unbacked(root: JsonObject, accessors: Checked[Accessor], limits: Limits) -> None:
    # Sparse morph targets start from zeros without a view, one per vertex, but a kilobyte of JSON can declare gigabytes
    # of such zeros.
    limit = max((accessor.count for _, accessor in accessors.valid() if accessor.view is not None), default=0)
    limit = max(limit, limits.unbacked_elements)
    for number, accessor in accessors.valid():
        if accessor.view is None and accessor.count > limit:
            root.fail(
                f"accessors[{number}]: declares {accessor.count:,} elements without a bufferView, more than the limit "
                f"of {limit:,}",
                ReasonCode.OUT_OF_MEMORY,
            )


def _check_fits(entry: JsonObject, accessor: Accessor, views: Checked[BufferView]) -> None:
    size = accessor.element_bytes
    checks: list[tuple[str, int, int, int, int | None]] = []
    if accessor.view is not None:
        checks.append(("", accessor.view, accessor.offset, accessor.count, None))
    if (sparse := accessor.sparse) is not None:
        if sparse.count > accessor.count:
            entry.fail(f"sparse.count must be at most count ({accessor.count:,}), found {sparse.count:,}")
        index_bytes = sparse.indices_dtype.itemsize
        checks.append(("sparse.indices ", sparse.indices_view, sparse.indices_offset, sparse.count, index_bytes))
        checks.append(("sparse.values ", sparse.values_view, sparse.values_offset, sparse.count, size))
    for what, number, offset, count, packed in checks:
        view = views[number]
        stride = packed or view.stride or size
        if packed is None and stride < size:
            entry.fail(f"elements of {size} bytes do not fit the byteStride of {stride} of bufferViews[{number}]")
        needed = offset + stride * (count - 1) + (packed or size)
        if needed > view_bytes(view):
            entry.fail(
                f"{what}points past bufferViews[{number}] (needs {needed:,} bytes, has {view_bytes(view):,}): "
                "the file is truncated or corrupt"
            )

"""Buffers, views and accessors from JSON (glTF 2.0 section 3.6), with every bound checked that needs no bytes."""

from __future__ import annotations

from helix4d.assets.gltf.parse.model import (
    COMPONENT_DTYPES,
    ELEMENT_SIZES,
    Accessor,
    Buffer,
    BufferView,
    Meshopt,
    Sparse,
)
from helix4d.assets.gltf.parse.values import JsonObject
from helix4d.assets.limits import Limits
from helix4d.core import ReasonCode

_MESHOPT = ("KHR_meshopt_compression", "EXT_meshopt_compression")
_MODES = ("ATTRIBUTES", "TRIANGLES", "INDICES")
_FILTERS = ("NONE", "OCTAHEDRAL", "QUATERNION", "EXPONENTIAL", "COLOR")


def parse_buffers(root: JsonObject, has_binary: bool) -> tuple[Buffer, ...]:
    """Raises AssetError: missing_buffer for one that has neither a URI nor the GLB's chunk nor a fallback's excuse."""
    buffers = []
    for number, entry in enumerate(root.children("buffers")):
        uri = entry.text("uri") if entry.has("uri") else None
        fallback = any((found := entry.extension(name)) and found.boolean("fallback") for name in _MESHOPT)
        if uri is None and not fallback and not (number == 0 and has_binary):
            entry.fail("has no uri and the file has no binary chunk for it", ReasonCode.MISSING_BUFFER)
        buffers.append(Buffer(uri, entry.integer("byteLength", minimum=1), fallback))
    return tuple(buffers)


def parse_views(root: JsonObject, buffers: tuple[Buffer, ...]) -> tuple[BufferView, ...]:
    """Raises AssetError: invalid_accessor for a view that leaves its buffer."""
    views = []
    for entry in root.children("bufferViews", ReasonCode.INVALID_ACCESSOR):
        stride = entry.integer("byteStride", minimum=1) if entry.has("byteStride") else None
        if stride is not None and stride > 252:
            entry.fail(f"byteStride {stride} is above 252")
        meshopt = next((_parse_meshopt(found, buffers) for name in _MESHOPT if (found := entry.extension(name))), None)
        buffer, offset, length = _slice(entry, buffers)
        views.append(BufferView(buffer, offset, length, stride, meshopt))
    return tuple(views)


def parse_accessors(root: JsonObject, views: tuple[BufferView, ...], limits: Limits) -> tuple[Accessor, ...]:
    """Raises AssetError: invalid_accessor for one that leaves its view, out_of_memory beyond the limits."""
    accessors: list[Accessor] = []
    total = 0
    for entry in root.children("accessors", ReasonCode.INVALID_ACCESSOR):
        component = entry.integer("componentType")
        kind = entry.text("type")
        if component not in COMPONENT_DTYPES:
            entry.fail(f"componentType {component} does not exist")
        if kind not in ELEMENT_SIZES:
            entry.fail(f"type {kind[:20]!r} does not exist")
        accessor = Accessor(
            view=entry.optional_index("bufferView", len(views)),
            offset=entry.integer("byteOffset", 0),
            dtype=COMPONENT_DTYPES[component],
            normalized=entry.boolean("normalized"),
            count=entry.integer("count", minimum=1),
            kind=kind,
            sparse=_parse_sparse(entry, views),
        )
        total += accessor.count * accessor.element_bytes
        _check_fits(entry, accessor, views)
        accessors.append(accessor)
    if total > limits.accessor_bytes:
        root.fail(f"its accessors hold {total} bytes, limit {limits.accessor_bytes}", ReasonCode.OUT_OF_MEMORY)
    _check_unbacked(root, accessors, limits)
    return tuple(accessors)


def view_bytes(view: BufferView) -> int:
    """How many bytes the view holds once decompressed."""
    return view.length if view.meshopt is None else view.meshopt.count * view.meshopt.stride


def _slice(entry: JsonObject, buffers: tuple[Buffer, ...]) -> tuple[int, int, int]:
    buffer = entry.index("buffer", len(buffers))
    offset = entry.integer("byteOffset", 0)
    length = entry.integer("byteLength", minimum=1)
    if offset + length > buffers[buffer].byte_length:
        entry.fail(
            f"points past its buffer (needs {offset + length} bytes, has {buffers[buffer].byte_length}): "
            "the file is truncated or corrupt"
        )
    return buffer, offset, length


def _parse_meshopt(entry: JsonObject, buffers: tuple[Buffer, ...]) -> Meshopt:
    buffer, offset, length = _slice(entry, buffers)
    found = Meshopt(
        buffer=buffer,
        offset=offset,
        length=length,
        stride=entry.integer("byteStride", minimum=1),
        count=entry.integer("count", minimum=1),
        mode=entry.text("mode"),
        filter=entry.text("filter", "NONE"),
    )
    if found.mode not in _MODES or found.filter not in _FILTERS:
        entry.fail(f"mode {found.mode[:20]!r} with filter {found.filter[:20]!r} does not exist")
    if found.mode == "ATTRIBUTES":
        if found.stride % 4 or found.stride > 256:
            entry.fail(f"byteStride {found.stride} must be a multiple of 4 up to 256")
        strides = {"OCTAHEDRAL": (4, 8), "QUATERNION": (8,), "COLOR": (4, 8)}.get(found.filter, (found.stride,))
        if found.stride not in strides:
            entry.fail(f"byteStride {found.stride} does not go with filter {found.filter}")
    elif found.stride not in (2, 4) or found.filter != "NONE" or (found.mode == "TRIANGLES" and found.count % 3):
        entry.fail(f"{found.count} indices of {found.stride} bytes do not make {found.mode}")
    return found


def _parse_sparse(entry: JsonObject, views: tuple[BufferView, ...]) -> Sparse | None:
    if not entry.has("sparse"):
        return None
    sparse = entry.child("sparse")
    indices, values = sparse.child("indices"), sparse.child("values")
    component = indices.integer("componentType")
    if component not in (5121, 5123, 5125):
        indices.fail(f"componentType {component} cannot index")
    return Sparse(
        count=sparse.integer("count", minimum=1),
        indices_view=indices.index("bufferView", len(views)),
        indices_offset=indices.integer("byteOffset", 0),
        indices_dtype=COMPONENT_DTYPES[component],
        values_view=values.index("bufferView", len(views)),
        values_offset=values.integer("byteOffset", 0),
    )


def _check_unbacked(root: JsonObject, accessors: list[Accessor], limits: Limits) -> None:
    # Zeros without a view are what sparse morph targets begin with, one for each vertex. A kilobyte of JSON may
    # announce gigabytes of them.
    most = max((accessor.count for accessor in accessors if accessor.view is not None), default=0)
    most = max(most, limits.unbacked_elements)
    for number, accessor in enumerate(accessors):
        if accessor.view is None and accessor.count > most:
            what = f"accessors[{number}] has no bufferView and announces {accessor.count} elements, limit {most}"
            root.fail(what, ReasonCode.OUT_OF_MEMORY)


def _check_fits(entry: JsonObject, accessor: Accessor, views: tuple[BufferView, ...]) -> None:
    size = accessor.element_bytes
    checks: list[tuple[str, int, int, int, int | None]] = []
    if accessor.view is not None:
        checks.append(("", accessor.view, accessor.offset, accessor.count, None))
    if (sparse := accessor.sparse) is not None:
        if sparse.count > accessor.count:
            entry.fail(f"{sparse.count} sparse elements replace more than the {accessor.count} there are")
        index_bytes = sparse.indices_dtype.itemsize
        checks.append(("sparse indices ", sparse.indices_view, sparse.indices_offset, sparse.count, index_bytes))
        checks.append(("sparse values ", sparse.values_view, sparse.values_offset, sparse.count, size))
    for what, number, offset, count, packed in checks:
        view = views[number]
        stride = packed or view.stride or size
        if packed is None and stride < size:
            entry.fail(f"elements of {size} bytes overlap: bufferViews[{number}] has byteStride {stride}")
        needed = offset + stride * (count - 1) + (packed or size)
        if needed > view_bytes(view):
            entry.fail(
                f"{what}points past bufferViews[{number}] (needs {needed} bytes, has {view_bytes(view)}): "
                "the file is truncated or corrupt"
            )

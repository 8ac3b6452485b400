"""Decodes the primitives of a `<mesh>`: triangles, polylists, polygons with holes, strips and fans.

Vertices are the distinct combinations of a corner's indices. The corners of a primitive without normals are
separated, so that it can have flat normals.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from xml.etree.ElementTree import Element

import numpy as np

from helix4d.assets.collada.document import Document
from helix4d.assets.collada.holes import MOST_CORNERS, joined
from helix4d.assets.collada.sources import Input, inputs, ints, named, number, source_numbers
from helix4d.assets.pictures import to_linear
from helix4d.assets.polygons import triangulate
from helix4d.core import AssetError, ReasonCode
from helix4d.core.arrays import Float32Array, Float64Array, Int64Array

_FILLED = ("triangles", "polylist", "polygons", "tristrips", "trifans")
_LINES = ("lines", "linestrips")


@dataclass(frozen=True, eq=False)
class Primitive:
    """V vertices and F triangles.

    Attributes:
        symbol: name of its material, which instances bind; "" without one.
        points: (V,) int64 index of each vertex among the positions of the mesh.
        positions: (V, 3) float64.
        normals: (V, 3) float64, or None for flat normals; then every corner has its own vertex.
        faces: (F, 3) int64.
        uvs: (V, 2) float32 by the number of the set; v points down.
        colors: (V, 4) float32 linear RGBA, or None.
    """

    symbol: str
    points: Int64Array
    positions: Float64Array
    normals: Float64Array | None
    faces: Int64Array
    uvs: Mapping[int, Float32Array]
    colors: Float32Array | None


@dataclass(frozen=True, eq=False)
class Mesh:
    """The triangles of a geometry.

    Attributes:
        positions: (N, 3) float64 positions, before they are split into vertices.
        primitives: what is shown.
        step: largest rounding error of the positions, if they were rounded to float32.
    """

    positions: Float64Array
    primitives: tuple[Primitive, ...]
    step: float


def read_mesh(document: Document, geometry: Element, split: bool = False) -> Mesh:
    """Decode a geometry; a Mesh without primitives, with a warning, if it is of another kind.

    Args:
        document: its document.
        geometry: the `<geometry>`.
        split: give every corner its own vertex, so that morph targets correspond to the mesh.

    Raises:
        AssetError: invalid_accessor for inconsistent indices, non_finite_geometry, corrupt_file, out_of_memory.
    """
    mesh = geometry.find("mesh")
    if mesh is None:
        kinds = [child.tag for child in geometry if child.tag not in ("asset", "extra")]
        document.warn(f"{named(geometry)}: <{(kinds or ['nothing'])[0][:40]}> is not supported: not shown")
        return Mesh(np.zeros((0, 3)), (), 0.0)
    reader = _Reader(document, named(geometry), mesh, split)
    found: list[Primitive] = []
    for element in mesh:
        if element.tag in _LINES:
            document.warn(f"{named(geometry)}: lines are ignored")
        elif element.tag in _FILLED:
            primitive = reader.primitive(element)
            found += [primitive] if primitive is not None and len(primitive.faces) else []
    used = np.concatenate([np.zeros(0, np.int64), *(primitive.points for primitive in found)])
    largest = np.abs(reader.positions[used]).max(initial=0.0)
    return Mesh(reader.positions, tuple(found), float(np.spacing(np.float32(min(largest, 3e38)))))


class _Reader:
    def __init__(self, document: Document, where: str, mesh: Element, split: bool) -> None:
        self._document, self._where, self._split = document, where, split
        self._own = np.zeros((0, 3))
        self._triangles = 0
        vertices = mesh.find("vertices")
        entries = [] if vertices is None else inputs(document, vertices, where)
        found = next((entry for entry in entries if entry.semantic == "POSITION"), None)
        self.positions = np.zeros((0, 3)) if found is None else self._values(found, 3)

    def primitive(self, element: Element) -> Primitive | None:
        """Return the vertices and triangles of an element; None if it has no positions."""
        entries = inputs(self._document, element, self._where)
        places = [entry for entry in entries if entry.semantic == "POSITION"]
        if not places or number(element, "count", 1) == 0:
            return None
        width = max(entry.offset for entry in entries) + 1
        self._own = self._values(places[0], 3)
        rows, corners = self._corners(element, width, places[0].offset)
        self._triangles += len(corners)
        if self._triangles > self._document.limits.triangles:
            message = f"{self._where}: has more triangles than the limit of {self._document.limits.triangles:,}"
            raise self._document.fail(ReasonCode.OUT_OF_MEMORY, message)
        used = rows[corners.reshape(-1)]
        return self._assemble(element.get("material", ""), entries, places[0], used)

    def _assemble(self, symbol: str, entries: list[Input], place: Input, used: Int64Array) -> Primitive:
        """Build a primitive from the (3F, width) indices of the corners of its triangles."""
        points = self._indices(place, used, self._own)
        positions = self._own[points]
        if not np.isfinite(positions).all():
            raise self._fail("a position is NaN or infinite", ReasonCode.NON_FINITE_GEOMETRY)
        normals = self._normals(entries, used)
        uvs: dict[int, tuple[Int64Array, Float32Array]] = {}
        for entry in entries:
            if entry.semantic == "TEXCOORD" and entry.set not in uvs:
                values = self._uvs(entry)
                uvs[entry.set] = self._indices(entry, used, values), values
        color = next((entry for entry in entries if entry.semantic == "COLOR"), None)
        colors = None if color is None else self._colors(color)
        color_index = None if color is None or colors is None else self._indices(color, used, colors)
        keys = [points, *([] if normals is None else [_numbers(normals[1])[normals[0]]])]
        keys += [_numbers(values)[index] for index, values in uvs.values()]
        keys += [] if color_index is None or colors is None else [_numbers(colors)[color_index]]
        if self._split or normals is None:
            first = vertices = np.arange(len(points))
        else:
            first, vertices = _distinct(keys)
        return Primitive(
            symbol=symbol,
            points=points[first],
            positions=positions[first],
            normals=None if normals is None else normals[1][normals[0][first]],
            faces=vertices.reshape(-1, 3),
            uvs={group: values[index[first]] for group, (index, values) in uvs.items()},
            colors=None if colors is None or color_index is None else colors[color_index[first]],
        )

    def _corners(self, element: Element, width: int, offset: int) -> tuple[Int64Array, Int64Array]:
        """Return the (C, width) indices of all corners, and the (F, 3) corners of triangles."""
        lists = element.findall("p")
        blocks = [self._rows(found, width) for found in lists]
        counts = np.array([len(block) for block in blocks], np.int64)
        rings: list[Int64Array] = []
        if element.tag == "polygons":
            for holed in element.iterfind("ph"):
                rings += self._holed(holed, width, offset, blocks)
        rows = np.concatenate([np.zeros((0, width), np.int64), *blocks])
        if element.tag in ("tristrips", "trifans"):
            starts = np.cumsum(counts) - counts
            parts = [s + _unrolled(int(n), element.tag) for s, n in zip(starts, counts, strict=True)]
            return rows, np.concatenate([np.zeros((0, 3), np.int64), *parts])
        if element.tag == "triangles":
            whole = len(rows) // 3
            self._require(whole, number(element, "count", whole), "triangles")
            return rows, np.arange(3 * whole).reshape(-1, 3)
        if element.tag == "polylist":
            vcount = element.find("vcount")
            counts = np.zeros(0, np.int64) if vcount is None else ints(self._document, vcount, self._where)
            if ((counts < 0) | (counts > len(rows))).any():
                raise self._fail("a polygon has a negative number of corners, or more corners than there are indices")
            self._require(len(rows), int(counts.sum()), "corners")
            self._require(len(counts), number(element, "count", len(counts)), "polygons")
            rows = rows[: counts.sum()]
        return rows, self._cut(rows[:, offset], counts, rings)

    def _cut(self, points: Int64Array, counts: Int64Array, rings: list[Int64Array]) -> Int64Array:
        """Return the (F, 3) corners of the triangles of polygons, and of outlines that run around holes."""
        self._check_range(points, len(self._own))
        order = np.concatenate([np.arange(counts.sum()), *rings])
        sizes = np.concatenate([counts, np.array([len(ring) for ring in rings], np.int64)])
        if (sizes == 3).all():
            return order.reshape(-1, 3)
        with np.errstate(over="ignore", invalid="ignore"):
            found = triangulate(sizes, points[order], self._own)
        return np.asarray(order[found.corners])

    def _holed(self, element: Element, width: int, offset: int, blocks: list[Int64Array]) -> list[Int64Array]:
        """Append the corners of a polygon with holes to the blocks; return its outline around the holes."""
        outline = element.find("p")
        if outline is None:
            return []
        own = [self._rows(found, width) for found in (outline, *element.iterfind("h"))]
        own = [own[0], *(hole for hole in own[1:] if len(hole) > 2)]
        total = sum(len(block) for block in own)
        if total > MOST_CORNERS:
            message = f"a polygon with holes has {total:,} corners, more than the limit of {MOST_CORNERS:,}"
            raise self._fail(message, ReasonCode.OUT_OF_MEMORY)
        at = sum(len(block) for block in blocks)
        blocks.extend(own)
        points = np.concatenate([block[:, offset] for block in own])
        self._check_range(points, len(self._own))
        ends = np.cumsum([len(block) for block in own])
        loops = np.split(np.arange(total), ends[:-1])
        return [at + joined(loops[0], loops[1:], self._own[points])] if len(loops[0]) > 2 else []

    def _rows(self, element: Element, width: int) -> Int64Array:
        found = ints(self._document, element, self._where)
        return found[: len(found) // width * width].reshape(-1, width)

    def _normals(self, entries: list[Input], used: Int64Array) -> tuple[Int64Array, Float64Array] | None:
        entry = next((entry for entry in entries if entry.semantic == "NORMAL"), None)
        if entry is None:
            return None
        values = self._values(entry, 3)
        index = self._indices(entry, used, values)
        shown = values[index]
        if not np.isfinite(shown).all() or not shown.any(axis=1).all():
            self._document.warn(f"{self._where}: normals have length 0, or are NaN or infinite: ignored")
            return None
        return index, values

    def _uvs(self, entry: Input) -> Float32Array:
        values = self._values(entry, 2)
        with np.errstate(over="ignore"):
            found = np.stack([values[:, 0], 1.0 - values[:, 1]], axis=1).astype(np.float32)
        if not np.isfinite(found).all():
            self._document.warn(f"{self._where}: TEXCOORD contains NaN or infinity: replaced by 0")
        return np.where(np.isfinite(found), found, np.float32(0))

    def _colors(self, entry: Input) -> Float32Array:
        values = np.nan_to_num(self._values(entry, 3), nan=0.0)
        found = np.ones((len(values), 4))
        found[:, :3] = to_linear(np.clip(values[:, :3], 0.0, 1.0))
        if values.shape[1] > 3 and values[:, 3].any():  # several exporters write an alpha of 0 everywhere
            found[:, 3] = np.clip(values[:, 3], 0.0, 1.0)
        return found.astype(np.float32)

    def _values(self, entry: Input, least: int) -> Float64Array:
        """Return the (N, C) values of a source, of which there must be at least `least` columns."""
        found = source_numbers(self._document, entry.source)
        if found.shape[1] < least:
            message = f"{entry.semantic} needs {least} numbers per element, found {found.shape[1]}"
            raise self._fail(message)
        return found[:, :3] if least == 3 and entry.semantic != "COLOR" else found

    def _indices(self, entry: Input, used: Int64Array, values: Float64Array | Float32Array) -> Int64Array:
        index = used[:, entry.offset]
        self._check_range(index, len(values), entry.semantic)
        return index

    def _check_range(self, index: Int64Array, count: int, what: str = "POSITION") -> None:
        if len(index) and (index.min() < 0 or index.max() >= count):
            wrong = int(index.min() if index.min() < 0 else index.max())
            raise self._fail(f"index {wrong:,} of {what} is out of range (there are {count:,})")

    def _require(self, found: int, expected: int, what: str) -> None:
        if found < expected:
            raise self._fail(f"{expected:,} {what} are declared, but there are indices for {found:,}")

    def _fail(self, message: str, code: ReasonCode = ReasonCode.INVALID_ACCESSOR) -> AssetError:
        return self._document.fail(code, f"{self._where}: {message}")


def _unrolled(count: int, tag: str) -> Int64Array:
    """Return the (F, 3) corners of the triangles of a strip or fan of `count` corners."""
    n = np.arange(max(count - 2, 0))
    if tag == "trifans":
        return np.stack([np.zeros_like(n), n + 1, n + 2], axis=1)
    odd = n % 2
    return np.stack([n, n + 1 + odd, n + 2 - odd], axis=1)


def _numbers(values: Float32Array | Float64Array) -> Int64Array:
    """Return (N,) numbers that are the same for equal rows of values: exporters repeat normals and UVs."""
    words = np.ascontiguousarray(values).view(np.int64)
    return _distinct([np.unique(column, return_inverse=True)[1] for column in words.T])[1]


def _distinct(keys: list[Int64Array]) -> tuple[Int64Array, Int64Array]:
    """Return the first row of each distinct combination of (N,) keys, and the (N,) combination of each row."""
    combined = keys[0]
    for key in keys[1:]:
        _, combined = np.unique(combined * (int(key.max(initial=0)) + 1) + key, return_inverse=True)
    _, first, inverse = np.unique(combined, return_index=True, return_inverse=True)
    return first, inverse

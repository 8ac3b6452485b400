"""Reads skins and morphs, with which an `<instance_controller>` deforms a mesh.

A skin may deform a morph, which deforms a geometry. Morph targets are converted to differences from the base mesh
according to their method: NORMALIZED targets replace the base in proportion to their weight, RELATIVE ones are added.
"""

from __future__ import annotations

from dataclasses import dataclass
from xml.etree.ElementTree import Element

import numpy as np

from helix4d.assets.collada.document import Document
from helix4d.assets.collada.meshes import Mesh, read_mesh
from helix4d.assets.collada.sources import (
    fixed,
    holds_references,
    inputs,
    ints,
    named,
    source_names,
    source_numbers,
)
from helix4d.core import ReasonCode
from helix4d.core.arrays import BoolArray, Float64Array, Int64Array


@dataclass(frozen=True, eq=False)
class Skin:
    """How the N positions of a mesh follow J joints.

    Attributes:
        where: the controller, for messages.
        names: J names of joints.
        by_id: whether the names are ids of nodes rather than their sids.
        bind_shape: (4, 4) transform of the mesh before skinning.
        inverse_bind: (J, 4, 4).
        joints, weights: (N, K) int64 and float64; rows sum to 1. Joint J is the node of the skin, which vertices
            with joint −1 follow.
    """

    where: str
    names: list[str]
    by_id: bool
    bind_shape: Float64Array
    inverse_bind: Float64Array
    joints: Int64Array
    weights: Float64Array

    @property
    def weighted(self) -> BoolArray:
        """(J + 1,) mask of the joints that some position follows."""
        mask = np.zeros(len(self.names) + 1, bool)
        mask[self.joints[self.weights != 0]] = True
        return mask


@dataclass(frozen=True, eq=False)
class Morph:
    """M targets of a mesh.

    Attributes:
        source: the `<source>` of the weights, to which channels refer.
        weights: (M,) float64 weights without animation.
        targets: M meshes.
        relative: whether the targets contain differences.
    """

    source: Element
    weights: Float64Array
    targets: tuple[Mesh, ...]
    relative: bool


@dataclass(frozen=True, eq=False)
class Deformed:
    """A mesh and what deforms it."""

    mesh: Mesh
    morph: Morph | None = None
    skin: Skin | None = None


def read_controller(document: Document, controller: Element) -> Deformed:
    """Read a controller with everything that it deforms.

    Raises:
        AssetError: invalid_scene_graph for other nesting than a skin of a morph of a geometry, and as `read_mesh`.
    """
    where = named(controller)
    skin_element, base = controller.find("skin"), controller
    if skin_element is not None:
        base = document.need(skin_element.get("source", ""), where, "geometry", "controller")
    morph_element = base.find("morph") if base.tag == "controller" else None
    if base.tag == "controller":
        if morph_element is None:
            message = f"{where}: is neither a skin of a geometry or morph, nor a morph of a geometry"
            raise document.fail(ReasonCode.INVALID_SCENE_GRAPH, message)
        base = document.need(morph_element.get("source", ""), named(base), "geometry")
    mesh = read_mesh(document, base, split=morph_element is not None)
    morph = None if morph_element is None else _read_morph(document, morph_element, mesh, where)
    skin = None if skin_element is None else _read_skin(document, skin_element, len(mesh.positions), where)
    return Deformed(mesh, morph, skin)


def morph_differences(morph: Morph, mesh: Mesh, number: int) -> tuple[Float64Array, Float64Array | None]:
    """Return the (M, V, 3) differences of positions of a primitive, and of its normals if every target has some.

    Args:
        morph: the morph.
        mesh: the mesh that it deforms.
        number: index of the primitive.
    """
    base = mesh.primitives[number]
    moved = np.stack([target.positions[base.points] for target in morph.targets])
    differences = moved if morph.relative else moved - base.positions
    normals = []
    for target in morph.targets:
        same = target.primitives[number] if len(target.primitives) == len(mesh.primitives) else None
        if same is None or same.normals is None or not np.array_equal(same.points, base.points):
            return differences, None
        normals.append(same.normals)
    if base.normals is None or morph.relative:
        return differences, None
    return differences, np.stack(normals) - base.normals


def _read_morph(document: Document, element: Element, mesh: Mesh, where: str) -> Morph | None:
    targets = element.find("targets")
    by_name = {} if targets is None else {entry.semantic: entry for entry in inputs(document, targets, where)}
    if "MORPH_TARGET" not in by_name or "MORPH_WEIGHT" not in by_name:
        document.warn(f"{where}: the morph has no targets or no weights: ignored")
        return None
    names = source_names(document, by_name["MORPH_TARGET"].source)
    weights = source_numbers(document, by_name["MORPH_WEIGHT"].source).reshape(-1)
    method = element.get("method", "NORMALIZED")
    if len(weights) < len(names):
        message = f"{where}: {len(names):,} morph targets, but {len(weights):,} weights"
        raise document.fail(ReasonCode.INVALID_ACCESSOR, message)
    if not np.isfinite(weights).all():
        raise document.fail(ReasonCode.NON_FINITE_GEOMETRY, f"{where}: weights of the morph are NaN or infinite")
    size = len(names) * max(len(mesh.positions), sum(len(primitive.points) for primitive in mesh.primitives))
    if size > document.limits.morph_values:
        message = f"{where}: its morph targets have {size:,} values, more than the limit of "
        raise document.fail(ReasonCode.OUT_OF_MEMORY, f"{message}{document.limits.morph_values:,}")
    found: dict[str, Mesh] = {}
    for name in dict.fromkeys(names):
        target = read_mesh(document, document.need(f"#{name}", where, "geometry"), split=True)
        if len(target.positions) < len(mesh.positions):
            message = f"{where}: the morph target {name[:80]!r} has {len(target.positions):,} positions, but the mesh "
            raise document.fail(ReasonCode.INVALID_ACCESSOR, f"{message}has {len(mesh.positions):,}")
        if not np.isfinite(target.positions).all():
            message = f"{where}: a position of the morph target {name[:80]!r} is NaN or infinite"
            raise document.fail(ReasonCode.NON_FINITE_GEOMETRY, message)
        found[name] = target
    if not found:
        return None
    meshes = tuple(found[name] for name in names)
    return Morph(by_name["MORPH_WEIGHT"].source, weights[: len(names)], meshes, method == "RELATIVE")


def _read_skin(document: Document, element: Element, count: int, where: str) -> Skin:
    shape = element.find("bind_shape_matrix")
    bind_shape = np.eye(4) if shape is None else fixed(document, shape, 16, where).reshape(4, 4)
    joints, weights = element.find("joints"), element.find("vertex_weights")
    by_name = {} if joints is None else {entry.semantic: entry for entry in inputs(document, joints, where)}
    if "JOINT" not in by_name or "INV_BIND_MATRIX" not in by_name or weights is None:
        message = f"{where}: the skin lacks joints, inverse bind matrices or weights"
        raise document.fail(ReasonCode.INVALID_ACCESSOR, message)
    names = source_names(document, by_name["JOINT"].source)
    inverse_bind = source_numbers(document, by_name["INV_BIND_MATRIX"].source)
    if inverse_bind.shape[1] != 16 or len(inverse_bind) < len(names):
        message = f"{where}: {len(names):,} joints, but {inverse_bind.shape[0]:,} × {inverse_bind.shape[1]} numbers of "
        raise document.fail(ReasonCode.INVALID_ACCESSOR, f"{message}inverse bind matrices")
    if not np.isfinite(inverse_bind).all():
        raise document.fail(ReasonCode.NON_FINITE_GEOMETRY, f"{where}: inverse bind matrices are NaN or infinite")
    slots, shares = _influences(document, weights, len(names), count, where)
    matrices = inverse_bind[: len(names)].reshape(-1, 4, 4)
    by_id = holds_references(by_name["JOINT"].source)
    return Skin(where, names, by_id, bind_shape, matrices, slots, shares)


def _influences(
    document: Document, element: Element, joints: int, count: int, where: str
) -> tuple[Int64Array, Float64Array]:
    """Return the (N, K) joints and weights of the positions of a mesh."""
    by_name = {entry.semantic: entry for entry in inputs(document, element, where)}
    vcount, v = element.find("vcount"), element.find("v")
    if "JOINT" not in by_name or "WEIGHT" not in by_name or vcount is None:
        raise document.fail(ReasonCode.INVALID_ACCESSOR, f"{where}: <vertex_weights> is incomplete")
    sizes = ints(document, vcount, where)
    width = max(entry.offset for entry in by_name.values()) + 1
    rows = np.zeros(0, np.int64) if v is None else ints(document, v, where)
    rows = rows[: len(rows) // width * width].reshape(-1, width)
    if len(sizes) < count or ((sizes < 0) | (sizes > len(rows))).any() or sizes.sum() > len(rows):
        message = f"{where}: {count:,} positions, but {len(sizes):,} weight counts and {len(rows):,} weights"
        raise document.fail(ReasonCode.INVALID_ACCESSOR, message)
    sizes = sizes[:count]
    most = int(sizes.max(initial=1))
    if most * count > document.limits.morph_values:
        message = f"{where}: {count:,} positions of up to {most:,} weights exceed the limit of "
        raise document.fail(ReasonCode.OUT_OF_MEMORY, f"{message}{document.limits.morph_values:,}")
    rows = rows[: sizes.sum()]
    values = source_numbers(document, by_name["WEIGHT"].source)[:, 0]
    chosen, weight = rows[:, by_name["JOINT"].offset], rows[:, by_name["WEIGHT"].offset]
    if len(rows) and (chosen.max() >= joints or chosen.min() < -1 or weight.max() >= len(values) or weight.min() < 0):
        message = f"{where}: a weight refers to a joint or value that does not exist"
        raise document.fail(ReasonCode.INVALID_ACCESSOR, message)
    owners = np.repeat(np.arange(count), sizes)
    columns = np.arange(len(rows)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    slots, shares = np.full((count, max(most, 1)), joints), np.zeros((count, max(most, 1)))
    slots[owners, columns] = np.where(chosen < 0, joints, chosen)
    shares[owners, columns] = values[weight]
    total = shares.sum(axis=1)
    if not np.isfinite(total).all():
        raise document.fail(ReasonCode.NON_FINITE_GEOMETRY, f"{where}: weights are NaN or infinite")
    without = np.abs(total) < 1e-12
    shares = np.where(without[:, None], 0.0, shares / np.where(without, 1.0, total)[:, None])
    slots[without, 0], shares[without, 0] = joints, 1.0
    return slots, shares

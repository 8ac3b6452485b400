"""Flattens the visual scene: nodes, instances of nodes, and what each shows, without recursion."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from xml.etree.ElementTree import Element

import numpy as np

from helix4d.assets.collada.document import Document
from helix4d.assets.collada.sources import fixed, floats, named
from helix4d.assets.collada.transforms import SIZES, matrix
from helix4d.core import ReasonCode
from helix4d.core.arrays import BoolArray, Float64Array, Int64Array

_OF_BLENDER = ("scale", "rotationZ", "rotationY", "rotationX", "location")
_MEANT_BY_BLENDER = ("location", "rotationZ", "rotationY", "rotationX", "scale")
"""Blender writes decomposed transforms in reverse order."""
_MOST_DEPTH = 2_000
_MOST_TRANSFORMS = 1_000


@dataclass(frozen=True, eq=False)
class Stack:
    """The transform elements of a node, in the order of their product, and its visibility.

    Attributes:
        node: the `<node>`.
        elements: transform elements.
        values: the numbers of each.
        visibility: FCollada's `<visibility>`, or None.
        visible: whether the node is shown without animation.
    """

    node: Element
    elements: tuple[Element, ...]
    values: tuple[Float64Array, ...]
    visibility: Element | None
    visible: bool

    def matrix(self, changed: dict[int, Float64Array] | None = None) -> Float64Array:
        """Return the (4, 4) matrix, with some values replaced."""
        product = np.eye(4)
        for place, (element, values) in enumerate(zip(self.elements, self.values, strict=True)):
            product = product @ matrix(element.tag, values if changed is None else changed.get(place, values))
        product[3] = 0, 0, 0, 1
        return product


@dataclass(frozen=True, eq=False)
class Instance:
    """An `<instance_geometry>` or `<instance_controller>`, and the index of the node that represents it."""

    element: Element
    node: int


@dataclass(eq=False)
class Nodes:
    """The N nodes of a scene: one for each occurrence of a `<node>` and for each instance of a mesh.

    Attributes:
        stacks: transforms; occurrences of one node share a stack.
        slots: stack of each node.
        parents: parent of each node, -1 for roots; parents come before their children.
        depths: number of ancestors.
        instances: meshes to show.
    """

    stacks: list[Stack] = field(default_factory=list)
    slots: list[int] = field(default_factory=list)
    parents: list[int] = field(default_factory=list)
    depths: list[int] = field(default_factory=list)
    instances: list[Instance] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.slots)

    def element(self, node: int) -> Element:
        """Return the `<node>` of a node."""
        return self.stacks[self.slots[node]].node

    def ancestors(self, node: int) -> Iterator[int]:
        """Yield a node, its parent, and so on."""
        while node != -1:
            yield node
            node = self.parents[node]

    def with_ancestors(self, nodes: Iterable[int]) -> set[int]:
        """Return nodes and all their ancestors."""
        found: set[int] = set()
        for node in nodes:
            while node != -1 and node not in found:
                found.add(node)
                node = self.parents[node]
        return found

    def levels(self) -> list[Int64Array]:
        """Return the nodes of each depth, roots first."""
        depths = np.array(self.depths, np.int64)
        ranked = np.argsort(depths, kind="stable")
        return np.split(ranked, np.flatnonzero(np.diff(depths[ranked])) + 1) if len(depths) else []


def read_nodes(document: Document) -> Nodes:
    """Flatten the visual scene that the document shows, else its first one.

    Raises:
        AssetError: invalid_scene_graph for nodes that contain themselves, or instances of missing elements;
            out_of_memory, corrupt_file.
    """
    scene = _visual_scene(document)
    nodes = Nodes()
    if scene is None:
        return nodes
    slots: dict[int, int] = {}
    pending: list[tuple[Element, int]] = [(child, -1) for child in reversed(scene.findall("node"))]
    while pending:
        element, parent = pending.pop()
        if id(element) not in slots:
            slots[id(element)] = len(nodes.stacks)
            nodes.stacks.append(_read_stack(document, element))
        number = _append(document, nodes, slots[id(element)], parent)
        inner: list[Element] = []
        for child in element:
            if child.tag == "node":
                inner.append(child)
            elif child.tag == "instance_node":
                inner.append(_instanced(document, nodes, child, number))
            elif child.tag in ("instance_geometry", "instance_controller"):
                own = _append(document, nodes, _empty_slot(nodes, slots), number)
                nodes.instances.append(Instance(child, own))
        pending += [(entry, number) for entry in reversed(inner)]
    return nodes


def world_matrices(
    nodes: Nodes, levels: list[Int64Array], local: Float64Array, root: Float64Array, shown: BoolArray
) -> tuple[Float64Array, BoolArray]:
    """Return the (N, 4, 4) transforms of nodes to the world, and an (N,) mask of those that are visible.

    Args:
        nodes: the nodes.
        levels: their `levels`.
        local: (S, 4, 4) matrices of their stacks.
        root: (4, 4) transform of the whole scene.
        shown: (S,) visibility of their stacks.
    """
    slots, parents = np.array(nodes.slots, np.int64), np.array(nodes.parents, np.int64)
    world, visible = local[slots], shown[slots]
    for depth, level in enumerate(levels):
        world[level] = (world[parents[level]] if depth else root) @ world[level]
        if depth:
            visible[level] &= visible[parents[level]]
    return world, visible


def _visual_scene(document: Document) -> Element | None:
    instance = document.tree.find("scene/instance_visual_scene")
    if instance is not None:
        return document.need(instance.get("url", ""), "<scene>", "visual_scene")
    return next(document.library("library_visual_scenes", "visual_scene"), None)


def _instanced(document: Document, nodes: Nodes, instance: Element, number: int) -> Element:
    """Return the node that an `<instance_node>` in a node shows."""
    target = document.need(instance.get("url", ""), named(nodes.element(number)), "node")
    if any(nodes.element(other) is target for other in nodes.ancestors(number)):
        message = f"{named(target)} contains an instance of itself"
        raise document.fail(ReasonCode.INVALID_SCENE_GRAPH, message)
    return target


def _append(document: Document, nodes: Nodes, slot: int, parent: int) -> int:
    if len(nodes) >= document.limits.nodes:
        message = f"the scene has more nodes than the limit of {document.limits.nodes:,}"
        raise document.fail(ReasonCode.OUT_OF_MEMORY, message)
    depth = nodes.depths[parent] + 1 if parent != -1 else 0
    if depth > _MOST_DEPTH:
        message = f"nodes are nested deeper than the limit of {_MOST_DEPTH:,}"
        raise document.fail(ReasonCode.INVALID_SCENE_GRAPH, message)
    nodes.slots.append(slot)
    nodes.parents.append(parent)
    nodes.depths.append(depth)
    return len(nodes) - 1


def _empty_slot(nodes: Nodes, slots: dict[int, int]) -> int:
    """Return the slot of a stack without transforms."""
    if -1 not in slots:
        slots[-1] = len(nodes.stacks)
        nodes.stacks.append(Stack(Element("node"), (), (), None, True))
    return slots[-1]


def _read_stack(document: Document, node: Element) -> Stack:
    elements = [child for child in node if child.tag in SIZES]
    if len(elements) > _MOST_TRANSFORMS:
        message = f"{named(node)}: has {len(elements):,} transforms, more than the limit of {_MOST_TRANSFORMS:,}"
        raise document.fail(ReasonCode.OUT_OF_MEMORY, message)
    if document.is_by_blender and tuple(element.get("sid") for element in elements) == _OF_BLENDER:
        by_sid = {element.get("sid"): element for element in elements}
        elements = [by_sid[sid] for sid in _MEANT_BY_BLENDER]
    values = tuple(fixed(document, element, SIZES[element.tag], named(node)) for element in elements)
    for element, numbers in zip(elements, values, strict=True):
        if not np.isfinite(matrix(element.tag, numbers)).all():
            message = f"{named(node)}: <{element.tag}> is not a valid transform"
            raise document.fail(ReasonCode.NON_FINITE_GEOMETRY, message)
        if element.tag == "matrix" and not np.array_equal(numbers[12:], (0, 0, 0, 1)):
            document.warn(f"{named(node)}: the last row of <matrix> is not 0 0 0 1: ignored")
    visibility = node.find("extra/technique[@profile='FCOLLADA']/visibility")
    shown = np.ones(1) if visibility is None else floats(document, visibility, named(node))
    return Stack(node, tuple(elements), values, visibility, bool(len(shown) == 0 or shown[0] > 0))

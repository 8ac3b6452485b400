"""Finds the joints of skins among the nodes of a scene."""

from __future__ import annotations

from collections.abc import Iterator
from xml.etree.ElementTree import Element

import numpy as np

from helix4d.assets.collada.controllers import Skin
from helix4d.assets.collada.document import Document
from helix4d.assets.collada.nodes import Instance, Nodes
from helix4d.core import ReasonCode
from helix4d.core.arrays import Int64Array


class Joints:
    """The nodes of a scene by their sids, ids and names.

    Args:
        document: the document.
        nodes: its nodes.
    """

    def __init__(self, document: Document, nodes: Nodes) -> None:
        self._document, self._nodes = document, nodes
        self._children: dict[int, list[int]] = {}
        self._named: dict[str, dict[str, int]] = {"id": {}, "sid": {}, "name": {}}
        self._of_element: dict[int, list[int]] = {}
        for node, parent in enumerate(nodes.parents):
            element = nodes.element(node)
            self._children.setdefault(parent, []).append(node)
            self._of_element.setdefault(id(element), []).append(node)
            for attribute, found in self._named.items():
                found.setdefault(element.get(attribute, ""), node)
        self._below: dict[tuple[int, ...], dict[tuple[str, str], int]] = {}

    def find(self, skin: Skin, instance: Instance) -> Int64Array:
        """Return the (J + 1,) nodes of the joints of a skin; the last is the node of the instance.

        Names are sids below the `<skeleton>`s of the instance, or ids. Some files confuse the two, or name no
        skeleton, so the rest of the scene is also searched.

        Raises:
            AssetError: invalid_scene_graph if a joint that some vertex follows does not exist.
        """
        below = self._below_skeletons(instance)
        order = ("id", "sid") if skin.by_id else ("sid", "id")
        weighted = skin.weighted
        found = []
        for number, name in enumerate(skin.names):
            places = [below.get((attribute, name)) for attribute in order]
            places += [self._named[attribute].get(name) for attribute in (*order, "name")]
            node = next((place for place in places if place is not None), None)
            if node is None and weighted[number]:
                message = f"{skin.where}: vertices follow the joint {name[:80]!r}, which is not a node of the scene"
                raise self._document.fail(ReasonCode.INVALID_SCENE_GRAPH, message)
            found.append(instance.node if node is None else node)
        return np.array([*found, instance.node], np.int64)

    def _below_skeletons(self, instance: Instance) -> dict[tuple[str, str], int]:
        """Return the first node below the skeletons of an instance by each attribute and value."""
        roots = []
        for entry in instance.element.iterfind("skeleton"):
            element = self._document.find(entry.text or "", "node")
            nearest = None if element is None else self._nearest(element, instance.node)
            if nearest is not None:
                roots.append(nearest)
        key = tuple(roots)
        if key not in self._below:
            found: dict[tuple[str, str], int] = {}
            for node in self._subtrees(roots):
                element = self._nodes.element(node)
                for attribute in ("id", "sid"):
                    found.setdefault((attribute, element.get(attribute, "")), node)
            self._below[key] = found
        return self._below[key]

    def _subtrees(self, roots: list[int]) -> Iterator[int]:
        """Yield the nodes of subtrees, the nearest to the roots first."""
        level = list(roots)
        while level:
            yield from level
            level = [child for node in level for child in self._children.get(node, ())]

    def _nearest(self, element: Element, node: int) -> int | None:
        """Return the occurrence of a `<node>` that has the deepest common ancestor with a node."""
        own = set(self._nodes.ancestors(node))
        best, deepest = None, -2
        for candidate in self._of_element.get(id(element), ()):
            shared = next((other for other in self._nodes.ancestors(candidate) if other in own), None)
            depth = -1 if shared is None else self._nodes.depths[shared]
            if depth > deepest:
                best, deepest = candidate, depth
        return best

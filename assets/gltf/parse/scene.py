"""Parse meshes, nodes, skins and the default scene (glTF 2.0 sections 3.5 and 3.7)."""

from __future__ import annotations

from helix4d.assets.gltf.parse.checked import Checked, parse_each
from helix4d.assets.gltf.parse.model import Draco, Mesh, Node, Primitive, Skin
from helix4d.assets.gltf.parse.values import JsonObject
from helix4d.assets.limits import Limits
from helix4d.core import ReasonCode

TRIANGLE_MODES = (4, 5, 6)


def parse_meshes(root: JsonObject, accessors: int, views: int, warnings: list[str]) -> Checked[Mesh]:
    """Parse the meshes. Primitives without positions or triangles are ignored with a warning."""
    materials = len(root.children("materials"))

    def parse(entry: JsonObject) -> Mesh:
        primitives = [_parse_primitive(p, accessors, views, materials) for p in entry.children("primitives")]
        targets = {len(primitive.targets) for primitive in primitives}
        if len(targets) > 1:
            counts = " and ".join(map(str, sorted(targets)))
            entry.fail(f"primitives must have the same number of morph targets, found {counts}")
        weights = entry.numbers("weights") or ()
        count = max(targets, default=0)
        if weights and len(weights) != count:
            entry.fail(f"weights must contain one number per morph target ({count}), found {len(weights)}")
        for primitive in primitives:
            if "POSITION" not in primitive.attributes:
                warnings.append(f"{primitive.where}: no POSITION attribute: ignored")
            elif primitive.mode not in TRIANGLE_MODES:
                warnings.append(f"{primitive.where}: contains points or lines, not triangles: ignored")
        kept = [p for p in primitives if p.mode in TRIANGLE_MODES and "POSITION" in p.attributes]
        return Mesh(tuple(kept), weights or (0.0,) * count, count)

    return parse_each(root.children("meshes"), parse)


def parse_skins(root: JsonObject, nodes: int, accessors: int) -> Checked[Skin]:
    """Parse the skins; a skin without joints is invalid."""

    def parse(entry: JsonObject) -> Skin:
        joints = entry.indices("joints", nodes)
        if not joints:
            entry.fail("joints must not be empty")
        return Skin(joints, entry.optional_index("inverseBindMatrices", accessors))

    return parse_each(root.children("skins"), parse)


def parse_nodes(
    root: JsonObject, meshes: int, accessors: int, limits: Limits
) -> tuple[tuple[Node, ...], tuple[int, ...], tuple[int, ...]]:
    """Parse the nodes.

    Returns:
        The nodes, the parent of each node (−1 for none), and an order in which parents precede their children.

    Raises:
        AssetError: invalid_scene_graph for cycles, nodes with several parents, and children that do not exist.
    """
    entries = root.children("nodes")
    if len(entries) > limits.nodes:
        root.fail(f"has {len(entries):,} nodes, more than the limit of {limits.nodes:,}", ReasonCode.OUT_OF_MEMORY)
    skins = len(root.children("skins"))
    nodes = tuple(_parse_node(entry, len(entries), meshes, skins, accessors) for entry in entries)
    parents = [-1] * len(nodes)
    for number, node in enumerate(nodes):
        for child in node.children:
            if parents[child] != -1 or child == number:
                reason = (
                    "is its own child"
                    if child == number
                    else f"has the child nodes[{child}], which is already a child of nodes[{parents[child]}]"
                )
                entries[number].fail(reason, ReasonCode.INVALID_SCENE_GRAPH)
            parents[child] = number
    order: list[int] = [number for number, parent in enumerate(parents) if parent == -1]
    for number in order:  # grows during iteration
        order.extend(nodes[number].children)
    if len(order) < len(nodes):
        unreached = min(set(range(len(nodes))) - set(order))
        entries[unreached].fail("is part of a cycle, or a descendant of one", ReasonCode.INVALID_SCENE_GRAPH)
    return nodes, tuple(parents), tuple(order)


def parse_roots(root: JsonObject, parents: tuple[int, ...]) -> tuple[int, ...]:
    """Return the root nodes of the default scene: `scene` if given, else the first; every root if there are no scenes.

    Raises:
        AssetError: invalid_scene_graph if a scene lists a node that is not a root.
    """
    scenes = root.children("scenes")
    roots = [scene.indices("nodes", len(parents), ReasonCode.INVALID_SCENE_GRAPH) for scene in scenes]
    for scene, members in zip(scenes, roots, strict=True):
        if nested := [node for node in members if parents[node] != -1]:
            message = f"must list root nodes only, but nodes[{nested[0]}] is a child of nodes[{parents[nested[0]]}]"
            scene.fail(message, ReasonCode.INVALID_SCENE_GRAPH)
    if not scenes:
        return tuple(number for number, parent in enumerate(parents) if parent == -1)
    chosen = root.index("scene", len(scenes)) if root.has("scene") else 0
    return tuple(dict.fromkeys(roots[chosen]))


def _parse_primitive(entry: JsonObject, accessors: int, views: int, materials: int) -> Primitive:
    mode = entry.integer("mode", 4)
    if mode > 6:
        entry.fail(f"mode must be between 0 and 6, found {mode}")
    draco = entry.extension("KHR_draco_mesh_compression")
    return Primitive(
        attributes=_attributes(entry.child("attributes"), accessors),
        indices=entry.optional_index("indices", accessors),
        material=entry.optional_index("material", materials),
        mode=mode,
        targets=tuple(_attributes(target, accessors) for target in entry.children("targets")),
        draco=None if draco is None else _parse_draco(draco, views),
        where=entry.where,
    )


def _parse_draco(entry: JsonObject, views: int) -> Draco:
    return Draco(entry.index("bufferView", views), _attributes(entry.child("attributes"), 2**32))


def _attributes(entry: JsonObject, size: int) -> dict[str, int]:
    return {name: entry.index(name, size) for name in entry.values if entry.has(name)}


def _parse_node(entry: JsonObject, nodes: int, meshes: int, skins: int, accessors: int) -> Node:
    columns = entry.numbers("matrix", 16)
    instancing = entry.extension("EXT_mesh_gpu_instancing")
    visibility = entry.extension("KHR_node_visibility")
    return Node(
        children=entry.indices("children", nodes, ReasonCode.INVALID_SCENE_GRAPH),
        mesh=entry.optional_index("mesh", meshes),
        skin=entry.optional_index("skin", skins),
        matrix=columns and tuple(columns[4 * column + row] for row in range(4) for column in range(4)),
        translation=entry.numbers("translation", 3) or (0.0, 0.0, 0.0),
        rotation=entry.numbers("rotation", 4) or (0.0, 0.0, 0.0, 1.0),
        scale=entry.numbers("scale", 3) or (1.0, 1.0, 1.0),
        weights=entry.numbers("weights"),
        visible=visibility.boolean("visible", True) if visibility else True,
        instancing=_attributes(instancing.child("attributes"), accessors) if instancing else {},
    )

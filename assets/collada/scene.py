"""Poses the visual scene: transforms of nodes, skins and morphs determine vertices in world space.

All arithmetic is in float64, in glTF's axes and in meters. A skinned mesh ignores the transform of its node.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from xml.etree.ElementTree import Element

import numpy as np

from helix4d.assets.collada.channels import ARRAYS, Channel
from helix4d.assets.collada.controllers import Deformed, Morph, Skin, morph_differences, read_controller
from helix4d.assets.collada.curves import Curve
from helix4d.assets.collada.document import Document
from helix4d.assets.collada.joints import Joints
from helix4d.assets.collada.meshes import Primitive, read_mesh
from helix4d.assets.collada.nodes import Instance, read_nodes, world_matrices
from helix4d.assets.collada.sources import named
from helix4d.assets.collada.transforms import up_axis
from helix4d.assets.gltf.scene import blend_joints, cofactor, determinants, morph_values, skin_vertices
from helix4d.assets.skeleton import Skeleton
from helix4d.core import ReasonCode
from helix4d.core.arrays import BoolArray, Float64Array, Int64Array


@dataclass(frozen=True, eq=False)
class Binding:
    """How the vertices of a part follow nodes.

    Attributes:
        nodes: (J,) nodes of the joints.
        inverse_bind: (J, 4, 4) transforms from the mesh to each joint.
        joints, weights: (V, K) int64 and float64.
        weighted: (J,) mask of the joints that some vertex follows.
    """

    nodes: Int64Array
    inverse_bind: Float64Array
    joints: Int64Array
    weights: Float64Array
    weighted: BoolArray


@dataclass(frozen=True, eq=False)
class Part:
    """A primitive placed in the scene by a node.

    Attributes:
        instance: the instance, which binds materials and has its own node.
        primitive: vertices and triangles.
        step: largest rounding error of the positions.
        binding: the joints that the vertices follow; None if they follow the node.
        morph: index of the morph, None without one.
        moved: (M, V, 3) differences of positions by the morph, or None.
        turned: (M, V, 3) differences of normals by the morph, or None.
    """

    instance: Instance
    primitive: Primitive
    step: float
    binding: Binding | None
    morph: int | None
    moved: Float64Array | None
    turned: Float64Array | None


@dataclass(frozen=True, eq=False)
class Posed:
    """A posed part: (V, 3) positions, normals of any length or None, whether it is mirrored, and its rounding error."""

    positions: Float64Array
    normals: Float64Array | None
    mirrored: bool
    rounding: float


@dataclass(frozen=True, eq=False)
class Placement:
    """Transform of the node of a part.

    Attributes:
        matrix: (4, 4) transform to the world.
        turn: (3, 3) transform of normals.
        mirrored: whether the transform turns the part inside out.
        stretch: upper bound of how much it stretches a vector.
    """

    matrix: Float64Array
    turn: Float64Array
    mirrored: bool
    stretch: float


@dataclass(frozen=True, eq=False)
class State:
    """The scene at one time: (N, 4, 4) transforms to the world, (N,) visibility, and the weights of each morph."""

    world: Float64Array
    visible: BoolArray
    weights: list[Float64Array]


class Scene:
    """What a document shows.

    Args:
        document: the document.

    Attributes:
        parts: everything that is shown at some time.

    Raises:
        AssetError: see `read_nodes`, `read_mesh` and `read_controller`.
    """

    def __init__(self, document: Document) -> None:
        self._document = document
        self._nodes = read_nodes(document)
        self._levels = self._nodes.levels()
        self._root = _root_matrix(document)
        stacks = self._nodes.stacks
        self._local = np.array([stack.matrix() for stack in stacks]).reshape(-1, 4, 4)
        self._shown = np.array([stack.visible for stack in stacks], bool)
        self._slots = {
            id(e): (slot, place) for slot, stack in enumerate(stacks) for place, e in enumerate(stack.elements)
        }
        self._visibilities = {id(s.visibility): slot for slot, s in enumerate(stacks) if s.visibility is not None}
        self._morphs: list[Morph] = []
        self._morph_of: dict[int, int] = {}
        self._counts = np.zeros(3, np.int64)
        self.parts = tuple(self._placed())

    def skeleton(self) -> Skeleton:
        """Return the `<node>`s of type JOINT or referenced by a skin; skinned if a part has such a skin."""
        joints = {node for node in range(len(self._nodes)) if self._nodes.element(node).get("type") == "JOINT"}
        bindings = [(part.binding, part.instance.node) for part in self.parts if part.binding is not None]
        for binding, own in bindings:
            joints.update(set(binding.nodes.tolist()) - {own})
        # A `<node>` that occurs several times is one joint.
        elements = {id(element): element for element in map(self._nodes.element, sorted(joints))}
        names = (element.get("name") or element.get("sid") or element.get("id") or "" for element in elements.values())
        return Skeleton.of(names, len(elements), any(binding.weighted[:-1].any() for binding, _ in bindings))

    def ever_visible(self, channels: Iterable[Channel]) -> list[Part]:
        """Return the parts whose nodes are not always hidden by `<visibility>`."""
        shown = self._shown.copy()
        for channel in channels:
            if id(channel.element) in self._visibilities:
                shown[self._visibilities[id(channel.element)]] = True
        _, visible = world_matrices(self._nodes, self._levels, self._local, self._root, shown)
        return [part for part in self.parts if visible[part.instance.node]]

    def moving(self, parts: Sequence[Part]) -> Callable[[Channel], bool]:
        """Return a predicate: whether a channel moves, morphs or hides one of the parts."""
        morphs = {part.morph for part in parts}
        shown = self._nodes.with_ancestors(part.instance.node for part in parts)
        showing = {self._nodes.slots[node] for node in shown}
        placing = self._placing(parts)

        def moves(channel: Channel) -> bool:
            key = id(channel.element)
            if key in self._morph_of:
                return self._morph_of[key] in morphs
            if key in self._visibilities:
                return self._visibilities[key] in showing
            return key in self._slots and self._slots[key][0] in placing

        return moves

    def warn_of_lost(self, channels: Iterable[Channel]) -> None:
        """Warn about channels that animate no visible morph, or more weights than the morph has."""
        for channel in channels:
            where = f"a channel to <{channel.element.tag}> {(channel.element.get('id') or '')[:80]!r}"
            number = self._morph_of.get(id(channel.element))
            if number is None:
                if channel.element.tag in ARRAYS:
                    self._document.warn(f"{where}: animates no weights of a visible morph: ignored")
                continue
            count, places = len(self._morphs[number].weights), channel.places
            if places is None and isinstance(channel.curve, Curve):
                places = np.arange(channel.curve.values.shape[1])
            if places is not None and (places >= count).any():
                problem = f"animates morph weight {places.max():,}, but there are {count:,} morph targets"
                self._document.warn(f"{where}: {problem}: ignored")

    def states(self, channels: Sequence[Channel], times: Float64Array) -> Iterator[State]:
        """Yield the scene at each of (T,) times in seconds; if channels share a target, the last one applies.

        Raises:
            AssetError: if the keys of a channel are invalid.
        """
        tracks = [(channel, _curve(channel).at(times)) for channel in channels]
        for number in range(len(times)):
            yield self._state([(channel, values[number]) for channel, values in tracks])

    def _state(self, found: Sequence[tuple[Channel, Float64Array]]) -> State:
        changed: dict[int, dict[int, Float64Array]] = {}
        weights = [morph.weights for morph in self._morphs]
        shown = self._shown.copy()
        for channel, value in found:
            key, places = id(channel.element), channel.places
            if key in self._slots:
                slot, place = self._slots[key]
                values = changed.setdefault(slot, {})
                old = values.get(place, self._nodes.stacks[slot].values[place])
                values[place] = _with(old, places, value)
            elif key in self._morph_of:
                number = self._morph_of[key]
                weights[number] = _with(weights[number], places, value)
            elif key in self._visibilities:
                shown[self._visibilities[key]] = value[0] > 0.5
        local = self._local.copy()
        for slot, values in changed.items():
            local[slot] = self._nodes.stacks[slot].matrix(values)
        world, visible = world_matrices(self._nodes, self._levels, local, self._root, shown)
        return State(world, visible, weights)

    def pose_all(self, parts: Sequence[Part], state: State, with_normals: bool) -> list[Posed]:
        """Return the vertices of parts in a given state."""
        # For all parts together: a call per part costs more than its arithmetic.
        matrices = state.world[[part.instance.node for part in parts]]
        linear = matrices[:, :3, :3]
        rows = zip(matrices, cofactor(linear), (determinants(linear) < 0).tolist(), _stretches(linear), strict=True)
        placed = [Placement(*row) for row in rows]
        return [self._pose(part, state, place, with_normals) for part, place in zip(parts, placed, strict=True)]

    def _pose(self, part: Part, state: State, place: Placement, with_normals: bool) -> Posed:
        primitive = part.primitive
        positions, normals = primitive.positions, primitive.normals if with_normals else None
        if part.morph is not None and part.moved is not None:
            weights = state.weights[part.morph]
            positions = morph_values(positions, part.moved, weights)
            normals = None if normals is None else morph_values(normals, part.turned, weights)
        if part.binding is not None:
            binding = part.binding
            matrices = state.world[binding.nodes] @ binding.inverse_bind
            blended = blend_joints(matrices, binding.joints, binding.weights)
            posed, turned, mirrored = skin_vertices(blended, positions, normals)
            return Posed(
                posed, turned, mirrored, part.step * float(_stretches(matrices[binding.weighted]).max(initial=0.0))
            )
        posed = positions @ place.matrix[:3, :3].T + place.matrix[:3, 3]
        turned = None if normals is None else normals @ place.turn.T * (-1.0 if place.mirrored else 1.0)
        return Posed(posed, turned, place.mirrored, part.step * float(place.stretch))

    def _placing(self, parts: Iterable[Part]) -> set[int]:
        """Return the stacks of the nodes whose transforms place parts."""
        nodes: set[int] = set()
        for part in parts:
            if part.binding is None:
                nodes.add(part.instance.node)
            else:
                nodes.update(part.binding.nodes[part.binding.weighted].tolist())
        return {self._nodes.slots[node] for node in self._nodes.with_ancestors(nodes)}

    def _placed(self) -> Iterable[Part]:
        document = self._document
        joints = Joints(document, self._nodes)
        world, _ = world_matrices(self._nodes, self._levels, self._local, self._root, self._shown)
        deformed: dict[int, Deformed] = {}
        differences: dict[tuple[int, int], tuple[Float64Array, Float64Array | None]] = {}
        for instance in self._nodes.instances:
            target = self._target(instance)
            if id(target) not in deformed:
                deformed[id(target)] = _read(document, target)
            found = deformed[id(target)]
            morph = None if found.morph is None else self._number_of(found.morph)
            nodes = None if found.skin is None else joints.find(found.skin, instance)
            for number, primitive in enumerate(found.mesh.primitives):
                self._count(primitive)
                if found.morph is not None and (id(target), number) not in differences:
                    differences[id(target), number] = morph_differences(found.morph, found.mesh, number)
                moved, turned = differences.get((id(target), number), (None, None))
                binding = None
                if found.skin is not None and nodes is not None:
                    rest = world[instance.node]
                    binding = _bound(found.skin, nodes, primitive.points, _returning(rest) @ self._root)
                yield Part(instance, primitive, found.mesh.step, binding, morph, moved, turned)

    def _count(self, primitive: Primitive) -> None:
        """Refuse a scene that shows more than the limits allow."""
        limits = self._document.limits
        self._counts += [1, len(primitive.faces), len(primitive.positions)]
        for unit, count, most in zip(
            ("primitives", "triangles", "vertices"),
            self._counts,
            (limits.primitives, limits.triangles, limits.vertices),
            strict=True,
        ):
            if count > most:
                message = f"the scene has more {unit} than the limit of {most:,}"
                raise self._document.fail(ReasonCode.OUT_OF_MEMORY, message)

    def _target(self, instance: Instance) -> Element:
        tag = instance.element.tag.removeprefix("instance_")
        owner = named(self._nodes.element(self._nodes.parents[instance.node]))
        return self._document.need(instance.element.get("url", ""), owner, tag)

    def _number_of(self, morph: Morph) -> int:
        """Return the index of a morph, which channels find by the source of its weights, or by its array."""
        if id(morph.source) not in self._morph_of:
            for element in (morph.source, *morph.source.iterfind("float_array")):
                self._morph_of[id(element)] = len(self._morphs)
            self._morphs.append(morph)
        return self._morph_of[id(morph.source)]


def _read(document: Document, target: Element) -> Deformed:
    return read_controller(document, target) if target.tag == "controller" else Deformed(read_mesh(document, target))


def _bound(skin: Skin, nodes: Int64Array, points: Int64Array, resting: Float64Array) -> Binding:
    """Return how vertices follow nodes.

    Args:
        skin: the skin.
        nodes: (J + 1,) nodes of its joints, and its own node.
        points: (V,) position of the mesh that each vertex shows.
        resting: (4, 4) transform from the bind shape to the own node.
    """
    joints, weights = skin.joints[points], skin.weights[points]
    inverse_bind = np.concatenate([skin.inverse_bind, resting[None]]) @ skin.bind_shape
    weighted = np.zeros(len(nodes), bool)
    weighted[joints[weights != 0]] = True
    return Binding(nodes, inverse_bind, joints, weights, weighted)


def _root_matrix(document: Document) -> Float64Array:
    """Return the (4, 4) transform from the axes and unit of a document to Y up and meters."""
    asset = document.tree.find("asset")
    unit = None if asset is None else asset.find("unit")
    axis = None if asset is None else asset.find("up_axis")
    meters = 1.0
    if unit is not None and unit.get("meter") is not None:
        try:
            meters = float(unit.get("meter", "").replace(",", "."))
        except ValueError:
            meters = float("nan")
        if not 0 < meters < np.inf:
            document.warn(f"the unit of {(unit.get('meter') or '')[:20]!r} meters is not a positive number: 1 is used")
            meters = 1.0
    scale = np.diag([meters, meters, meters, 1.0])
    return up_axis("Y_UP" if axis is None else (axis.text or "").strip()) @ scale


def _returning(matrix: Float64Array) -> Float64Array:
    """Return the inverse of a (4, 4) matrix; the identity if it is singular."""
    try:
        return np.asarray(np.linalg.inv(matrix))
    except np.linalg.LinAlgError:
        return np.eye(4)


def _with(values: Float64Array, places: Int64Array | None, found: Float64Array) -> Float64Array:
    """Return a copy of values with some of them replaced, those within range."""
    changed = values.copy()
    if places is None:
        count = min(len(found), len(changed))
        changed[:count] = found[:count]
    else:
        inside = places < len(changed)
        changed[places[inside]] = found[inside]
    return changed


def _stretches(matrices: Float64Array) -> Float64Array:
    """Return upper bounds (N,) of how much (N, 4, 4) or (N, 3, 3) matrices stretch a vector."""
    return np.asarray(np.sqrt((matrices[:, :3, :3] ** 2).sum(axis=(1, 2))))


def _curve(channel: Channel) -> Curve:
    if not isinstance(channel.curve, Curve):
        raise channel.curve
    return channel.curve

"""Animations from JSON (glTF 2.0 section 3.11 and KHR_animation_pointer)."""

from __future__ import annotations

import re

from helix4d.assets.gltf.parse.model import Animation, Channel, Interpolation, Property
from helix4d.assets.gltf.parse.values import JsonObject
from helix4d.assets.limits import Limits
from helix4d.core import ReasonCode

_NODE_POINTER = re.compile(r"^/nodes/(\d{1,9})/(translation|rotation|scale|weights)$")
_VISIBLE_POINTER = re.compile(r"^/nodes/(\d{1,9})/extensions/KHR_node_visibility/visible$")
_MESH_POINTER = re.compile(r"^/meshes/(\d{1,9})/weights$")
_PATHS = {
    "translation": Property.TRANSLATION,
    "rotation": Property.ROTATION,
    "scale": Property.SCALE,
    "weights": Property.WEIGHTS,
}


def parse_animations(
    root: JsonObject, nodes: int, meshes: int, accessors: int, limits: Limits, warnings: list[str]
) -> tuple[Animation, ...]:
    """Animations with the channels that have a target; the others are ignored, as the specification asks."""
    entries = root.children("animations")
    if len(entries) > limits.animations:
        root.fail(f"has {len(entries)} animations, limit {limits.animations}", ReasonCode.OUT_OF_MEMORY)
    ignored: set[str] = set()
    animations = []
    for entry in entries:
        samplers = [
            (s.index("input", accessors), s.index("output", accessors), _interpolation(s))
            for s in entry.children("samplers")
        ]
        channels = []
        for channel in entry.children("channels"):
            keys, values, interpolation = samplers[channel.index("sampler", len(samplers))]
            target = _target(channel.child("target"), nodes, meshes, ignored)
            if target is not None:
                channels.append(Channel(*target, keys, values, interpolation, channel.where))
        animations.append(Animation(entry.text("name", ""), tuple(channels)))
    if ignored:
        shown = ", ".join(sorted(ignored)[:3])
        warnings.append(f"{len(ignored)} animated properties are ignored (such as {shown})")
    return tuple(animations)


def _interpolation(sampler: JsonObject) -> Interpolation:
    name = sampler.text("interpolation", "LINEAR")
    if name not in Interpolation.__members__:
        sampler.fail(f"interpolation {name[:20]!r} does not exist")
    return Interpolation(name)


def _target(target: JsonObject, nodes: int, meshes: int, ignored: set[str]) -> tuple[int, Property] | None:
    path = target.text("path")
    pointer = target.extension("KHR_animation_pointer")
    if path == "pointer" and pointer is not None:
        return _pointer_target(pointer, nodes, meshes, ignored)
    if not target.has("node"):
        return None
    node = target.index("node", nodes)
    if path not in _PATHS:
        ignored.add(path[:80])
        return node, Property.IGNORED
    return node, _PATHS[path]


def _pointer_target(pointer: JsonObject, nodes: int, meshes: int, ignored: set[str]) -> tuple[int, Property]:
    text = pointer.text("pointer")
    if found := _NODE_POINTER.match(text):
        target, what, size = int(found[1]), _PATHS[found[2]], nodes
    elif found := _VISIBLE_POINTER.match(text):
        target, what, size = int(found[1]), Property.VISIBLE, nodes
    elif found := _MESH_POINTER.match(text):
        target, what, size = int(found[1]), Property.MESH_WEIGHTS, meshes
    else:
        ignored.add(text[:80])
        return 0, Property.IGNORED
    if target >= size:
        pointer.fail(f"the pointer {text[:80]!r} leads nowhere")
    return target, what

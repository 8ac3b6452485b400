"""Parse animations (glTF 2.0 section 3.11 and KHR_animation_pointer)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from helix4d.assets.gltf.parse.checked import Checked, parse_each
from helix4d.assets.gltf.parse.material_settings import MaterialSetting, material_setting
from helix4d.assets.gltf.parse.model import Animation, Channel, Interpolation, Property
from helix4d.assets.gltf.parse.values import JsonObject
from helix4d.assets.limits import Limits
from helix4d.core import ReasonCode

_NODE_POINTER = re.compile(r"^/nodes/(\d{1,9})/(translation|rotation|scale|weights)$")
_WEIGHT_POINTER = re.compile(r"^/(nodes|meshes)/(\d{1,9})/weights/(\d{1,9})$")
_VISIBLE_POINTER = re.compile(r"^/nodes/(\d{1,9})/extensions/KHR_node_visibility/visible$")
_MESH_POINTER = re.compile(r"^/meshes/(\d{1,9})/weights$")
_MODES = tuple(Interpolation)
_PATHS = {
    "translation": Property.TRANSLATION,
    "rotation": Property.ROTATION,
    "scale": Property.SCALE,
    "weights": Property.WEIGHTS,
}


@dataclass(frozen=True)
class _Target:
    """Target, property, element and setting of a `Channel`."""

    target: int
    property: Property
    element: int | None = None
    setting: MaterialSetting | None = None


def parse_animations(
    root: JsonObject, nodes: int, meshes: int, accessors: int, limits: Limits, warnings: list[str]
) -> Checked[Animation]:
    """Parse the animations. Channels without a target are ignored, as the specification requires."""
    entries, materials = root.children("animations"), root.children("materials")
    if len(entries) > limits.animations:
        message = f"has {len(entries):,} animations, more than the limit of {limits.animations:,}"
        root.fail(message, ReasonCode.OUT_OF_MEMORY)
    ignored: set[str] = set()

    def parse(entry: JsonObject) -> Animation:
        samplers = [
            (s.index("input", accessors), s.index("output", accessors), s.choice("interpolation", _MODES, "LINEAR"))
            for s in entry.children("samplers")
        ]
        channels = []
        for channel in entry.children("channels"):
            times, values, interpolation = samplers[channel.index("sampler", len(samplers))]
            found = _target(channel.child("target"), nodes, meshes, materials, ignored)
            if found is not None:
                channels.append(
                    Channel(
                        target=found.target,
                        property=found.property,
                        element=found.element,
                        input=times,
                        output=values,
                        interpolation=Interpolation(interpolation),
                        where=channel.where,
                        setting=found.setting,
                    )
                )
        return Animation(entry.text("name", ""), tuple(channels))

    animations = parse_each(entries, parse)
    if ignored:
        names = ", ".join(sorted(ignored)[:3]) + (f" and {len(ignored) - 3:,} more" if len(ignored) > 3 else "")
        warnings.append(f"animations: properties that are not supported ({names}): ignored")
    return animations


def _target(
    target: JsonObject, nodes: int, meshes: int, materials: Sequence[JsonObject], ignored: set[str]
) -> _Target | None:
    path = target.text("path")
    pointer = target.extension("KHR_animation_pointer")
    if path == "pointer" and pointer is not None:
        return _pointer_target(pointer, nodes, meshes, materials, ignored)
    if not target.has("node"):
        return None
    node = target.index("node", nodes)
    if path not in _PATHS:
        ignored.add(path[:80])
        return _Target(node, Property.IGNORED)
    return _Target(node, _PATHS[path])


def _pointer_target(
    pointer: JsonObject, nodes: int, meshes: int, materials: Sequence[JsonObject], ignored: set[str]
) -> _Target:
    text = pointer.text("pointer")
    element = setting = None
    if match := _NODE_POINTER.match(text):
        target, animated, size = int(match[1]), _PATHS[match[2]], nodes
    elif match := _VISIBLE_POINTER.match(text):
        target, animated, size = int(match[1]), Property.VISIBLE, nodes
    elif match := _MESH_POINTER.match(text):
        target, animated, size = int(match[1]), Property.MESH_WEIGHTS, meshes
    elif match := _WEIGHT_POINTER.match(text):
        target, element = int(match[2]), int(match[3])
        of_node = match[1] == "nodes"
        animated, size = (Property.WEIGHTS, nodes) if of_node else (Property.MESH_WEIGHTS, meshes)
    elif found := material_setting(text, materials):
        (target, setting), animated, size = found, Property.MATERIAL, len(materials)
    else:
        ignored.add(text[:80])
        return _Target(0, Property.IGNORED)
    if target >= size:
        pointer.fail(f"pointer {text[:80]!r} refers to an object that does not exist")
    return _Target(target, animated, element, setting)

"""Turns the nodes that compute colors and numbers into `Signal`s, with the formulas of Blender's own shaders."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any, Protocol

import numpy as np

from helix4d.assets.blender import signals
from helix4d.assets.blender.graph import Origin, UnreadableError, label
from helix4d.assets.blender.signals import Signal, VertexColor, channel, computed, number, with_alpha
from helix4d.core.arrays import FloatArray

_SAMPLES = 1024
"""Number of samples of a color ramp or curve; fewer would show visible steps."""


class Reader(Protocol):
    """Reads the inputs of the nodes of one material."""

    def signal(self, socket: Any, groups: tuple[Any, ...]) -> Signal:
        """Return what drives an input socket of a node inside `groups`."""
        ...

    def warn(self, message: str) -> None:
        """Record a message about something that is not read as it renders."""
        ...


def signal_of(reader: Reader, found: Origin) -> Signal:
    """Return the output of a node that computes a color or number.

    Raises:
        UnreadableError: if the node, or its setting, is not supported.
    """
    node = found.node
    if node.type in _OUTPUTS:
        return _OUTPUTS[node.type](reader, found)
    if node.type in _FUNCTIONS:
        function = _FUNCTIONS[node.type](node)
        inputs = [reader.signal(socket, found.groups) for socket in node.inputs if socket.enabled]
        return computed(function, *inputs)
    raise UnreadableError(f"{label(node)} is not supported")


# Nodes without inputs, and those of which each output is something else.


def _constant(_: Reader, found: Origin) -> Signal:
    value = found.socket.default_value
    if isinstance(value, float):
        return number(value)
    red, green, blue, alpha = (float(part) for part in value)
    return signals.Constant((red, green, blue, alpha))


def _vertex_color(_: Reader, found: Origin) -> Signal:
    node = found.node
    if node.type == "ATTRIBUTE" and (node.attribute_type != "GEOMETRY" or not node.attribute_name):
        raise UnreadableError(f"{label(node)} does not read an attribute of the mesh, which is not supported")
    color = VertexColor(node.layer_name if node.type == "VERTEX_COLOR" else node.attribute_name)
    if found.socket.name == "Alpha":
        return channel(color, 3)
    return signals.average(color) if found.socket.name == "Fac" else color


def _light_path(_: Reader, found: Origin) -> Signal:
    if found.socket.name.startswith("Is "):
        return number(float(found.socket.name == "Is Camera Ray"))
    raise UnreadableError(f"output {found.socket.name!r} of {label(found.node)} is not supported")


def _view_dependent(reader: Reader, found: Origin) -> Signal:
    reader.warn(f"{label(found.node)} depends on the view: its value for a surface seen from the front is used")
    if found.node.type == "LAYER_WEIGHT":
        return number(0.0)
    ior = reader.signal(found.node.inputs["IOR"], found.groups)
    return computed(lambda value: with_alpha(((value[:, :3] - 1) / (value[:, :3] + 1)) ** 2, value), ior)


def _geometry(_: Reader, found: Origin) -> Signal:
    if found.socket.name == "Backfacing":
        return number(0.0)
    raise UnreadableError(f"output {found.socket.name!r} of {label(found.node)} is not supported")


def _occlusion(reader: Reader, found: Origin) -> Signal:
    reader.warn(f"{label(found.node)}: ambient occlusion is not supported: ignored")
    return number(1.0) if found.socket.name == "AO" else reader.signal(found.node.inputs["Color"], found.groups)


def _separate(reader: Reader, found: Origin) -> Signal:
    node = found.node
    source = reader.signal(node.inputs[0], found.groups)
    mode = getattr(node, "mode", "RGB")
    if mode == "HSV":
        source = computed(_to_hsv, source)
    elif mode != "RGB":
        raise UnreadableError(f"{label(node)} in mode {mode} is not supported")
    return channel(source, [own.identifier for own in node.outputs].index(found.socket.identifier))


def _mix(reader: Reader, found: Origin) -> Signal:
    node = found.node
    factor, one, two = (reader.signal(socket, found.groups) for socket in node.inputs if socket.enabled)
    is_color = node.type == "MIX_RGB" or node.data_type == "RGBA"
    blend = node.blend_type if is_color else "MIX"
    clamps_factor = node.type == "MIX_RGB" or node.clamp_factor
    clamps_result = is_color and (node.use_clamp if node.type == "MIX_RGB" else node.clamp_result)
    if blend not in _BLENDS:
        raise UnreadableError(f"{label(node)} in mode {blend} is not supported")
    if clamps_factor:
        factor = computed(_clamped, factor)
    whole = isinstance(factor, signals.Constant) and factor.rgb == (1.0, 1.0, 1.0)
    if whole and blend == "MULTIPLY":
        result = signals.product(one, two)
    elif whole and blend == "MIX":
        result = two
    elif blend == "MIX":
        result = signals.mixture(factor, one, two)
    else:
        result = computed(partial(_blended, _BLENDS[blend]), factor, one, two)
    return computed(_clamped, result) if clamps_result else result


def _math(reader: Reader, found: Origin) -> Signal:
    node = found.node
    operations = _MATH if node.type == "MATH" else _VECTOR_MATH
    if node.operation not in operations:
        raise UnreadableError(f"{label(node)} with the operation {node.operation} is not supported")
    inputs = [reader.signal(socket, found.groups) for socket in node.inputs if socket.enabled]
    if node.operation in ("MULTIPLY", "SCALE"):
        result = signals.product(*inputs)
    elif node.operation == "SUBTRACT" and isinstance(inputs[0], signals.Constant) and inputs[0].rgb == (1.0, 1.0, 1.0):
        result = signals.complement(inputs[1])
    else:
        function = operations[node.operation]
        result = computed(partial(_on_colors, function), *inputs, is_binary=node.operation in _BINARY)
    return computed(_clamped, result) if getattr(node, "use_clamp", False) else result


def _ramp(reader: Reader, found: Origin) -> Signal:
    ramp = found.node.color_ramp
    table = np.array([tuple(ramp.evaluate(step / (_SAMPLES - 1))) for step in range(_SAMPLES)])
    place = reader.signal(found.node.inputs["Fac"], found.groups)
    result = computed(lambda value: table[_steps(value[:, 0])], place)
    return channel(result, 3) if found.socket.name == "Alpha" else result


_OUTPUTS: Mapping[str, Callable[[Reader, Origin], Signal]] = MappingProxyType(
    {
        "RGB": _constant,
        "VALUE": _constant,
        "VERTEX_COLOR": _vertex_color,
        "ATTRIBUTE": _vertex_color,
        "LIGHT_PATH": _light_path,
        "FRESNEL": _view_dependent,
        "LAYER_WEIGHT": _view_dependent,
        "NEW_GEOMETRY": _geometry,
        "AMBIENT_OCCLUSION": _occlusion,
        "SEPARATE_COLOR": _separate,
        "SEPRGB": _separate,
        "SEPXYZ": _separate,
        "MIX": _mix,
        "MIX_RGB": _mix,
        "MATH": _math,
        "VECT_MATH": _math,
        "VALTORGB": _ramp,
    }
)


# Nodes with one output, as functions of their inputs in order.


def _gamma(_: Any) -> signals.Function:
    def function(color: FloatArray, gamma: FloatArray) -> FloatArray:
        rgb = np.where(color[:, :3] > 0, np.abs(color[:, :3]) ** gamma[:, :3], color[:, :3])
        return with_alpha(rgb, color)

    return function


def _invert(_: Any) -> signals.Function:
    def function(factor: FloatArray, color: FloatArray) -> FloatArray:
        return with_alpha(color[:, :3] + factor[:, :3] * (1 - 2 * color[:, :3]), color)

    return function


def _brightness(_: Any) -> signals.Function:
    def function(color: FloatArray, bright: FloatArray, contrast: FloatArray) -> FloatArray:
        slope, offset = 1 + contrast[:, :3], bright[:, :3] - contrast[:, :3] / 2
        return with_alpha(np.maximum(slope * color[:, :3] + offset, 0), color)

    return function


def _hue(_: Any) -> signals.Function:
    def function(*inputs: FloatArray) -> FloatArray:
        hue, saturation, value, factor, color = inputs
        turned = _to_hsv(color)
        turned[:, :1] = (turned[:, :1] + hue[:, :1] + 0.5) % 1
        turned[:, 1:2] = np.clip(turned[:, 1:2] * saturation[:, :1], 0, 1)
        turned[:, 2:3] = turned[:, 2:3] * value[:, :1]
        changed = np.maximum(_to_rgb(turned)[:, :3], 0)
        return with_alpha(color[:, :3] + factor[:, :3] * (changed - color[:, :3]), color)

    return function


def _curves(node: Any) -> signals.Function:
    mapping = node.mapping
    mapping.initialize()
    places = np.arange(_SAMPLES) / (_SAMPLES - 1)
    red, green, blue, combined = (
        np.array([mapping.evaluate(curve, float(place)) for place in places]) for curve in mapping.curves
    )

    def function(factor: FloatArray, color: FloatArray) -> FloatArray:
        curved = np.stack(
            [
                np.interp(np.interp(color[:, n], places, combined), places, own)
                for n, own in enumerate((red, green, blue))
            ],
            axis=1,
        )
        return with_alpha(color[:, :3] + factor[:, :3] * (curved - color[:, :3]), color)

    return function


def _clamp(node: Any) -> signals.Function:
    def function(value: FloatArray, least: FloatArray, most: FloatArray) -> FloatArray:
        low, high = least[:, :3], most[:, :3]
        if node.clamp_type == "RANGE":
            low, high = np.minimum(low, high), np.maximum(low, high)
        return with_alpha(np.minimum(np.maximum(value[:, :3], low), high), value)

    return function


def _map_range(node: Any) -> signals.Function:
    if node.data_type != "FLOAT" or node.interpolation_type != "LINEAR":
        raise UnreadableError(f"{label(node)} of type {node.data_type} {node.interpolation_type} is not supported")
    clamps = bool(node.clamp)

    def function(*inputs: FloatArray) -> FloatArray:
        value, from_min, from_max, to_min, to_max = (array[:, :3] for array in inputs)
        share = np.where(from_max != from_min, (value - from_min) / (from_max - from_min), 0)
        result = to_min + share * (to_max - to_min)
        if clamps:
            result = np.clip(result, np.minimum(to_min, to_max), np.maximum(to_min, to_max))
        return with_alpha(result, inputs[0])

    return function


def _combine(node: Any) -> signals.Function:
    mode = getattr(node, "mode", "RGB")
    if mode not in ("RGB", "HSV"):
        raise UnreadableError(f"{label(node)} in mode {mode} is not supported")

    def function(*parts: FloatArray) -> FloatArray:
        size = max(len(part) for part in parts)
        columns = [np.broadcast_to(part[:, 0], (size,)) for part in parts]
        color = np.stack([*columns, np.ones(size)], axis=1)
        return _to_rgb(color) if mode == "HSV" else color

    return function


_FUNCTIONS: Mapping[str, Callable[[Any], signals.Function]] = MappingProxyType(
    {
        "GAMMA": _gamma,
        "INVERT": _invert,
        "BRIGHTCONTRAST": _brightness,
        "HUE_SAT": _hue,
        "CURVE_RGB": _curves,
        "RGBTOBW": lambda _: lambda color: np.repeat(color[:, :3] @ signals.LUMINANCE, 4).reshape(-1, 4),
        "CLAMP": _clamp,
        "MAP_RANGE": _map_range,
        "COMBINE_COLOR": _combine,
        "COMBRGB": _combine,
        "COMBXYZ": _combine,
    }
)


def _blended(blend: Callable[..., FloatArray], factor: FloatArray, one: FloatArray, two: FloatArray) -> FloatArray:
    return with_alpha(blend(factor[:, :3], one[:, :3], two[:, :3]), one)


def _on_colors(function: Callable[..., FloatArray], *inputs: FloatArray) -> FloatArray:
    return with_alpha(function(*(array[:, :3] for array in inputs)), inputs[0])


def _overlay(t: FloatArray, a: FloatArray, b: FloatArray) -> FloatArray:
    return np.where(a < 0.5, a * (1 - t + 2 * t * b), 1 - (1 - t + 2 * t * (1 - b)) * (1 - a))


def _soft_light(t: FloatArray, a: FloatArray, b: FloatArray) -> FloatArray:
    return np.asarray((1 - t) * a + t * ((1 - a) * b * a + a * (1 - (1 - b) * (1 - a))))


_BLENDS: Mapping[str, Callable[..., FloatArray]] = MappingProxyType(
    {
        "MIX": lambda t, a, b: a * (1 - t) + b * t,
        "ADD": lambda t, a, b: a + t * b,
        "MULTIPLY": lambda t, a, b: a * (1 - t + t * b),
        "SUBTRACT": lambda t, a, b: a - t * b,
        "SCREEN": lambda t, a, b: 1 - (1 - t + t * (1 - b)) * (1 - a),
        "DIVIDE": lambda t, a, b: np.where(b != 0, (1 - t) * a + t * a / b, a),
        "DIFFERENCE": lambda t, a, b: (1 - t) * a + t * np.abs(a - b),
        "EXCLUSION": lambda t, a, b: np.maximum((1 - t) * a + t * (a + b - 2 * a * b), 0),
        "DARKEN": lambda t, a, b: (1 - t) * a + t * np.minimum(a, b),
        "LIGHTEN": lambda t, a, b: (1 - t) * a + t * np.maximum(a, b),
        "OVERLAY": _overlay,
        "SOFT_LIGHT": _soft_light,
        "LINEAR_LIGHT": lambda t, a, b: a + t * (2 * b - 1),
    }
)
"""Blend modes as functions of factor, first and second color."""
_COMMON: Mapping[str, Callable[..., FloatArray]] = {
    "ADD": lambda a, b: a + b,
    "SUBTRACT": lambda a, b: a - b,
    "MULTIPLY": lambda a, b: a * b,
    "DIVIDE": lambda a, b: np.where(b != 0, a / b, 0),
    "MULTIPLY_ADD": lambda a, b, c: a * b + c,
    "MINIMUM": np.minimum,
    "MAXIMUM": np.maximum,
    "ABSOLUTE": np.abs,
    "FLOOR": np.floor,
    "CEIL": np.ceil,
}
_MATH: Mapping[str, Callable[..., FloatArray]] = MappingProxyType(
    {
        **_COMMON,
        "POWER": lambda a, b: np.where(a >= 0, np.abs(a) ** b, 0),
        "SQRT": lambda a: np.sqrt(np.maximum(a, 0)),
        "FRACT": lambda a: a - np.floor(a),
        "ROUND": lambda a: np.floor(a + 0.5),
        "SIGN": np.sign,
        "LESS_THAN": lambda a, b: (a < b).astype(float),
        "GREATER_THAN": lambda a, b: (a > b).astype(float),
    }
)
_VECTOR_MATH: Mapping[str, Callable[..., FloatArray]] = MappingProxyType(
    {**_COMMON, "SCALE": lambda a, b: a * b, "FRACTION": lambda a: a - np.floor(a)}
)
_BINARY = ("LESS_THAN", "GREATER_THAN", "ROUND")


def _clamped(value: FloatArray) -> FloatArray:
    return with_alpha(np.clip(value[:, :3], 0, 1), value)


def _steps(place: FloatArray) -> np.ndarray:
    return np.rint(np.clip(place, 0, 1) * (_SAMPLES - 1)).astype(np.intp)


def _to_hsv(color: FloatArray) -> FloatArray:
    rgb = color[:, :3]
    most, least = rgb.max(axis=1), rgb.min(axis=1)
    span = most - least
    safe = np.where(span > 0, span, 1)
    red, green, blue = ((most - rgb[:, n]) / safe for n in range(3))
    by_channel = [blue - green, 2 + red - blue, 4 + green - red]
    hue = np.choose(rgb.argmax(axis=1), by_channel) / 6 % 1
    saturation = np.where(most > 0, span / np.where(most > 0, most, 1), 0)
    return np.stack([np.where(span > 0, hue, 0), saturation, most, color[:, 3]], axis=1)


def _to_rgb(hsv: FloatArray) -> FloatArray:
    hue, saturation, value = hsv[:, 0], hsv[:, 1], hsv[:, 2]
    shares = [np.clip(np.abs(hue * 6 - 3) - 1, 0, 1), *(np.clip(2 - np.abs(hue * 6 - n), 0, 1) for n in (2, 4))]
    columns = [((share - 1) * saturation + 1) * value for share in shares]
    return np.stack([*columns, hsv[:, 3]], axis=1)

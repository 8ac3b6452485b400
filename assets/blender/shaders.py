"""Reads what drives the output of a material: one surface with the parameters that `Material` has, as signals."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from types import MappingProxyType
from typing import Any

from helix4d.assets.blender import signals
from helix4d.assets.blender.color_nodes import signal_of
from helix4d.assets.blender.coordinates import placement
from helix4d.assets.blender.graph import Origin, UnreadableError, label, origin
from helix4d.assets.blender.signals import BLACK, WHITE, Constant, Signal, Texel, number
from helix4d.core.arrays import UInt8Array

_MOST_NODES = 5000
"""Bound of the nodes that are visited in one material: nested groups can multiply them."""
_DEEPEST = 60
ENGINE = "CYCLES"
"""Render engine whose material output is read; an output for all engines also applies to it."""


@dataclass(frozen=True)
class Bumps:
    """A tangent-space normal map and its strength."""

    color: Signal
    strength: float


@dataclass(frozen=True)
class Surface:
    """A surface.

    Attributes:
        color: base color.
        alpha, metallic, roughness, transmission: numbers.
        emission: emitted color, including its strength.
        ior: index of refraction.
        bumps: normal map, or None.
        scatters: whether it reflects or refracts light; it may only emit or pass it otherwise.
        is_clear: whether it only passes light.
        kind: name of its shader, for messages.
    """

    color: Signal = BLACK
    alpha: Signal = WHITE
    metallic: Signal = number(0.0)  # noqa: RUF009 (frozen)
    roughness: Signal = WHITE
    transmission: Signal = number(0.0)  # noqa: RUF009 (frozen)
    emission: Signal = BLACK
    ior: float = 1.5
    bumps: Bumps | None = None
    scatters: bool = True
    is_clear: bool = False
    kind: str = ""


class ShaderReader:
    """Reads the graph of one material.

    Args:
        material: the Blender material, which uses nodes.
        pixels_of: returns the (H, W, 4) uint8 pixels of a Blender image; None, with a warning, if it is unavailable.
        warn: receives what is not read as it renders.
    """

    def __init__(
        self, material: Any, pixels_of: Callable[[Any], UInt8Array | None], warn: Callable[[str], None]
    ) -> None:
        self._material, self._pixels_of, self._warn = material, pixels_of, warn
        self._known: dict[object, Signal] = {}
        self._visited = self._depth = 0

    def surface(self) -> Surface:
        """Return what drives the surface of the active output; a black one, with a warning, if nothing does."""
        output = self._material.node_tree.get_output_node(ENGINE)
        if output is None:
            self.warn("has no active output: it renders black")
            return Surface()
        if output.inputs["Displacement"].is_linked:
            self.warn("displacement is not supported: ignored")
        if output.inputs["Surface"].is_linked:
            return self._shader(output.inputs["Surface"], ())
        if output.inputs["Volume"].is_linked:
            self.warn("volumes are not supported: its surface is invisible")
            return _CLEAR
        self.warn("nothing drives its surface: it renders black")
        return Surface()

    def warn(self, message: str) -> None:
        """Record a message about the material."""
        self._warn(f"material {self._material.name[:40]!r}: {message}")

    def signal(self, socket: Any, groups: tuple[Any, ...]) -> Signal:
        """Return what drives an input socket; its own value, with a warning, if it cannot be read."""
        try:
            found = origin(socket, groups)
            if found.key() not in self._known:
                self._known[found.key()] = self._converted(self._read(found), found.types)
            return self._known[found.key()]
        except UnreadableError as error:
            self.warn(f"{error}: {socket.name} of {label(socket.node)} keeps its default value")
            return _own_value(socket)

    def _read(self, found: Origin) -> Signal:
        if found.node is None:
            return _own_value(found.socket)
        with self._bounded():
            if found.node.type == "TEX_IMAGE":
                return self._texel(found)
            if found.node.type == "SHADERTORGB":
                return self._lit(found)
            if found.socket.type == "SHADER":
                raise UnreadableError(f"{label(found.node)} is a shader, not a color")
            return signal_of(self, found)

    def _bounded(self) -> _Bound:
        return _Bound(self)

    def _converted(self, signal: Signal, types: tuple[str, ...]) -> Signal:
        for before, after in pairwise(types):
            if after == "VALUE" and before == "RGBA":
                signal = signals.luminance(signal)
            elif after == "VALUE" and before == "VECTOR":
                signal = signals.average(signal)
        return signal

    def _texel(self, found: Origin) -> Signal:
        node, image = found.node, found.node.image
        pixels = None if image is None else self._pixels_of(image)
        if image is None:
            self.warn(f"{label(node)} has no image: it renders black")
            return BLACK
        if pixels is None:
            return WHITE
        place = placement(node, found.groups, self.warn)
        is_data = image.colorspace_settings.name not in _SRGB
        if image.colorspace_settings.name not in _SRGB | _LINEAR:
            self.warn(f"image {image.name[:40]!r}: the color space {image.colorspace_settings.name!r} is not "
                      "supported: read as linear")  # fmt: skip
        key = node.name, tuple(group.name for group in found.groups)
        uses_alpha = node.outputs["Alpha"].is_linked
        premultiplied = (
            image.alpha_mode in ("STRAIGHT", "PREMUL")
            and not uses_alpha
            and not is_data
            and bool((pixels[..., 3] < 255).any())
        )
        texel = self._known.setdefault(key, Texel(pixels, place, is_data, premultiplied))
        if found.socket.name != "Alpha":
            return texel
        return WHITE if image.alpha_mode == "NONE" else signals.channel(texel, 3)

    def _lit(self, found: Origin) -> Signal:
        """Return the color of a shader that is converted to a color, as if fully lit."""
        self.warn(f"{label(found.node)} depends on the lighting: its shader is treated as fully lit")
        surface = self._shader(found.node.inputs["Shader"], found.groups)
        if found.socket.name == "Alpha":
            return surface.alpha
        return surface.color if surface.scatters else surface.emission

    def _shader(self, socket: Any, groups: tuple[Any, ...]) -> Surface:
        """Return the surface that drives a socket for shaders; a black one, with a warning, if it cannot be read."""
        try:
            found = origin(socket, groups)
            if found.node is None:
                return Surface(scatters=False)  # Blender shows an empty socket in black
            with self._bounded():
                if found.socket.type != "SHADER":  # a color that is connected to a shader is emitted
                    return Surface(emission=self.signal(socket, groups), scatters=False, kind="Emission")
                read = _SHADERS.get(found.node.type)
                if read is None:
                    raise UnreadableError(f"{label(found.node)} is not supported")
                return read(self, found)
        except UnreadableError as error:
            self.warn(f"{error}: shown as a diffuse surface with its viewport color")
            red, green, blue = (float(value) for value in tuple(self._material.diffuse_color)[:3])
            return Surface(color=Constant((red, green, blue, 1.0)))

    def inputs(self, found: Origin, *names: str) -> list[Signal]:
        """Return what drives the named inputs of a node."""
        return [self.signal(found.node.inputs[name], found.groups) for name in names]

    def constant(self, found: Origin, name: str, default: float) -> float:
        """Return an input that must be constant; `default`, with a warning, if it is not."""
        (value,) = self.inputs(found, name)
        if isinstance(value, Constant):
            return value.value[0]
        self.warn(f"{label(found.node)}: {name} is not constant, which is not supported: {default:g} is used")
        return default

    def bumps(self, found: Origin) -> Bumps | None:
        """Return the normal map of a shader node."""
        try:
            return self._bumps(found.node.inputs["Normal"], found.groups)
        except UnreadableError as error:
            self.warn(f"{error}: the normals of the mesh are used")
            return None

    def _bumps(self, socket: Any, groups: tuple[Any, ...]) -> Bumps | None:
        found = origin(socket, groups)
        if found.node is None or (found.node.type == "NEW_GEOMETRY" and found.socket.name == "Normal"):
            return None
        if found.node.type == "BUMP":
            if found.node.inputs["Height"].is_linked:
                self.warn(f"{label(found.node)}: bump maps are not supported: ignored")
            return self._bumps(found.node.inputs["Normal"], found.groups)
        if found.node.type != "NORMAL_MAP" or found.node.space != "TANGENT":
            raise UnreadableError(f"{label(found.node)} is not a tangent-space normal map, which is not supported")
        (color,) = self.inputs(found, "Color")
        return Bumps(color, self.constant(found, "Strength", 1.0))


class _Bound:
    """Counts the nodes that are visited, and how deep."""

    def __init__(self, reader: ShaderReader) -> None:
        self._reader = reader

    def __enter__(self) -> None:
        reader = self._reader
        reader._visited += 1
        reader._depth += 1
        if reader._visited > _MOST_NODES or reader._depth > _DEEPEST:
            reader._depth -= 1
            raise UnreadableError("its graph is too large")

    def __exit__(self, *_: object) -> None:
        self._reader._depth -= 1


_SRGB = frozenset({"sRGB"})
_LINEAR = frozenset({"Non-Color", "Linear", "Linear Rec.709", "Raw"})
_CLEAR = Surface(alpha=number(0.0), scatters=False, is_clear=True, kind="Transparent")


def _own_value(socket: Any) -> Signal:
    value = getattr(socket, "default_value", 0.0)
    if isinstance(value, float | int):
        return number(float(value))
    parts = [float(part) for part in value]
    return Constant((parts[0], parts[1], parts[2], parts[3] if len(parts) > 3 else 1.0))


def _principled(reader: ShaderReader, found: Origin) -> Surface:
    color, metallic, roughness, alpha, transmission = reader.inputs(
        found, "Base Color", "Metallic", "Roughness", "Alpha", "Transmission Weight"
    )
    (strength,) = reader.inputs(found, "Emission Strength")
    glows = not (isinstance(strength, Constant) and strength.value[0] == 0)
    emission = signals.product(reader.inputs(found, "Emission Color")[0], strength) if glows else BLACK
    return Surface(
        color=color,
        alpha=alpha,
        metallic=metallic,
        roughness=roughness,
        transmission=transmission,
        emission=emission,
        ior=reader.constant(found, "IOR", 1.5),
        bumps=reader.bumps(found),
        kind="Principled BSDF",
    )


def _diffuse(reader: ShaderReader, found: Origin) -> Surface:
    if found.node.type != "BSDF_DIFFUSE":
        reader.warn(f"{label(found.node)} is shown as a diffuse surface")
    return Surface(color=reader.inputs(found, "Color")[0], bumps=reader.bumps(found), kind=found.node.bl_label)


def _glossy(reader: ShaderReader, found: Origin) -> Surface:
    color, roughness = reader.inputs(found, "Color", "Roughness")
    return Surface(color, metallic=WHITE, roughness=roughness, bumps=reader.bumps(found), kind=found.node.bl_label)


def _glass(reader: ShaderReader, found: Origin) -> Surface:
    color, roughness = reader.inputs(found, "Color", "Roughness")
    ior = reader.constant(found, "IOR", 1.5)
    bumps = reader.bumps(found)
    return Surface(color, roughness=roughness, transmission=WHITE, ior=ior, bumps=bumps, kind=found.node.bl_label)


def _emission(reader: ShaderReader, found: Origin) -> Surface:
    color, strength = reader.inputs(found, "Color", "Strength")
    return Surface(emission=signals.product(color, strength), scatters=False, kind="Emission")


def _transparent(reader: ShaderReader, found: Origin) -> Surface:
    (color,) = reader.inputs(found, "Color")
    if isinstance(color, Constant) and len(set(color.rgb)) > 1:
        reader.warn(f"{label(found.node)}: colored transparency is not supported: shown in gray")
    return replace(_CLEAR, alpha=signals.complement(signals.luminance(color)))


def _holdout(reader: ShaderReader, found: Origin) -> Surface:
    reader.warn(f"{label(found.node)} cuts a hole into the image, which is not supported: shown as transparent")
    return _CLEAR


def _specular(reader: ShaderReader, found: Origin) -> Surface:
    color, roughness, emission, transparency = reader.inputs(
        found, "Base Color", "Roughness", "Emissive Color", "Transparency"
    )
    reader.warn(f"{label(found.node)}: its specular color is ignored")
    alpha = signals.complement(transparency)
    return Surface(color, alpha, roughness=roughness, emission=emission, bumps=reader.bumps(found), kind="Specular")


def _mixed(reader: ShaderReader, found: Origin) -> Surface:
    (factor,) = reader.inputs(found, "Fac")
    if isinstance(factor, Constant) and not 0 < factor.value[0] < 1:
        return reader._shader(found.node.inputs[1 if factor.value[0] <= 0 else 2], found.groups)
    one, two = (reader._shader(socket, found.groups) for socket in list(found.node.inputs)[1:3])
    for clear, other, share in ((one, two, factor), (two, one, signals.complement(factor))):
        if clear.is_clear and not other.is_clear:
            lost = signals.product(clear.alpha, signals.complement(share))
            shown = signals.product(other.alpha, share)
            return replace(other, alpha=shown if _is_zero(lost) else signals.computed(lambda a, b: a + b, shown, lost))
    if one.scatters and two.scatters and one.kind != two.kind:
        reader.warn(f"{label(found.node)}: the mixture of {one.kind} and {two.kind} is approximated by one surface")
    if one.bumps and two.bumps and one.bumps != two.bumps:
        reader.warn(f"{label(found.node)}: mixes two normal maps, which is not supported: the first is used")
    return _mean(factor, one, two)


def _mean(factor: Signal, one: Surface, two: Surface) -> Surface:
    """Return a surface with the mean parameters of two; those of reflection come from what reflects."""

    def mean(name: str) -> Signal:
        return signals.mixture(factor, getattr(one, name), getattr(two, name))

    main, other = (one, two) if one.scatters else (two, one)
    both = one.scatters == two.scatters
    return replace(
        main,
        color=mean("color"),
        alpha=mean("alpha"),
        emission=mean("emission"),
        metallic=mean("metallic") if both else main.metallic,
        roughness=mean("roughness") if both else main.roughness,
        transmission=mean("transmission") if both else main.transmission,
        bumps=main.bumps or other.bumps,
    )


def _added(reader: ShaderReader, found: Origin) -> Surface:
    one, two = (reader._shader(socket, found.groups) for socket in found.node.inputs)
    emission = _sum(one.emission, two.emission)
    if one.scatters and two.scatters:
        reader.warn(f"{label(found.node)}: the sum of {one.kind} and {two.kind} is approximated by one surface")
        return replace(_mean(number(0.5), one, two), color=_sum(one.color, two.color), emission=emission)
    main, other = (two, one) if one.is_clear or (two.scatters and not two.is_clear) else (one, two)
    if not other.is_clear or main.is_clear:
        return replace(main, emission=emission)
    reader.warn(f"{label(found.node)}: emission that is added to a transparent surface is approximated by opacity")
    return replace(main, alpha=signals.computed(_brightest, main.emission))


def _sum(one: Signal, two: Signal) -> Signal:
    if _is_zero(one) or _is_zero(two):
        return two if _is_zero(one) else one
    return signals.computed(lambda a, b: signals.with_alpha(a[:, :3] + b[:, :3], a), one, two)


def _brightest(color: Any) -> Any:
    most = color[:, :3].max(axis=1, keepdims=True).clip(0, 1)
    return signals.with_alpha(most.repeat(3, axis=1), color)


def _is_zero(signal: Signal) -> bool:
    return isinstance(signal, Constant) and signal.rgb == (0.0, 0.0, 0.0)


_SHADERS: Mapping[str, Callable[[ShaderReader, Origin], Surface]] = MappingProxyType(
    {
        "BSDF_PRINCIPLED": _principled,
        "BSDF_DIFFUSE": _diffuse,
        "BSDF_TRANSLUCENT": _diffuse,
        "BSDF_SHEEN": _diffuse,
        "BSDF_TOON": _diffuse,
        "SUBSURFACE_SCATTERING": _diffuse,
        "BSDF_GLOSSY": _glossy,
        "BSDF_GLASS": _glass,
        "BSDF_REFRACTION": _glass,
        "BSDF_TRANSPARENT": _transparent,
        "EMISSION": _emission,
        "EEVEE_SPECULAR": _specular,
        "HOLDOUT": _holdout,
        "MIX_SHADER": _mixed,
        "ADD_SHADER": _added,
    }
)

"""Reads the inputs of shading networks: constants, primvars, and UsdUVTexture nodes with their UVs.

Source: https://openusd.org/release/spec_usdpreviewsurface.html
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pxr import Sdf, Usd, UsdShade

from helix4d.assets.clip import Wrap

FIRST = Usd.TimeCode.EarliestTime()
_WRAPS = {"clamp": Wrap.CLAMP, "mirror": Wrap.MIRROR, "black": Wrap.CLAMP}
_CHANNELS = {"r": (0,), "g": (1,), "b": (2,), "a": (3,), "rgb": (0, 1, 2), "rgba": (0, 1, 2)}
_READERS = {
    "UsdPrimvarReader_float",
    "UsdPrimvarReader_float2",
    "UsdPrimvarReader_float3",
    "UsdPrimvarReader_float4",
}

Warn = Callable[[str], None]


@dataclass(frozen=True)
class Placement:
    """Mapping of a texture: the primvar of its UVs, its wrap modes, and the transform of `Texture` (glTF UVs)."""

    primvar: str
    wrap_u: Wrap
    wrap_v: Wrap
    offset: tuple[float, float] = (0.0, 0.0)
    rotation: float = 0.0
    scale: tuple[float, float] = (1.0, 1.0)


@dataclass(frozen=True)
class TextureNode:
    """A connection to a UsdUVTexture: value = texel · scale + bias in the given channels, linear unless raw.

    Attributes:
        file: image file.
        layer: layer that authors its path, or None.
        channels: indices among red, green, blue and alpha.
        color_space: "auto", "raw" or "sRGB".
        scale, bias: one number for each of red, green, blue and alpha.
        fallback: authored RGBA value for a missing image, or None.
        placement: mapping of the texture to the surface.
    """

    file: Sdf.AssetPath
    layer: Sdf.Layer | None
    channels: tuple[int, ...]
    color_space: str
    scale: tuple[float, ...]
    bias: tuple[float, ...]
    fallback: tuple[float, ...] | None
    placement: Placement


@dataclass(frozen=True)
class PrimvarNode:
    """A connection to a UsdPrimvarReader: the name of the primvar."""

    name: str


class Network:
    """Inputs of the nodes of one material.

    Args:
        warn: receives a message for every unsupported feature.
    """

    def __init__(self, warn: Warn) -> None:
        self._warn = warn

    def read(self, shader: UsdShade.Shader, name: str, default: Any) -> Any:
        """Return an input: a `TextureNode`, a `PrimvarNode`, or its earliest value; `default` if it has none."""
        source = self._source(shader, name)
        if source is None:
            return default
        if UsdShade.Utils.GetType(source.GetName()) != UsdShade.AttributeType.Output:
            value = source.Get(FIRST)
            return default if value is None else value
        node = UsdShade.Shader(source.GetPrim())
        kind = node.GetIdAttr().Get() if node.GetIdAttr() else None
        if kind == "UsdUVTexture":
            return self._texture(node, source.GetName().split(":")[-1])
        if kind in _READERS:
            return PrimvarNode(str(self.read(node, "varname", "")))
        self._warn(f"{shader.GetPath()}: {name} comes from a node of type {kind!r}, which is not supported: ignored")
        own = shader.GetInput(name).Get(FIRST)
        return default if own is None else own

    def _source(self, shader: UsdShade.Shader, name: str) -> Usd.Attribute | None:
        """Return the attribute that holds the value of an input, at the end of its connections."""
        connected = shader.GetInput(name)
        sources = connected.GetValueProducingAttributes() if connected else []
        if not sources:
            return None
        if sources[0].ValueMightBeTimeVarying():
            self._warn(f"{shader.GetPath()}: {name} is animated, which is not supported: its first value is used")
        return sources[0]

    def _texture(self, node: UsdShade.Shader, output: str) -> TextureNode:
        source = self._source(node, "file")
        file = source.Get(FIRST) if source is not None else None
        wraps = [str(self.read(node, name, "useMetadata")) for name in ("wrapS", "wrapT")]
        if "black" in wraps:
            self._warn(f"{node.GetPath()}: the wrap mode 'black' is not supported: clamped")
        fallback = node.GetInput("fallback")
        return TextureNode(
            file=file if isinstance(file, Sdf.AssetPath) else Sdf.AssetPath(""),
            layer=_layer_of(source),
            channels=_CHANNELS.get(output, (0, 1, 2)),
            color_space=str(self.read(node, "sourceColorSpace", "auto")),
            scale=_four(self.read(node, "scale", None), 1.0),
            bias=_four(self.read(node, "bias", None), 0.0),
            fallback=_four(fallback.Get(FIRST), 0.0) if fallback and fallback.Get(FIRST) is not None else None,
            placement=self._placement(node, _WRAPS.get(wraps[0], Wrap.REPEAT), _WRAPS.get(wraps[1], Wrap.REPEAT)),
        )

    def _placement(self, node: UsdShade.Shader, wrap_u: Wrap, wrap_v: Wrap) -> Placement:
        source, transform = self._source(node, "st"), None
        if source is not None and _kind(source) == "UsdTransform2d":
            transform = UsdShade.Shader(source.GetPrim())
            source = self._source(transform, "in")
        if source is None or _kind(source) != "UsdPrimvarReader_float2":
            self._warn(f"{node.GetPath()}: its texture coordinates are not read from a primvar: 'st' is used")
            name = "st"
        else:
            name = str(self.read(UsdShade.Shader(source.GetPrim()), "varname", "st"))
        if transform is None:
            return Placement(name, wrap_u, wrap_v)
        # USD's v points up. With v' = 1 − v, scale and rotation stay the same, and the offset becomes:
        sx, sy = (float(value) for value in self.read(transform, "scale", (1.0, 1.0)))
        tx, ty = (float(value) for value in self.read(transform, "translation", (0.0, 0.0)))
        angle = math.radians(float(self.read(transform, "rotation", 0.0)))
        offset = (tx - sy * math.sin(angle), 1.0 - ty - sy * math.cos(angle))
        return Placement(name, wrap_u, wrap_v, offset, angle, (sx, sy))


def _kind(output: Usd.Attribute) -> str | None:
    shader = UsdShade.Shader(output.GetPrim())
    found = shader.GetIdAttr().Get() if shader and shader.GetIdAttr() else None
    return None if found is None else str(found)


def _layer_of(attribute: Usd.Attribute | None) -> Sdf.Layer | None:
    """Return the layer that holds the strongest value of an attribute."""
    for spec in attribute.GetPropertyStack(FIRST) if attribute is not None else ():
        if spec.HasInfo("default") or spec.HasInfo("timeSamples"):
            return spec.layer
    return None


def _four(value: Any, missing: float) -> tuple[float, ...]:
    numbers = [] if value is None else [float(number) for number in value]
    return tuple((numbers + [missing] * 4)[:4])

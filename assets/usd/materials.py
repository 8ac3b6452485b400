"""Turns UsdPreviewSurface networks, and the display colors of prims without one, into `Material`s.

Source: https://openusd.org/release/spec_usdpreviewsurface.html
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
from pxr import Usd, UsdShade

from helix4d.assets.clip import AlphaMode, Material, Texture
from helix4d.assets.gltf.specular_glossiness import convert_factors
from helix4d.assets.limits import Limits
from helix4d.assets.pictures import Picture, combined, mapped, to_linear, to_srgb
from helix4d.assets.usd.images import TextureFiles
from helix4d.assets.usd.networks import Network, Placement, PrimvarNode, TextureNode
from helix4d.core.arrays import Float64Array, UInt8Array

GRAY = (0.18, 0.18, 0.18)
"""Linear diffuse color of a surface without one: UsdPreviewSurface's default."""
_BYTES = np.arange(256) / 255.0
_UNSUPPORTED = (("clearcoat", 0.0), ("displacement", 0.0))


@dataclass(frozen=True)
class Look:
    """A material, and the primvars of a mesh that it needs.

    Attributes:
        material: the material; the `uv_set` of its textures is an index into `uvs`.
        uvs: primvars of its UV sets.
        color: primvar that is multiplied with the base color, or None.
        opacity: primvar that is multiplied with alpha, or None.
    """

    material: Material
    uvs: tuple[str, ...] = ()
    color: str | None = None
    opacity: str | None = None


class Looks:
    """Collects the materials that prims are bound to.

    Args:
        path: path of the asset.
        root: folder that must contain the image files.
        limits: upper bounds on the size of images.

    Attributes:
        found: looks in the order of their slots.
        files: images of the textures.
        warnings: messages about unsupported features.
    """

    def __init__(self, path: Path, root: Path, limits: Limits) -> None:
        self.files = TextureFiles(path, root, limits)
        self.found: list[Look] = []
        self.warnings: list[str] = []
        self._slots: dict[tuple[str, bool, bool], int] = {}
        self._built: dict[object, UInt8Array] = {}

    def slot(self, material: UsdShade.Material | None, double_sided: bool, is_sheer: bool) -> int:
        """Return the index in `found` of a material.

        Args:
            material: the material, or None for a prim that shows its `displayColor`.
            double_sided: whether the prim is double-sided.
            is_sheer: whether the prim has a `displayOpacity` below 1.
        """
        key = str(material.GetPath()) if material else "", double_sided, is_sheer
        if key not in self._slots:
            look = self._read(material) if material else None
            look = look or _displayed(material.GetPrim().GetName() if material else "", is_sheer)
            self._slots[key] = len(self.found)
            self.found.append(replace(look, material=replace(look.material, double_sided=double_sided)))
        return self._slots[key]

    @property
    def uv_sets(self) -> int:
        """Number of UV sets that a clip needs."""
        return max((len(look.uvs) for look in self.found), default=0)

    def _warn(self, message: str) -> None:
        if message not in self.warnings:
            self.warnings.append(message)

    def _read(self, material: UsdShade.Material) -> Look | None:
        shader, _, _ = material.ComputeSurfaceSource()
        kind = shader.GetIdAttr().Get() if shader and shader.GetIdAttr() else None
        if kind != "UsdPreviewSurface":
            found = f"a surface shader of type {kind!r}" if kind else "no surface shader"
            self._warn(f"{material.GetPath()}: has {found} instead of a UsdPreviewSurface: displayColor is used")
            return None
        return _Reader(shader, self.files, self._built, self._warn).look(material.GetPrim().GetName())


def bound_material(prim: Usd.Prim) -> UsdShade.Material | None:
    """Return the material that a prim or geometry subset is bound to, directly, inherited or by collection, or None."""
    material, _ = UsdShade.MaterialBindingAPI(prim).ComputeBoundMaterial(UsdShade.Tokens.preview)
    return material or None


def _displayed(name: str, is_sheer: bool) -> Look:
    mode = AlphaMode.BLEND if is_sheer else AlphaMode.OPAQUE
    material = Material(name, metallic=0.0, roughness=0.5, alpha_mode=mode)
    return Look(material, color="displayColor", opacity="displayOpacity")


class _Reader:
    """Reads one UsdPreviewSurface."""

    def __init__(
        self,
        shader: UsdShade.Shader,
        files: TextureFiles,
        built: dict[object, UInt8Array],
        warn: Callable[[str], None],
    ) -> None:
        self._shader, self._files, self._built, self._warn = shader, files, built, warn
        self._network = Network(warn)
        self._uvs: list[str] = []
        self._color: str | None = None
        self._opacity: str | None = None

    def look(self, name: str) -> Look:
        for unsupported, default in _UNSUPPORTED:
            if self._input(unsupported, default) != default:
                self._warn(f"{self._shader.GetPath()}: {unsupported} is not supported: ignored")
        material = self._with_base_color(Material(name))
        material = self._with_metallic_roughness(material)
        material = self._with_emission(material)
        material = self._with_normal(material)
        return Look(material, tuple(self._uvs), self._color, self._opacity)

    def _input(self, name: str, default: Any) -> Any:
        return self._network.read(self._shader, name, default)

    def _with_base_color(self, material: Material) -> Material:
        color, opacity = self._input("diffuseColor", GRAY), self._input("opacity", 1.0)
        factor, channels = self._color_channels(color)
        alpha, coverage = self._alpha_channel(opacity)
        threshold = float(self._input("opacityThreshold", 0.0))
        if isinstance(color, PrimvarNode):
            self._color = color.name
        if isinstance(opacity, PrimvarNode):
            self._opacity = opacity.name
        opaque = alpha >= 1.0 and (coverage is None or bool((coverage == 255).all())) and self._opacity is None
        mode = AlphaMode.OPAQUE if opaque else AlphaMode.MASK if threshold > 0 else AlphaMode.BLEND
        texture = None
        if channels is not None or not (opaque or coverage is None):
            places = [node.placement for node, used in ((color, channels), (opacity, coverage)) if used is not None]
            if any(place != places[0] for place in places):
                self._warn(
                    f"{self._shader.GetPath()}: opacity and diffuseColor have different texture coordinates: those of "
                    "diffuseColor are used"
                )
            image = self._image([*(channels or (None, None, None)), None if opaque else coverage])
            texture = self._texture(image, places[0])
        return replace(
            material,
            base_color=factor,
            alpha=min(max(alpha, 0.0), 1.0),
            base_color_texture=texture,
            alpha_mode=mode,
            alpha_cutoff=threshold if threshold > 0 else material.alpha_cutoff,
            ior=float(self._input("ior", 1.5)),
        )

    def _with_metallic_roughness(self, material: Material) -> Material:
        roughness, metallic = self._input("roughness", 0.5), self._input("metallic", 0.0)
        if int(self._input("useSpecularWorkflow", 0)):
            material, metallic = self._from_specular(material)
        textured = [node for node in (roughness, metallic) if isinstance(node, TextureNode)]
        rough_factor, rough_channel = self._data_channel(roughness, 0.5)
        metal_factor, metal_channel = self._data_channel(metallic, 0.0)
        texture = None
        if rough_channel is not None or metal_channel is not None:
            if any(node.placement != textured[0].placement for node in textured):
                self._warn(f"{self._shader.GetPath()}: metallic and roughness have different texture coordinates: "
                           "those of roughness are used")  # fmt: skip
            texture = self._texture(self._image([None, rough_channel, metal_channel, None]), textured[0].placement)
        return replace(material, metallic=metal_factor, roughness=rough_factor, metallic_roughness_texture=texture)

    def _from_specular(self, material: Material) -> tuple[Material, float]:
        specular = self._input("specularColor", (0.0, 0.0, 0.0))
        if isinstance(specular, TextureNode | PrimvarNode) or material.base_color_texture or self._color:
            self._warn(f"{self._shader.GetPath()}: textures in the specular workflow are not supported: metallic is 0")
            return material, 0.0
        base, metallic = convert_factors(np.array(material.base_color), np.array([float(value) for value in specular]))
        return replace(material, base_color=(float(base[0]), float(base[1]), float(base[2]))), float(metallic)

    def _with_emission(self, material: Material) -> Material:
        node = self._input("emissiveColor", (0.0, 0.0, 0.0))
        factor, channels = self._color_channels(node)
        if isinstance(node, PrimvarNode):
            self._warn(f"{self._shader.GetPath()}: emissiveColor from a primvar is not supported: ignored")
            return material
        texture = None if channels is None else self._texture(self._image([*channels, None]), node.placement)
        return replace(material, emissive=factor, emissive_texture=texture)

    def _with_normal(self, material: Material) -> Material:
        node = self._input("normal", None)
        picture = self._picture(node) if isinstance(node, TextureNode) else None
        if picture is None:
            return material
        channels = [picture.pixels[..., number] for number in range(3)]
        if node.scale[:3] == (1.0, 1.0, 1.0) and node.bias[:3] == (0.0, 0.0, 0.0):
            self._warn(f"{self._shader.GetPath()}: the normal texture lacks scale 2 and bias -1: they are assumed")
        elif node.scale[:3] != (2.0, 2.0, 2.0) or node.bias[:3] != (-1.0, -1.0, -1.0):
            tables = [(_BYTES * node.scale[n] + node.bias[n] + 1) / 2 for n in range(3)]
            channels = [mapped(channel, table) for channel, table in zip(channels, tables, strict=True)]
        return replace(material, normal_texture=self._texture(self._image([*channels, None]), node.placement))

    def _color_channels(self, node: Any) -> tuple[tuple[float, float, float], list[UInt8Array] | None]:
        """Return the linear factor of a color, and its three sRGB channels, each (H, W) uint8, if it has a texture."""
        if isinstance(node, PrimvarNode):
            return (1.0, 1.0, 1.0), None
        if not isinstance(node, TextureNode):
            return _triple(node), None
        picture = self._picture(node)
        if picture is None:
            return (1.0, 1.0, 1.0) if node.fallback is None else _triple(node.fallback), None
        numbers = node.channels if len(node.channels) == 3 else node.channels * 3
        scale, bias = [node.scale[n] for n in numbers], [node.bias[n] for n in numbers]
        channels = [picture.pixels[..., n] for n in numbers]
        if _is_srgb(node, picture) and not any(bias) and all(s >= 0 for s in scale):
            return (scale[0], scale[1], scale[2]), channels
        tables = [to_srgb(_linear(node, picture, n) * node.scale[n] + node.bias[n]) for n in numbers]
        return (1.0, 1.0, 1.0), [mapped(channel, table) for channel, table in zip(channels, tables, strict=True)]

    def _alpha_channel(self, node: Any) -> tuple[float, UInt8Array | None]:
        if isinstance(node, PrimvarNode):
            return 1.0, None
        return self._data_channel(node, 1.0, prefer_alpha=True)

    def _data_channel(self, node: Any, default: float, prefer_alpha: bool = False) -> tuple[float, UInt8Array | None]:
        """Return the factor of a scalar input, and its (H, W) uint8 channel, scale and bias applied, if textured."""
        if isinstance(node, PrimvarNode):
            self._warn(f"{self._shader.GetPath()}: scalar inputs from primvars are not supported: {default} is used")
            return default, None
        if not isinstance(node, TextureNode):
            return float(node), None
        number = node.channels[0]
        picture = self._picture(node)
        if picture is None:
            return (1.0 if node.fallback is None else node.fallback[number]), None
        table = _linear(node, picture, number) * node.scale[number] + node.bias[number]
        return 1.0, mapped(picture.pixels[..., number], table)

    def _picture(self, node: TextureNode) -> Picture | None:
        return self._files.read(node.file, node.layer)

    def _image(self, channels: list[UInt8Array | None]) -> UInt8Array:
        """Return the image of four channels; equal images share an array."""
        image = combined(channels)
        return self._built.setdefault((image.shape, blake2b(image.tobytes()).digest()), image)

    def _texture(self, image: UInt8Array, place: Placement) -> Texture:
        if place.primvar not in self._uvs:
            self._uvs.append(place.primvar)
        return Texture(
            image=self._files.add(image),
            uv_set=self._uvs.index(place.primvar),
            wrap_u=place.wrap_u,
            wrap_v=place.wrap_v,
            offset=place.offset,
            rotation=place.rotation,
            scale=place.scale,
        )


def _is_srgb(node: TextureNode, picture: Picture) -> bool:
    return node.color_space == "sRGB" or (node.color_space == "auto" and picture.has_colors)


def _linear(node: TextureNode, picture: Picture, channel: int) -> Float64Array:
    """Return the (256,) linear values of the bytes of a channel; alpha is always linear."""
    return to_linear(_BYTES) if channel != 3 and _is_srgb(node, picture) else _BYTES


def _triple(value: Any) -> tuple[float, float, float]:
    red, green, blue = (float(number) for number in tuple(value)[:3])
    return red, green, blue

"""Converts the materials of a Blender file to `Material`s: the nodes of the active output, with their images."""

from __future__ import annotations

from dataclasses import dataclass, replace
from hashlib import blake2b
from pathlib import Path
from typing import Any

from helix4d.assets.blender import signals
from helix4d.assets.blender.coordinates import Affine, Placement
from helix4d.assets.blender.images import BlenderImages
from helix4d.assets.blender.painting import Paint, constant_of, painted
from helix4d.assets.blender.shaders import ShaderReader, Surface
from helix4d.assets.blender.signals import WHITE, Constant, Signal, VertexColor
from helix4d.assets.clip import AlphaMode, Material, Texture
from helix4d.assets.limits import Limits
from helix4d.core.arrays import UInt8Array

_DEFAULT = Material(base_color=(0.8, 0.8, 0.8), metallic=0.0, roughness=0.5, double_sided=True)
"""Material of a mesh without a material, as in Blender."""
ANY_COLOR = "\0"
"""Stands for the first color attribute of a mesh, whatever its name."""


@dataclass(frozen=True)
class UvSource:
    """A UV set of the clip: a layer, "" for the active one, and a (2, 3) matrix with v up that is applied to it."""

    layer: str
    matrix: Affine | None


@dataclass(frozen=True)
class Look:
    """A material, and the color attributes that its RGB and its alpha are multiplied by; None without one."""

    material: Material
    color: str | None = None
    opacity: str | None = None


class BlenderMaterials:
    """Collects the materials in use, their images, and the UV sets that these need.

    Args:
        path: path of the asset.
        limits: upper bounds on the size of images.
        root: folder that image files must not leave; the asset's own folder if None.
        shows_colors: whether a mesh without a material shows its color attribute, as the format has no materials.

    Attributes:
        looks: materials in the order of their slots.
        uv_sources: UV sets that the materials refer to.
    """

    def __init__(self, path: Path, limits: Limits, root: Path | None = None, shows_colors: bool = False) -> None:
        self._files = BlenderImages(path, root or path.parent, limits)
        self._shows_colors = shows_colors
        self.looks: list[Look] = []
        self.uv_sources: list[UvSource] = []
        self._warnings: dict[str, None] = {}
        self._slots: dict[str | None, int] = {}
        self._built: dict[tuple[tuple[int, ...], bytes], UInt8Array] = {}

    @property
    def materials(self) -> tuple[Material, ...]:
        """The materials themselves."""
        return tuple(look.material for look in self.looks)

    @property
    def images(self) -> tuple[UInt8Array, ...]:
        """Images that the materials refer to, each (H, W, 4) uint8."""
        return tuple(self._files.images)

    @property
    def warnings(self) -> tuple[str, ...]:
        """Messages about everything that is not read as it renders."""
        return (*self._warnings, *self._files.warnings)

    def slot(self, material: Any) -> int:
        """Return the index in `looks` of a Blender material, or of the default material for None."""
        name = None if material is None else material.name_full
        if name not in self._slots:
            self._slots[name] = len(self.looks)
            self.looks.append(Look(_DEFAULT) if material is None else self._read(material))
        return self._slots[name]

    def bare_slot(self, has_colors: bool) -> int:
        """Return the index in `looks` of the material of a mesh without material slots."""
        if not (self._shows_colors and has_colors):
            return self.slot(None)
        if ANY_COLOR not in self._slots:
            self._slots[ANY_COLOR] = len(self.looks)
            self.looks.append(Look(replace(_DEFAULT, base_color=(1.0, 1.0, 1.0)), color=ANY_COLOR))
        return self._slots[ANY_COLOR]

    def warn(self, message: str) -> None:
        """Record a message once."""
        self._warnings.setdefault(message)

    def _read(self, material: Any) -> Look:
        if not material.use_nodes or material.node_tree is None:
            red, green, blue = (float(value) for value in tuple(material.diffuse_color)[:3])
            metallic, roughness = float(material.metallic), float(material.roughness)
            return Look(replace(_DEFAULT, name=material.name, base_color=(red, green, blue), metallic=metallic,
                                roughness=roughness))  # fmt: skip
        reader = ShaderReader(material, self._files.read, self.warn)
        return _Builder(material.name, reader.surface(), self).look()

    def texture(self, image: UInt8Array, place: Placement) -> Texture:
        """Return a texture of an image; equal images and equal UV sets are kept once."""
        image = self._built.setdefault((image.shape, blake2b(image.tobytes()).digest()), image)
        transform = place.transform()
        source = UvSource(place.layer, place.matrix if transform is None else None)
        if source not in self.uv_sources:
            self.uv_sources.append(source)
        texture = Texture(
            image=self._files.add(image),
            uv_set=self.uv_sources.index(source),
            wrap_u=place.wrap,
            wrap_v=place.wrap,
            nearest=place.nearest,
        )
        if transform is None:
            return texture
        return replace(texture, offset=transform.offset, rotation=transform.rotation, scale=transform.scale)


class _Builder:
    """Builds one material from its surface."""

    def __init__(self, name: str, surface: Surface, owner: BlenderMaterials) -> None:
        self._name, self._surface, self._owner = name, surface, owner

    def look(self) -> Look:
        surface = self._surface
        material = Material(self._name, double_sided=True, ior=surface.ior)
        look = self._with_color(material)
        material = self._with_metallic_roughness(look.material)
        material = self._with_emission(material)
        factor, transmission = self._number(surface.transmission)
        picture = painted([Paint(transmission), None, None, None], self._warn)
        texture = self._owner.texture(*picture) if picture else None
        material = replace(material, transmission=factor, transmission_texture=texture)
        return replace(look, material=self._with_bumps(material))

    def _warn(self, message: str) -> None:
        self._owner.warn(f"material {self._name[:40]!r}: {message}")

    def _with_color(self, material: Material) -> Look:
        surface = self._surface
        color, alpha = signals.factors(surface.color), signals.factors(surface.alpha)
        factor, rest = _bounded(color.factor, color.rest)
        opacity = _opacity(alpha.rest)
        alpha_factor, coverage = alpha.factor[0], alpha.rest or WHITE if opacity is None else WHITE
        is_opaque = alpha_factor >= 1.0 and coverage is WHITE and opacity is None
        colors = [Paint(rest, n, is_srgb=True) for n in range(3)]
        picture = painted([*colors, None if is_opaque else Paint(coverage)], self._warn)
        if picture is None:
            red, green, blue, _ = constant_of(rest, self._warn)
            factor = (factor[0] * red, factor[1] * green, factor[2] * blue)
            alpha_factor *= constant_of(coverage, self._warn)[0]
        covers = picture is None or bool((picture[0][..., 3] == 255).all())
        is_opaque = is_opaque or (covers and alpha_factor >= 1.0 and opacity is None)
        is_binary = isinstance(coverage, signals.Computed) and coverage.is_binary
        mode = AlphaMode.OPAQUE if is_opaque else AlphaMode.MASK if is_binary else AlphaMode.BLEND
        found = replace(
            material,
            base_color=factor,
            alpha=min(max(alpha_factor, 0.0), 1.0),
            base_color_texture=self._owner.texture(*picture) if picture else None,
            alpha_mode=mode,
        )
        return Look(found, color.color.name if color.color else None, opacity)

    def _with_metallic_roughness(self, material: Material) -> Material:
        rough_factor, roughness = self._number(self._surface.roughness)
        metal_factor, metallic = self._number(self._surface.metallic)
        picture = painted([None, Paint(roughness), Paint(metallic) if metal_factor else None, None], self._warn)
        return replace(
            material,
            metallic=metal_factor,
            roughness=rough_factor,
            metallic_roughness_texture=self._owner.texture(*picture) if picture else None,
        )

    def _with_emission(self, material: Material) -> Material:
        found = signals.factors(self._surface.emission)
        rest = found.rest or WHITE
        if found.color is not None:
            self._warn("emission from a color attribute is not supported: white is emitted")
        if not any(found.factor):
            return material
        picture = painted([*(Paint(rest, n, is_srgb=True) for n in range(3)), None], self._warn)
        factor = found.factor
        if picture is None:
            red, green, blue, _ = constant_of(rest, self._warn)
            factor = (factor[0] * red, factor[1] * green, factor[2] * blue)
        texture = self._owner.texture(*picture) if picture else None
        return replace(material, emissive=factor, emissive_texture=texture)

    def _with_bumps(self, material: Material) -> Material:
        bumps = self._surface.bumps
        if bumps is None:
            return material
        picture = painted([*(Paint(bumps.color, n) for n in range(3)), None], self._warn)
        if picture is None:
            return material  # a constant normal map tilts all normals alike: it has no image to show
        return replace(material, normal_texture=self._owner.texture(*picture), normal_scale=bumps.strength)

    def _number(self, signal: Signal) -> tuple[float, Signal]:
        """Return the constant factor of a number, from 0 to 1, and the image that it is multiplied by, or white."""
        found = signals.factors(signal)
        if found.color is not None:
            self._warn("a number from a color attribute is not supported: the attribute is replaced by 1")
        factor, rest = _bounded(found.factor, found.rest)
        if _has_images(rest):
            return factor[0], rest
        return min(max(factor[0] * constant_of(rest, self._warn)[0], 0.0), 1.0), WHITE


def _bounded(factor: tuple[float, float, float], rest: Signal | None) -> tuple[tuple[float, float, float], Signal]:
    """Return a factor from 0 to 1 and what it is multiplied by: a larger factor becomes part of the latter."""
    if rest is None:
        return factor, WHITE
    if max(factor) <= 1.0 and min(factor) >= 0.0:
        return factor, rest
    return (1.0, 1.0, 1.0), signals.computed(lambda a, b: signals.with_alpha(a[:, :3] * b[:, :3], a), rest,
                                             Constant((*factor, 1.0)))  # fmt: skip


def _opacity(rest: Signal | None) -> str | None:
    """Return the name of the color attribute whose alpha an alpha is, or None."""
    if isinstance(rest, signals.Channel) and rest.index == 3 and isinstance(rest.source, VertexColor):
        return rest.source.name
    return None


def _has_images(signal: Signal) -> bool:
    return any(isinstance(leaf, signals.Texel) for leaf in signals.leaves(signal))

"""Turns materials of FBX files into `Material`s.

ufbx maps the shaders of exporters (Lambert, Phong, Arnold, 3ds Max, glTF and others) to one set of PBR parameters.
This module and its helpers resolve what FBX leaves ambiguous: opacity and tiling.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import ufbx

from helix4d.assets.clip import AlphaMode, Material, Texture
from helix4d.assets.fbx.binding import items, kept
from helix4d.assets.fbx.opacity import constant_alpha, coverage
from helix4d.assets.fbx.placement import Placement, placement
from helix4d.assets.fbx.textures import TextureFiles
from helix4d.assets.limits import Limits
from helix4d.assets.pictures import Picture, combined
from helix4d.core.arrays import UInt8Array

GRAY = (0.8, 0.8, 0.8)
"""Color of a surface without a material, as in Blender and three.js."""
_PHONG = (ufbx.ShaderType.UNKNOWN, ufbx.ShaderType.FBX_LAMBERT, ufbx.ShaderType.FBX_PHONG)
_BLUE = 170
"""Mean of the blue channel from which an image in a bump slot is a normal map."""
_IGNORED = (
    ("specular_color", "specular textures"),
    ("coat_factor", "clear coats"),
    ("displacement_map", "displacement"),
)
Warn = Callable[[str], None]


@dataclass(frozen=True)
class Look:
    """A material. The `uv_set` of its textures is an index into `uvs`, the names of the UV sets that it needs.

    An empty name is the first set of the mesh.
    """

    material: Material
    uvs: tuple[str, ...] = ()


class Looks:
    """Collects the materials of visible meshes.

    Args:
        path: path of the asset.
        root: folder that image files must be in.
        limits: upper bounds on the size of images.
        from_blender: whether Blender wrote the file.

    Attributes:
        found: looks in the order of their slots.
        files: images of the textures.
        warnings: messages about unsupported features.
    """

    def __init__(self, path: Path, root: Path, limits: Limits, from_blender: bool) -> None:
        self.files = TextureFiles(path, root, limits)
        self.found: list[Look] = []
        self.warnings: list[str] = []
        self._from_blender = from_blender
        self._slots: dict[tuple[int, bool], int] = {}
        self._built: dict[object, UInt8Array] = {}

    def slot(self, material: Any, has_colors: bool) -> int:
        """Return the index in `found` of a material of ufbx, or of the default material for None.

        Args:
            material: the material.
            has_colors: whether vertices have colors, which are shown if there is no material.
        """
        key = (-1, has_colors) if material is None else (material.typed_id, False)
        if key not in self._slots:
            self._slots[key] = len(self.found)
            if material is None:
                color = (1.0, 1.0, 1.0) if has_colors else GRAY
                look = Look(Material("", color, metallic=0.0, roughness=0.5, double_sided=True))
            else:
                look = _Reader(material, self.files, self._built, self._from_blender, self._warn).look()
            self.found.append(look)
        return self._slots[key]

    @property
    def uv_sets(self) -> int:
        """Number of UV sets that a clip needs."""
        return max((len(look.uvs) for look in self.found), default=0)

    def _warn(self, message: str) -> None:
        if message not in self.warnings:
            self.warnings.append(message)


@dataclass(frozen=True, eq=False)
class _Slot:
    """The image of a textured property, and its placement."""

    picture: Picture
    place: Placement


class _Reader:
    """Reads one material."""

    def __init__(
        self,
        material: Any,
        files: TextureFiles,
        built: dict[object, UInt8Array],
        from_blender: bool,
        warn: Warn,
    ) -> None:
        self._source, self._files, self._built, self._warn = material, files, built, warn
        self._from_blender = from_blender
        self._pbr, self._fbx = material.pbr, material.fbx
        self._is_phong = material.shader_type in _PHONG
        self._uvs: list[str] = []

    def look(self) -> Look:
        for name, description in _IGNORED:
            if self._file(getattr(self._pbr, name)) is not None:
                self._warn(f"material {self._source.name!r}: {description} are not supported: ignored")
        material = Material(self._source.name, double_sided=self._is_double_sided())
        material = self._with_base_color(material)
        material = self._with_metallic_roughness(material)
        material = self._with_emission(material)
        material = self._with_normal(material)
        if not self._is_phong:  # whose transparency has become alpha
            transmission = float(np.clip(_number(self._pbr.transmission_factor, 0.0), 0.0, 1.0))
            ior = max(_number(self._pbr.specular_ior, 1.5), 1.0)
            material = replace(material, transmission=transmission, ior=ior)
        return Look(replace(material, unlit=bool(self._source.features.unlit.enabled)), tuple(self._uvs))

    def _is_double_sided(self) -> bool:
        """Return whether both sides are visible: always, unless the shader says otherwise."""
        feature = self._source.features.double_sided
        return bool(feature.enabled) or not feature.is_explicit

    def _with_base_color(self, material: Material) -> Material:
        base = self._pbr.base_color
        slot = self._slot(base)
        factor = _number(self._pbr.base_factor, 1.0)
        color = _color(base, GRAY) if slot is None else (1.0, 1.0, 1.0)
        alpha, opacity = self._opacity()
        opaque = alpha >= 1.0 and (opacity is None or bool((opacity[0] == 255).all()))
        channels: list[UInt8Array | None] = [None] * 4
        places = []
        if slot is not None:
            channels[:3] = [slot.picture.pixels[..., number] for number in range(3)]
            places.append(slot.place)
        if opacity is not None and not opaque:
            channels[3] = opacity[0]
            places.append(opacity[1])
        if len(places) > 1 and places[0] != places[1]:
            self._warn(f"material {self._source.name!r}: opacity and color have different texture coordinates: "
                       "those of color are used")  # fmt: skip
        return replace(
            material,
            base_color=_scaled(color, factor),
            alpha=alpha,
            base_color_texture=self._texture(self._image(channels), places[0]) if places else None,
            alpha_mode=AlphaMode.OPAQUE if opaque else AlphaMode.BLEND,
        )

    def _opacity(self) -> tuple[float, tuple[UInt8Array, Placement] | None]:
        """Return the factor of alpha, and its channel and placement if it has a texture."""
        maps = [self._fbx.transparency_factor, self._fbx.transparency_color] if self._is_phong else []
        for found in (self._pbr.opacity, *maps):
            slot = self._slot(found)
            if slot is not None:
                is_base = self._file(found) is self._file(self._pbr.base_color)
                return 1.0, (coverage(slot.picture, is_base), slot.place)
            if self._file(found) is not None:
                return 1.0, None  # its image is missing, which was reported
        if not self._is_phong and self._pbr.opacity.has_value:
            return float(np.clip(np.mean(self._pbr.opacity.value_vec4[:3]), 0.0, 1.0)), None
        return constant_alpha(self._source), None

    def _with_metallic_roughness(self, material: Material) -> Material:
        default = 1.0 if self._source.shader_type == ufbx.ShaderType.FBX_LAMBERT else 0.5
        rough = _number(self._pbr.roughness, default)
        glossy = bool(self._source.features.roughness_as_glossiness.enabled)
        rough_map, metal_map = self._pbr.roughness, self._pbr.metalness
        if self._pbr.glossiness.has_value and not self._pbr.roughness.has_value:
            rough_map, glossy, rough = self._pbr.glossiness, True, _number(self._pbr.glossiness, 1.0 - default)
        rough = 1.0 - rough if glossy else rough
        metal = _number(metal_map, 0.0)
        rough_slot, metal_slot = self._slot(rough_map), self._slot(metal_map)
        if rough_slot is not None and self._is_phong:
            self._warn(f"material {self._source.name!r}: shininess textures are not supported: ignored")
            rough_slot = None
        slots = [slot for slot in (rough_slot, metal_slot) if slot is not None]
        texture = None
        if slots:
            if any(slot.place != slots[0].place for slot in slots):
                self._warn(f"material {self._source.name!r}: metallic and roughness have different texture "
                           "coordinates: those of roughness are used")  # fmt: skip
            rough_channel = None if rough_slot is None else _gray(rough_slot.picture, 1)
            if rough_channel is not None and glossy:
                rough_channel = 255 - rough_channel
            metal_channel = None if metal_slot is None else _gray(metal_slot.picture, 2)
            texture = self._texture(self._image([None, rough_channel, metal_channel, None]), slots[0].place)
        return replace(
            material,
            metallic=float(np.clip(1.0 if metal_slot else metal, 0.0, 1.0)),
            roughness=float(np.clip(1.0 if rough_slot else rough, 0.0, 1.0)),
            metallic_roughness_texture=texture,
        )

    def _with_emission(self, material: Material) -> Material:
        emission = self._pbr.emission_color
        slot = self._slot(emission)
        factor = max(_number(self._pbr.emission_factor, 1.0), 0.0)
        if slot is None:
            return replace(material, emissive=_scaled(_color(emission, (0.0, 0.0, 0.0)), factor))
        channels = [slot.picture.pixels[..., number] for number in range(3)]
        texture = self._texture(self._image([*channels, None]), slot.place) if factor > 0 else None
        return replace(material, emissive=(factor, factor, factor), emissive_texture=texture)

    def _with_normal(self, material: Material) -> Material:
        slot = self._slot(self._pbr.normal_map) or self._slot(self._fbx.normal_map)
        if slot is None:
            slot = self._slot(self._fbx.bump)
            if slot is not None and not _is_normal_map(slot.picture):
                self._warn(f"material {self._source.name!r}: bump maps are not supported: ignored")
                slot = None
        if slot is None:
            return material
        channels = [slot.picture.pixels[..., number] for number in range(3)]
        # Blender writes the strength of its normal map here; others mean the depth of bumps.
        scale = _number(self._fbx.bump_factor, 1.0) if self._from_blender else 1.0
        return replace(
            material, normal_texture=self._texture(self._image([*channels, None]), slot.place), normal_scale=scale
        )

    def _file(self, found: Any) -> Any:
        """Return the image texture of a property; None without one."""
        texture = kept(found.texture) if found.texture_enabled else None
        if texture is None or texture.type == ufbx.TextureType.FILE:
            return texture
        files = items(texture.file_textures)
        if len(files) != 1:
            what = f"has {len(files)} layers: the first is used" if files else "has no image: ignored"
            self._warn(f"material {self._source.name!r}: the texture {texture.name!r} {what}")
        return files[0] if files else None

    def _slot(self, found: Any) -> _Slot | None:
        texture = self._file(found)
        picture = None if texture is None else self._files.read(texture)
        if picture is None:
            return None
        return _Slot(picture, placement(texture, self._from_blender))

    def _image(self, channels: list[UInt8Array | None]) -> UInt8Array:
        """Return an image of four channels; equal ones share an array."""
        image = combined(channels)
        return self._built.setdefault((image.shape, blake2b(image.tobytes()).digest()), image)

    def _texture(self, image: UInt8Array, place: Placement) -> Texture:
        if place.uv_set not in self._uvs:
            self._uvs.append(place.uv_set)
        return Texture(
            image=self._files.add(image),
            uv_set=self._uvs.index(place.uv_set),
            wrap_u=place.wrap_u,
            wrap_v=place.wrap_v,
            offset=place.offset,
            rotation=place.rotation,
            scale=place.scale,
        )


def _number(found: Any, default: float) -> float:
    value = float(found.value_vec4[0]) if found.has_value else default
    return value if np.isfinite(value) else default


def _color(found: Any, default: tuple[float, float, float]) -> tuple[float, float, float]:
    red, green, blue = found.value_vec4[:3] if found.has_value else default
    return (red, green, blue) if np.isfinite([red, green, blue]).all() else default


def _scaled(color: tuple[float, float, float], factor: float) -> tuple[float, float, float]:
    red, green, blue = (max(float(channel * factor), 0.0) for channel in color)
    return red, green, blue


def _gray(picture: Picture, channel: int) -> UInt8Array:
    """Return a scalar channel: glTF's channel of a color image, or the only channel of a grayscale one."""
    return picture.pixels[..., channel if picture.has_colors else 0]


def _is_normal_map(picture: Picture) -> bool:
    return picture.has_colors and float(picture.pixels[..., 2].mean()) >= _BLUE

"""Reads glTF materials, and the textures that they use (glTF 2.0 section 3.9)."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from helix4d.assets.clip import AlphaMode, Material, Texture, Wrap
from helix4d.assets.gltf.geometry import UV_SETS
from helix4d.assets.gltf.images import Images
from helix4d.assets.gltf.parse.document import Document
from helix4d.assets.gltf.parse.material_settings import MaterialSetting
from helix4d.assets.gltf.parse.values import JsonObject
from helix4d.assets.gltf.specular_glossiness import convert_factors, convert_textures

_WRAPS = {33071: Wrap.CLAMP, 33648: Wrap.MIRROR, 10497: Wrap.REPEAT}
_NEAREST = 9728


class Materials:
    """Reads materials on demand, and adds the textures that they use to `images`."""

    def __init__(self, document: Document, images: Images) -> None:
        self.document = document
        self.images = images
        self._entries = document.root.children("materials")
        self._textures = document.root.children("textures")
        self._samplers = document.root.children("samplers")
        self._parsed: dict[int, Material] = {}
        self._conversions: dict[tuple[object, ...], tuple[int, int]] = {}

    def __getitem__(self, index: int) -> Material:
        if index not in self._parsed:
            self._parsed[index] = self._parse(self._entries[index])
        return self._parsed[index]

    def changed(self, index: int, values: Mapping[MaterialSetting, float | list[float]]) -> Material:
        """Return a material with other values for some of its settings."""
        entry = self._entries[index]
        content = copy.deepcopy(entry.values)
        for setting, value in values.items():
            owner = content
            for key in setting.keys[:-1]:
                child = owner.setdefault(key, {})
                if not isinstance(child, dict):
                    entry.fail(f"{'.'.join(setting.keys[:-1])} must be an object")
                owner = child
            owner[setting.keys[-1]] = value  # type: ignore[assignment]
        return self._parse(replace(entry, values=content))

    def _parse(self, entry: JsonObject) -> Material:
        mode = entry.choice("alphaMode", tuple(AlphaMode), "OPAQUE")
        normal, emissive = entry.child("normalTexture"), _triple(entry, "emissiveFactor", 0.0)
        strength = _number(entry, "KHR_materials_emissive_strength", "emissiveStrength", 1.0)
        material = Material(
            name=entry.text("name", ""),
            alpha_mode=AlphaMode(mode),
            alpha_cutoff=entry.number("alphaCutoff", 0.5),
            normal_texture=self._texture(entry, "normalTexture"),
            normal_scale=normal.number("scale", 1.0),
            emissive=(emissive[0] * strength, emissive[1] * strength, emissive[2] * strength),
            emissive_texture=self._texture(entry, "emissiveTexture"),
            ior=_number(entry, "KHR_materials_ior", "ior", 1.5),
            double_sided=entry.boolean("doubleSided"),
            unlit=entry.extension("KHR_materials_unlit") is not None,
        )
        material = self._with_transmission(entry, material)
        glossiness = entry.extension("KHR_materials_pbrSpecularGlossiness")
        if material.unlit:
            # An unlit surface shows its base color, so it must not be metallic in voxels, which are always lit.
            entry = entry.child("pbrMetallicRoughness")
            roughness = entry.number("roughnessFactor", 1.0)
            return replace(self._with_base_color(entry, material), metallic=0.0, roughness=roughness)
        if glossiness is not None:
            return self._with_glossiness(glossiness, material)
        return self._with_metallic_roughness(entry.child("pbrMetallicRoughness"), material)

    def _with_base_color(self, entry: JsonObject, material: Material) -> Material:
        red, green, blue, alpha = entry.numbers("baseColorFactor", 4) or (1.0, 1.0, 1.0, 1.0)
        return replace(
            material,
            base_color=(red, green, blue),
            alpha=alpha,
            base_color_texture=self._texture(entry, "baseColorTexture"),
        )

    def _with_metallic_roughness(self, entry: JsonObject, material: Material) -> Material:
        return replace(
            self._with_base_color(entry, material),
            metallic=entry.number("metallicFactor", 1.0),
            roughness=entry.number("roughnessFactor", 1.0),
            metallic_roughness_texture=self._texture(entry, "metallicRoughnessTexture"),
        )

    def _with_transmission(self, entry: JsonObject, material: Material) -> Material:
        transmission = entry.extension("KHR_materials_transmission")
        volume = entry.extension("KHR_materials_volume")
        if transmission is not None:
            material = replace(
                material,
                transmission=min(max(transmission.number("transmissionFactor", 0.0), 0.0), 1.0),
                transmission_texture=self._texture(transmission, "transmissionTexture"),
            )
        if volume is not None:
            distance = volume.number("attenuationDistance") if volume.has("attenuationDistance") else None
            material = replace(
                material,
                thickness=max(volume.number("thicknessFactor", 0.0), 0.0),
                thickness_texture=self._texture(volume, "thicknessTexture"),
                attenuation_color=_triple(volume, "attenuationColor", 1.0),
                attenuation_distance=distance if distance is not None and distance > 0 else None,
            )
        return material

    def _with_glossiness(self, entry: JsonObject, material: Material) -> Material:
        red, green, blue, alpha = entry.numbers("diffuseFactor", 4) or (1.0, 1.0, 1.0, 1.0)
        diffuse, specular = (red, green, blue), _triple(entry, "specularFactor", 1.0)
        glossiness = entry.number("glossinessFactor", 1.0)
        diffuse_texture = self._texture(entry, "diffuseTexture", keep=False)
        specular_texture = self._texture(entry, "specularGlossinessTexture", keep=False)
        if diffuse_texture is None and specular_texture is None:
            base, metallic = convert_factors(np.array(diffuse), np.array(specular))
            return replace(
                material,
                base_color=(float(base[0]), float(base[1]), float(base[2])),
                alpha=alpha,
                metallic=float(metallic),
                roughness=1.0 - glossiness,
            )
        slots = self._converted(
            entry.where,
            diffuse_texture.image if diffuse_texture else None,
            specular_texture.image if specular_texture else None,
            diffuse,
            specular,
            glossiness,
        )
        placed = diffuse_texture or specular_texture
        if (
            diffuse_texture
            and specular_texture
            and replace(specular_texture, image=0) != replace(diffuse_texture, image=0)
        ):
            self.document.warn(f"{entry.where}: the two textures have different UVs: both use the diffuse texture's")
        return replace(
            material,
            base_color=(1.0, 1.0, 1.0),
            alpha=alpha,
            base_color_texture=placed and replace(placed, image=slots[0]),
            metallic=1.0,
            roughness=1.0,
            metallic_roughness_texture=placed and replace(placed, image=slots[1]),
        )

    def _converted(
        self,
        where: str,
        diffuse: int | None,
        specular: int | None,
        diffuse_factor: tuple[float, float, float],
        specular_factor: tuple[float, float, float],
        glossiness: float,
    ) -> tuple[int, int]:
        """Return the slots of the base color and metallic-roughness images, which the looks of a material share."""
        key = where, diffuse, specular, diffuse_factor, specular_factor, glossiness
        if key not in self._conversions:
            images = convert_textures(
                None if diffuse is None else self.images.decoded(diffuse),
                None if specular is None else self.images.decoded(specular),
                np.array(diffuse_factor),
                np.array(specular_factor),
                glossiness,
            )
            self._conversions[key] = self.images.add(images[0]), self.images.add(images[1])
        return self._conversions[key]

    def _texture(self, parent: JsonObject, key: str, keep: bool = True) -> Texture | None:
        """Return the texture under `key`; None if it is absent or its image is unavailable.

        Its `image` is a slot of the clip's images, or an index into the file's images with `keep=False`.
        """
        if not parent.has(key):
            return None
        info = parent.child(key)
        texture = self._textures[info.index("index", len(self._textures))]
        uv_set, offset, rotation, scale = info.integer("texCoord", 0), (0.0, 0.0), 0.0, (1.0, 1.0)
        if (transform := info.extension("KHR_texture_transform")) is not None:
            offset = _pair(transform, "offset", 0.0)
            scale = _pair(transform, "scale", 1.0)
            rotation = transform.number("rotation", 0.0)
            uv_set = transform.integer("texCoord", uv_set)
        if uv_set >= UV_SETS:
            self.document.warn(f"{info.where}: texCoord must be at most {UV_SETS - 1}, found {uv_set}: ignored")
            return None
        image = self._image(texture)
        slot = image if image is None or not keep else self.images.use(image)
        if slot is None or (not keep and image is not None and self.images.decoded(image) is None):
            return None
        sampler = texture.optional_index("sampler", len(self._samplers))
        wrap_u = wrap_v = magnification = 0
        if sampler is not None:
            entry = self._samplers[sampler]
            wrap_u, wrap_v = entry.integer("wrapS", 10497), entry.integer("wrapT", 10497)
            magnification = entry.integer("magFilter", 0)
        return Texture(
            image=slot,
            uv_set=uv_set,
            wrap_u=_WRAPS.get(wrap_u, Wrap.REPEAT),
            wrap_v=_WRAPS.get(wrap_v, Wrap.REPEAT),
            nearest=magnification == _NEAREST,
            offset=offset,
            rotation=rotation,
            scale=scale,
        )

    def _image(self, texture: JsonObject) -> int | None:
        count = len(self.images.entries)
        for name in ("EXT_texture_avif", "EXT_texture_webp"):
            extension = texture.extension(name)
            if extension is not None and extension.has("source"):
                return extension.index("source", count)
        source = texture.optional_index("source", count)
        compressed = texture.extension("KHR_texture_basisu")
        if source is None and compressed is not None and compressed.has("source"):
            return compressed.index("source", count)  # only without another source, which is usually the original
        if source is None:
            self.document.warn(f"{texture.where}: has no image: replaced by white")
        return source


def _number(entry: JsonObject, extension: str, key: str, default: float) -> float:
    values = entry.extension(extension)
    return default if values is None else values.number(key, default)


def _triple(entry: JsonObject, key: str, default: float) -> tuple[float, float, float]:
    red, green, blue = entry.numbers(key, 3) or (default,) * 3
    return red, green, blue


def _pair(entry: JsonObject, key: str, default: float) -> tuple[float, float]:
    u, v = entry.numbers(key, 2) or (default,) * 2
    return u, v

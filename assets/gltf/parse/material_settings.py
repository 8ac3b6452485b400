"""The material properties that an animation may change (KHR_animation_pointer and glTF's object model)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from helix4d.assets.gltf.parse.values import JsonObject
from helix4d.core.arrays import Float64Array

_POINTER = re.compile(r"^/materials/(\d{1,9})/(.+)$")
_TRANSFORM = "extensions/KHR_texture_transform"
_TRANSMISSION = "extensions/KHR_materials_transmission"
_VOLUME = "extensions/KHR_materials_volume"
_PBR = "pbrMetallicRoughness"


@dataclass(frozen=True)
class MaterialSetting:
    """A material property of one or more numbers.

    Attributes:
        keys: path of JSON keys from the material to the value.
        components: number of values.
        low, high: range that values are clamped to; CUBICSPLINE may leave it between keys.
        texture: keys of the texture info that the value belongs to, which must exist; () for other values.
    """

    keys: tuple[str, ...]
    components: int
    low: float
    high: float
    texture: tuple[str, ...] = ()

    def clamped(self, values: Float64Array) -> float | list[float]:
        """Return (C,) values within the range, as JSON has them: a number, or an array of several."""
        inside = [float(value) for value in np.clip(values, self.low, self.high)]
        return inside[0] if self.components == 1 else inside


_INFINITY = float("inf")
_FACTORS: Mapping[str, tuple[int, float, float]] = {
    f"{_PBR}/baseColorFactor": (4, 0.0, 1.0),
    f"{_PBR}/metallicFactor": (1, 0.0, 1.0),
    f"{_PBR}/roughnessFactor": (1, 0.0, 1.0),
    "alphaCutoff": (1, 0.0, _INFINITY),
    "emissiveFactor": (3, 0.0, 1.0),
    "extensions/KHR_materials_emissive_strength/emissiveStrength": (1, 0.0, _INFINITY),
    "extensions/KHR_materials_ior/ior": (1, 0.0, _INFINITY),
    f"{_TRANSMISSION}/transmissionFactor": (1, 0.0, 1.0),
    f"{_VOLUME}/thicknessFactor": (1, 0.0, _INFINITY),
    f"{_VOLUME}/attenuationDistance": (1, 0.0, _INFINITY),
    f"{_VOLUME}/attenuationColor": (3, 0.0, 1.0),
}
_TEXTURES = (
    f"{_PBR}/baseColorTexture",
    f"{_PBR}/metallicRoughnessTexture",
    "normalTexture",
    "emissiveTexture",
    f"{_TRANSMISSION}/transmissionTexture",
    f"{_VOLUME}/thicknessTexture",
)
_TEXTURE_VALUES = {f"{_TRANSFORM}/offset": 2, f"{_TRANSFORM}/rotation": 1, f"{_TRANSFORM}/scale": 2}


def _settings() -> dict[str, MaterialSetting]:
    found = {path: MaterialSetting(tuple(path.split("/")), *limits) for path, limits in _FACTORS.items()}
    values = [(texture, value, count) for texture in _TEXTURES for value, count in _TEXTURE_VALUES.items()]
    for texture, value, count in (*values, ("normalTexture", "scale", 1)):
        path = f"{texture}/{value}"
        keys = tuple(path.split("/"))
        found[path] = MaterialSetting(keys, count, -_INFINITY, _INFINITY, tuple(texture.split("/")))
    return found


_SETTINGS = _settings()
BASE_COLOR = _SETTINGS[f"{_PBR}/baseColorFactor"]
ALPHA_CUTOFF = _SETTINGS["alphaCutoff"]


def material_setting(pointer: str, materials: Sequence[JsonObject]) -> tuple[int, MaterialSetting] | None:
    """Return the index of the material and the setting that a pointer names; None if it has no effect here.

    It has none if `Material` has no field for it, if there is no such material, or if it belongs to a texture that the
    material does not have.
    """
    match = _POINTER.match(pointer)
    setting = None if match is None else _SETTINGS.get(match[2])
    if match is None or setting is None or (number := int(match[1])) >= len(materials):
        return None
    if setting.texture:
        *parents, last = setting.texture
        owner = materials[number]
        for key in parents:
            owner = owner.child(key)
        if not owner.has(last):
            return None
    return number, setting

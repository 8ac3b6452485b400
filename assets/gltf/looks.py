"""The materials of a scene's parts at any time of an animation (KHR_animation_pointer).

An animated material has one entry in the clip for each of its states (looks), and every frame refers to one of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from helix4d.assets.clip import Material
from helix4d.assets.gltf.animation import Track
from helix4d.assets.gltf.materials import Materials
from helix4d.assets.gltf.parse.material_settings import ALPHA_CUTOFF, BASE_COLOR
from helix4d.assets.gltf.parse.model import Property
from helix4d.assets.gltf.scene import Part
from helix4d.assets.visibility import can_show
from helix4d.core.arrays import BoolArray, Int32Array


@dataclass(frozen=True, eq=False)
class Look:
    """Materials of P parts at one time.

    Attributes:
        materials: (P,) int32 indices into `Looks.used`.
        shown: (P,) bool, False where a changing material hides its part at this time.
    """

    materials: Int32Array
    shown: BoolArray


class Looks:
    """Materials of P parts over time.

    Materials that differ only in name are merged and keep the first name, because renderers compile each separately.

    Args:
        parts: parts of the scene.
        materials: materials of the file.
        tracks: tracks of the animation.

    Attributes:
        used: distinct materials at the times that `at` was called with.
    """

    def __init__(self, parts: Sequence[Part], materials: Materials, tracks: Iterable[Track]) -> None:
        self.used: list[Material] = []
        self._slots: dict[Material, int] = {}
        self._materials = materials
        self._numbers = [part.geometry.material for part in parts]
        changing = changing_materials(tracks)
        self._changing = {number: changing[number] for number in sorted(changing.keys() & set(self._numbers))}

    def at(self, time: float) -> Look:
        """Return the look at a time in seconds: the same object for all times if no material changes."""
        if not self._changing:
            return self._still
        slots = self._still.materials.copy()
        changed = self._changed(time)
        for number, material in changed.items():
            slots[self._rows[number]] = self._slot(material)
        return Look(slots, self._shown(changed))

    def shown(self, time: float) -> BoolArray:
        """Return `Look.shown` at a time. Only the factors of alpha are compared, not textures and vertex colors."""
        return self._shown(self._changed(time))

    def _shown(self, changed: Mapping[int, Material]) -> BoolArray:
        mask = np.ones(len(self._numbers), bool)
        for number, material in changed.items():
            mask[self._rows[number]] = can_show(material, 1.0, None, 1)[0]
        return mask

    def _changed(self, time: float) -> dict[int, Material]:
        return {number: self._material(number, time) for number in self._changing}

    @cached_property
    def _still(self) -> Look:
        slots = []
        for number in self._numbers:
            material = Material() if number is None else self._materials[number]
            slots.append(0 if number in self._changing else self._slot(material))
        return Look(np.array(slots, np.int32), np.ones(len(slots), bool))

    @cached_property
    def _rows(self) -> dict[int, BoolArray]:
        return {number: np.array([other == number for other in self._numbers]) for number in self._changing}

    def _material(self, number: int, time: float) -> Material:
        values = {
            track.setting: track.setting.clamped(track.at(time))
            for track in self._changing[number]
            if track.setting is not None
        }
        return self._materials.changed(number, values)

    def _slot(self, material: Material) -> int:
        slot = self._slots.setdefault(replace(material, name=""), len(self._slots))
        if slot == len(self.used):
            self.used.append(material)
        return slot


def changing_materials(tracks: Iterable[Track]) -> Mapping[int, list[Track]]:
    """Return the tracks of each material that some of the tracks change, by its index."""
    changing: dict[int, list[Track]] = {}
    for track in tracks:
        if track.property is Property.MATERIAL:
            changing.setdefault(track.target, []).append(track)
    return changing


def most_visible(material: Material, tracks: Iterable[Track]) -> Material:
    """Return a material with the largest alpha and the lowest cutoff of its tracks; splines may reach any value."""
    for track in tracks:
        if track.setting is BASE_COLOR:
            alpha = 1.0 if track.tangents is not None else min(max(float(track.values[:, 3].max()), 0.0), 1.0)
            material = replace(material, alpha=alpha)
        elif track.setting is ALPHA_CUTOFF:
            cutoff = 0.0 if track.tangents is not None else max(float(track.values.min()), 0.0)
            material = replace(material, alpha_cutoff=cutoff)
    return material

"""Turns an opened document into a `Clip`: one animation, posed at T times, Z up."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np

from helix4d.assets.choice import ClipInfo
from helix4d.assets.clip import Clip, Frame, Material, Texture
from helix4d.assets.geometry_check import GeometryCheck
from helix4d.assets.gltf.accessors import Accessors
from helix4d.assets.gltf.animation import Motion, Track, read_motions, time_range
from helix4d.assets.gltf.frames import Topologies, pose_frames, thinned
from helix4d.assets.gltf.images import Images
from helix4d.assets.gltf.materials import Materials
from helix4d.assets.gltf.parse.document import Document, open_document
from helix4d.assets.gltf.parse.model import Property
from helix4d.assets.gltf.scene import Part, Scene
from helix4d.assets.gltf.visible import visible_parts
from helix4d.assets.limits import Limits
from helix4d.assets.surface import motion_of_times
from helix4d.assets.visibility import ALL_INVISIBLE
from helix4d.core import ReasonCode
from helix4d.core.arrays import UInt8Array

_PROBE_TRIANGLES = 50_000


class GltfAsset:
    """A file that is decoded and checked, except for the pixels of its images, and ready to bake any of its clips.

    Raises:
        AssetError: on construction, if anything that its scene uses is invalid or exceeds a limit.
    """

    def __init__(self, path: Path, limits: Limits) -> None:
        self.document: Document = open_document(path, limits)
        self._accessors = Accessors(self.document)
        self._decoded: dict[int, UInt8Array | None] = {}
        self._scene = Scene(self._accessors)
        _check_materials(self._accessors, self._scene.parts)
        self._all_motions = read_motions(self._accessors)

    @cached_property
    def clips(self) -> list[ClipInfo]:
        """The animations of the file; an invalid one has an error and no times."""
        infos: list[ClipInfo] = []
        for number in range(len(self._all_motions)):
            error = self._all_motions.error(number)
            name = "" if self.document.animations.error(number) else self.document.animations[number].name
            if error is not None:
                self.document.warn(f"animations[{number}] is invalid: left out ({error.message})")
                infos.append(ClipInfo(number, name, 0.0, 0.0, error))
            else:
                motion = self._motion(number)
                infos.append(ClipInfo(number, name, motion.start, motion.end))
        return infos

    def require_visible_animation(self) -> None:
        """Raise no_mesh, empty_geometry, no_animation or no_motion if there is nothing to bake."""
        self._require_visible()
        if not len(self._all_motions):
            raise self.document.fail(ReasonCode.NO_ANIMATION, "has no animation")
        motions = [motion for _, motion in self._all_motions.valid()]
        if motions and not any(map(self._moving_tracks, motions)):
            raise self.document.fail(ReasonCode.NO_MOTION, "its animations do not move anything visible")

    @cached_property
    def _parts(self) -> tuple[Part, ...]:
        """The parts of the scene without surfaces that are never visible."""
        return visible_parts(self._scene.parts, self.document, Images(self._accessors, self._decoded))

    def _moving_tracks(self, motion: Motion) -> list[Track]:
        """Return the tracks that move, morph or hide something visible."""
        switched = any(track.property is Property.VISIBLE for track in motion.tracks)
        moves = self._scene.moves(self._parts, motion.tracks) if switched else self._moves
        return [track for track in motion.tracks if moves(track)]

    @cached_property
    def _moves(self) -> Callable[[Track], bool]:
        """Predicate: whether a track moves or morphs something visible, if no node is shown or hidden."""
        return self._scene.moves(self._parts, ())

    def _motion(self, index: int) -> Motion:
        """Return an animation, cut to the keys of the tracks that move something visible."""
        found = self._all_motions[index]
        times = time_range(self._moving_tracks(found))
        return found if times is None else replace(found, start=times[0], end=times[1])

    def probe_motion(self, index: int) -> float:
        """Return `assets.surface.motion_of_times` of a clip, on about 50,000 triangles at most."""
        found = self._motion(index)
        if found.end <= found.start:
            return 0.0
        total = sum(len(part.geometry.faces) for part in self._parts)
        parts = thinned(self._parts, -(-total // _PROBE_TRIANGLES))
        topologies = Topologies(parts, [0] * len(parts), 0)

        def frames_at(times: np.ndarray) -> tuple[Frame, ...]:
            posed = pose_frames(self._scene, parts, topologies, found, times, with_normals=False)
            return tuple(frame.frame() for frame in posed)

        return motion_of_times(found.start, found.end, frames_at)

    def bake(self, index: int, frames: int) -> Clip:
        """Bake one animation at `frames` times.

        Raises:
            AssetError: out_of_memory, empty_geometry, degenerate_geometry, non_finite_geometry, precision_loss,
                texture_too_large.
        """
        return self._bake(self._motion(index), self.document.animations[index].name, index, frames)

    def bake_still(self) -> Clip:
        """Bake the scene in its rest pose, ignoring animations: one frame at time 0, index −1.

        Raises:
            AssetError: no_mesh; see also `bake`.
        """
        self._require_visible()
        return self._bake(Motion((), 0.0, 0.0), "", -1, 1)

    def _require_visible(self) -> None:
        if not self._scene.parts:
            raise self.document.fail(ReasonCode.NO_MESH, "the default scene has no triangle mesh")
        if not any(len(part.geometry.faces) for part in self._scene.parts):
            raise self.document.fail(ReasonCode.EMPTY_GEOMETRY, "its meshes have no triangles")
        if not any(len(part.geometry.faces) for part in self._parts):
            raise self.document.fail(ReasonCode.EMPTY_GEOMETRY, ALL_INVISIBLE)

    def _bake(self, found: Motion, name: str, index: int, frames: int) -> Clip:
        document, parts = self.document, self._parts
        vertices = sum(len(part.geometry.positions) for part in parts)
        if frames * vertices > document.limits.frame_vertices:
            raise document.fail(
                ReasonCode.OUT_OF_MEMORY,
                f"{frames} frames of {vertices:,} vertices are more than the limit of "
                f"{document.limits.frame_vertices:,} vertices in all frames",
            )
        materials, images, material_ids = self._materials()
        topologies = Topologies(parts, material_ids, self._uv_sets(materials))
        times = np.linspace(found.start, found.end, frames)
        check = GeometryCheck(document.path)
        baked = []
        with np.errstate(over="ignore", invalid="ignore"):
            for world in pose_frames(self._scene, parts, topologies, found, times, with_normals=True):
                check.add(world.positions, world.topology.faces, world.rounding)
                baked.append(world.frame())
        check.finish([part.geometry.positions[part.geometry.faces] for part in parts])
        return Clip(
            name=name,
            index=index,
            times=times,
            frames=tuple(baked),
            materials=materials,
            images=images,
            extras=document.extras,
            warnings=tuple(document.warnings),
        )

    def _materials(self) -> tuple[tuple[Material, ...], tuple[UInt8Array, ...], list[int]]:
        """Return the materials in use, their images, and the index of each part's material.

        Materials that differ in their name only are one, with the first name, as renderers compile each separately.
        """
        images = Images(self._accessors, self._decoded)
        materials = Materials(self.document, images)
        slots: dict[Material, int] = {}
        used: list[Material] = []
        ids = []
        for part in self._parts:
            number = part.geometry.material
            material = Material() if number is None else materials[number]
            ids.append(slots.setdefault(replace(material, name=""), len(slots)))
            if ids[-1] == len(used):
                used.append(material)
        return tuple(used), tuple(images.kept), ids

    def _uv_sets(self, materials: tuple[Material, ...]) -> int:
        textures = [value for material in materials for value in vars(material).values() if isinstance(value, Texture)]
        present = any(0 in part.geometry.uvs for part in self._parts)
        return max([texture.uv_set + 1 for texture in textures], default=int(present))


def _check_materials(accessors: Accessors, parts: Iterable[Part]) -> None:
    materials = Materials(accessors.document, Images(accessors, headers_only=True))
    for number in sorted({part.geometry.material for part in parts if part.geometry.material is not None}):
        materials[number]

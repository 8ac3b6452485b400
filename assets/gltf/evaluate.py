"""Turns an opened document into a `Clip`: one animation, posed at T times, Z up."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from helix4d.assets.choice import ClipInfo
from helix4d.assets.clip import Clip, Frame, Material, Texture
from helix4d.assets.geometry_check import GeometryCheck
from helix4d.assets.gltf.accessors import Accessors
from helix4d.assets.gltf.animation import Motion, read_motions
from helix4d.assets.gltf.frames import Topologies, pose_frames, thinned
from helix4d.assets.gltf.images import Images
from helix4d.assets.gltf.materials import Materials
from helix4d.assets.gltf.parse.document import Document, open_document
from helix4d.assets.gltf.parse.model import Property
from helix4d.assets.gltf.scene import Scene
from helix4d.assets.limits import Limits
from helix4d.assets.surface import motion_of_times
from helix4d.core import ReasonCode
from helix4d.core.arrays import UInt8Array

_PROBE_TRIANGLES = 50_000


def gltf_clips(path: Path, limits: Limits) -> list[ClipInfo]:
    """List the animations of a file without decoding its meshes."""
    document = open_document(path, limits)
    return _clip_infos(document, read_motions(Accessors(document)))


class GltfAsset:
    """A file that is decoded and checked, except for the pixels of its images, and ready to bake any of its clips.

    Raises:
        AssetError: on construction, if anything in the file is invalid or exceeds a limit.
    """

    def __init__(self, path: Path, limits: Limits) -> None:
        self.document: Document = open_document(path, limits)
        self._accessors = Accessors(self.document)
        Images(self._accessors).check_sizes()
        _check_materials(self._accessors)
        self._scene = Scene(self._accessors)
        for number in range(len(self.document.skins)):
            self._scene.inverse_binds(number)
        self._motions = read_motions(self._accessors)
        self.clips = _clip_infos(self.document, self._motions)

    def require_visible_animation(self) -> None:
        """Raise no_mesh, empty_geometry or no_animation if there is nothing to bake."""
        self._require_visible()
        document, parts = self.document, self._scene.parts
        if not self._motions:
            raise document.fail(ReasonCode.NO_ANIMATION, "has no animation")
        influences, meshes = self._scene.influences(), {part.mesh for part in parts}
        tracks = [track for found in self._motions for track in found.tracks]
        if not any(t.target in (meshes if t.property is Property.MESH_WEIGHTS else influences) for t in tracks):
            raise document.fail(ReasonCode.NO_ANIMATION, "its animations do not affect any visible mesh")

    def probe_motion(self, index: int) -> float:
        """Return `assets.motion` of a clip at 16 times, on about 50,000 triangles at most; −1 if it is not finite."""
        found = self._motions[index]
        if found.end <= found.start:
            return 0.0
        total = sum(len(part.geometry.faces) for part in self._scene.parts)
        parts = thinned(self._scene.parts, -(-total // _PROBE_TRIANGLES))
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
        return self._bake(self._motions[index], self.document.animations[index].name, index, frames)

    def bake_still(self) -> Clip:
        """Bake the scene in its rest pose, ignoring animations: one frame at time 0, index −1.

        Raises:
            AssetError: no_mesh, and as `bake`.
        """
        self._require_visible()
        return self._bake(Motion((), 0.0, 0.0), "", -1, 1)

    def _require_visible(self) -> None:
        if not self._scene.parts:
            raise self.document.fail(ReasonCode.NO_MESH, "the default scene has no triangle mesh")
        if not any(len(part.geometry.faces) for part in self._scene.parts):
            raise self.document.fail(ReasonCode.EMPTY_GEOMETRY, "its meshes have no triangles")

    def _bake(self, found: Motion, name: str, index: int, frames: int) -> Clip:
        document, parts = self.document, self._scene.parts
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
        images = Images(self._accessors)
        materials = Materials(self.document, images)
        slots: dict[Material, int] = {}
        used: list[Material] = []
        ids = []
        for part in self._scene.parts:
            number = part.geometry.material
            material = Material() if number is None else materials[number]
            ids.append(slots.setdefault(replace(material, name=""), len(slots)))
            if ids[-1] == len(used):
                used.append(material)
        return tuple(used), tuple(images.kept), ids

    def _uv_sets(self, materials: tuple[Material, ...]) -> int:
        textures = [value for material in materials for value in vars(material).values() if isinstance(value, Texture)]
        present = any(0 in part.geometry.uvs for part in self._scene.parts)
        return max([texture.uv_set + 1 for texture in textures], default=int(present))


def _check_materials(accessors: Accessors) -> None:
    materials = Materials(accessors.document, Images(accessors, headers_only=True))
    for number in range(len(accessors.document.root.children("materials"))):
        materials[number]


def _clip_infos(document: Document, motions: tuple[Motion, ...]) -> list[ClipInfo]:
    return [
        ClipInfo(number, animation.name, found.start, found.end)
        for number, (animation, found) in enumerate(zip(document.animations, motions, strict=True))
    ]

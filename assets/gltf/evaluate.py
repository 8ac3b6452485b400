"""Turns an opened document into a `Clip`: one animation, posed at T times, Z up."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
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
from helix4d.assets.gltf.looks import Look, Looks, changing_materials
from helix4d.assets.gltf.materials import Materials
from helix4d.assets.gltf.parse.document import Document, open_document
from helix4d.assets.gltf.parse.model import Property
from helix4d.assets.gltf.scene import Part, Scene
from helix4d.assets.gltf.visible import visible_parts
from helix4d.assets.limits import FRAME_VERTEX_BYTES, Limits
from helix4d.assets.skeleton import Skeleton
from helix4d.assets.surface import Poser
from helix4d.assets.visibility import ALL_INVISIBLE
from helix4d.core import ReasonCode
from helix4d.core.arrays import Float64Array, UInt8Array

_PROBE_TRIANGLES = 50_000
_POSED_BYTES = 48
"""Positions and normals of a vertex in the frame that is converted, in float64."""
_TRIANGLE_BYTES = 28
"""Vertices and material of a triangle in the clip, and its vertices in the scene."""


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

    def require_visible(self) -> None:
        """Raise no_mesh or empty_geometry if nothing is visible, neither at rest nor with animated materials."""
        motions = [motion for _, motion in self._all_motions.valid()]
        fading = [motion for motion in motions if changing_materials(motion.tracks)]
        if not any(len(part.geometry.faces) for motion in fading for part in self._visible_parts(motion)):
            self._require_visible_at_rest()

    def require_memory(self, frames: int) -> None:
        """Raise out_of_memory if the arrays of a clip of `frames` frames alone exceed `Limits.memory_bytes`."""
        limit = self.document.limits.memory_bytes
        if self._least_bytes(self._scene.parts, frames) <= limit:
            return
        shown = [self._parts, *(self._visible_parts(motion) for _, motion in self._all_motions.valid())]
        needed = min(self._least_bytes(parts, frames) for parts in shown)
        if needed > limit:
            triangles = sum(len(part.geometry.faces) for part in self._scene.parts)
            raise self.document.fail(
                ReasonCode.OUT_OF_MEMORY,
                f"the scene has {triangles:,} triangles: {frames} frames of it need at least {needed / 1e9:.3g} GB of "
                f"memory, more than the limit of {limit / 1e9:g} GB",
            )

    def _least_bytes(self, parts: Sequence[Part], frames: int) -> int:
        """Return the size of the decoded scene, the frames, and intermediate arrays of converting the last frame."""
        decoded = {id(part.geometry): part.geometry.nbytes for part in self._scene.parts}
        triangles = sum(len(part.geometry.faces) for part in parts)
        vertices = sum(len(part.geometry.positions) for part in parts)
        per_vertex = frames * FRAME_VERTEX_BYTES + _POSED_BYTES
        return sum(decoded.values()) + vertices * per_vertex + triangles * _TRIANGLE_BYTES

    def require_animation(self) -> None:
        """Raise no_animation or no_motion if no animation changes anything visible."""
        motions = [motion for _, motion in self._all_motions.valid()]
        if not len(self._all_motions):
            raise self.document.fail(ReasonCode.NO_ANIMATION, "has no animation")
        if motions and not any(map(self._moving_tracks, motions)):
            raise self.document.fail(ReasonCode.NO_MOTION, "its animations do not move anything visible")

    @cached_property
    def _parts(self) -> tuple[Part, ...]:
        """The parts of the scene without surfaces that are never visible, where no material changes."""
        return visible_parts(self._scene.parts, self.document, Images(self._accessors, self._decoded))

    def _visible_parts(self, motion: Motion) -> tuple[Part, ...]:
        """Return the parts of the scene without surfaces that are never visible in an animation."""
        if not changing_materials(motion.tracks):
            return self._parts
        images = Images(self._accessors, self._decoded)
        return visible_parts(self._scene.parts, self.document, images, motion.tracks)

    def _moving_tracks(self, motion: Motion) -> list[Track]:
        """Return the tracks that move, morph, hide or color something visible."""
        if any(track.property in (Property.VISIBLE, Property.MATERIAL) for track in motion.tracks):
            moves = self._scene.moves(self._visible_parts(motion), motion.tracks)
        else:
            moves = self._moves
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

    def poser(self, index: int) -> Poser:
        """Return a function that poses a clip, reduced to about 50,000 triangles, without materials."""
        found = self._motion(index)
        visible = self._visible_parts(found)
        total = sum(len(part.geometry.faces) for part in visible)
        parts = thinned(visible, -(-total // _PROBE_TRIANGLES))
        topologies = Topologies(parts, 0)
        looks = Looks(parts, Materials(self.document, Images(self._accessors, headers_only=True)), found.tracks)
        same = np.zeros(len(parts), np.int32)

        def frames_at(times: np.ndarray) -> tuple[Frame, ...]:
            shown = [Look(same, looks.shown(float(time))) for time in times]
            posed = pose_frames(self._scene, parts, topologies, found, times, shown, with_normals=False)
            return tuple(frame.frame() for frame in posed)

        return frames_at

    def bake(self, index: int | None, times: Float64Array) -> Clip:
        """Bake one animation at (T,) times in seconds; the rest pose, ignoring animations, for an index of None.

        Raises:
            AssetError: out_of_memory, empty_geometry, degenerate_geometry, non_finite_geometry, precision_loss,
                texture_too_large.
        """
        if index is None:
            self._require_visible_at_rest()
            return self._bake(Motion((), 0.0, 0.0), "", 0, times)
        return self._bake(self._motion(index), self.document.animations[index].name, index, times)

    def _require_visible_at_rest(self) -> None:
        if not self._scene.parts:
            raise self.document.fail(ReasonCode.NO_MESH, "the default scene has no triangle mesh")
        if not any(len(part.geometry.faces) for part in self._scene.parts):
            raise self.document.fail(ReasonCode.EMPTY_GEOMETRY, "its meshes have no triangles")
        if not any(len(part.geometry.faces) for part in self._parts):
            raise self.document.fail(ReasonCode.EMPTY_GEOMETRY, ALL_INVISIBLE)

    def _bake(self, found: Motion, name: str, index: int, times: Float64Array) -> Clip:
        document, parts, frames = self.document, self._visible_parts(found), len(times)
        vertices = sum(len(part.geometry.positions) for part in parts)
        if frames * vertices > document.limits.frame_vertices:
            raise document.fail(
                ReasonCode.OUT_OF_MEMORY,
                f"{frames} frames of {vertices:,} vertices are more than the limit of "
                f"{document.limits.frame_vertices:,} vertices in all frames",
            )
        images = Images(self._accessors, self._decoded)
        looks = Looks(parts, Materials(document, images), found.tracks)
        seen = [looks.at(float(time)) for time in times]
        topologies = Topologies(parts, _uv_sets(parts, looks.used))
        check = GeometryCheck(document.path)
        baked = []
        with np.errstate(over="ignore", invalid="ignore"):
            for world in pose_frames(self._scene, parts, topologies, found, times, seen, with_normals=True):
                check.add(world.positions, world.topology.faces, world.rounding)
                baked.append(world.frame())
        check.finish([part.geometry.positions[part.geometry.faces] for part in parts])
        return Clip(
            name=name,
            index=index,
            times=times,
            frames=tuple(baked),
            materials=tuple(looks.used),
            images=tuple(images.kept),
            extras=document.extras,
            warnings=tuple(document.warnings),
            skeleton=_skeleton(document, parts),
            up_axis="Y",  # glTF 2.0 section 3.4
        )


def _skeleton(document: Document, parts: Iterable[Part]) -> Skeleton:
    """Return the joints of all valid skins of a file; skinned if one of the given parts has a skin."""
    joints = dict.fromkeys(joint for _, skin in document.skins.valid() for joint in skin.joints)
    skinned = any(part.weighted is not None and part.weighted.any() for part in parts)

    def names() -> Iterator[str]:
        nodes = document.root.children("nodes")
        for joint in joints:
            name = nodes[joint].values.get("name")
            yield name if isinstance(name, str) else ""

    return Skeleton.of(names(), len(joints), skinned)


def _uv_sets(parts: Iterable[Part], materials: Iterable[Material]) -> int:
    """Return the number of UV sets that textures use; one without textures, if some part has UVs."""
    textures = [value for material in materials for value in vars(material).values() if isinstance(value, Texture)]
    present = any(0 in part.geometry.uvs for part in parts)
    return max([texture.uv_set + 1 for texture in textures], default=int(present))


def _check_materials(accessors: Accessors, parts: Iterable[Part]) -> None:
    materials = Materials(accessors.document, Images(accessors, headers_only=True))
    for number in sorted({part.geometry.material for part in parts if part.geometry.material is not None}):
        materials[number]

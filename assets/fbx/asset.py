"""Turns an FBX file into `Clip`s: one for each of its takes, posed at T times, Z up, in meters."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from helix4d.assets.assembly import Assembly, BrokenMeshError, Local, WorldFrame, checked_frames
from helix4d.assets.choice import ClipInfo
from helix4d.assets.clip import Clip, Frame
from helix4d.assets.fbx.binding import evaluated, load
from helix4d.assets.fbx.materials import Looks
from helix4d.assets.fbx.scene import Scene
from helix4d.assets.fbx.takes import Take, read_takes, stored_pose
from helix4d.assets.geometry_check import GeometryCheck
from helix4d.assets.limits import Limits
from helix4d.assets.stretch import StretchCheck
from helix4d.assets.surface import Poser
from helix4d.core import AssetError, ReasonCode
from helix4d.core.arrays import Float64Array

_LONGEST = 400
"""Characters of a warning: names in files may have any length."""


class FbxAsset:
    """An FBX file, with one clip for each take.

    Args:
        path: path of the file.
        limits: upper bounds on its size.
        root: folder that its images must be in; the file's own folder if None.

    Raises:
        AssetError: not_gltf for a file of another format, corrupt_file, invalid_accessor, invalid_scene_graph,
            unsupported_extension, out_of_memory.
    """

    def __init__(self, path: Path, limits: Limits, root: Path | None = None) -> None:
        self._path, self._limits, self._root = path, limits, root or path.parent
        self._warnings: dict[str, None] = {}
        self._source = load(path, limits)
        weakref.finalize(self, self._source.free)
        try:
            self._scene = Scene(self._source, path, limits, self._warn)
        except BrokenMeshError as error:
            raise AssetError(ReasonCode.INVALID_ACCESSOR, str(error), path) from error
        self._takes = read_takes(self._source, self._scene.movers, self._warn)
        self.clips = [ClipInfo(number, take.name, take.start, take.end) for number, take in enumerate(self._takes)]

    def require_visible(self) -> None:
        """Raise no_mesh if there is nothing to bake."""
        if not self._scene.parts:
            message = "has no mesh with faces" + "".join(f"; {text}" for text in list(self._warnings)[:3])
            raise AssetError(ReasonCode.NO_MESH, message, self._path)

    def require_animation(self) -> None:
        """Raise no_animation if there is no take."""
        if not self.clips:
            raise AssetError(ReasonCode.NO_ANIMATION, "has no animation", self._path)

    def poser(self, index: int) -> Poser:
        """Return a function that poses a take, without materials."""
        return lambda times: self._frames(self._takes[index], times, 0)

    def bake(self, index: int | None, times: Float64Array) -> Clip:
        """Bake one take at (T,) times in seconds; the scene as it is stored for an index of None.

        Raises:
            AssetError: out_of_memory, invalid_accessor, empty_geometry, degenerate_geometry, non_finite_geometry,
                precision_loss, texture_too_large.
        """
        take = stored_pose(self._source) if index is None else self._takes[index]
        looks = Looks(self._path, self._root, self._limits, self._scene.from_blender)
        check, stretch = GeometryCheck(self._path), StretchCheck()
        with np.errstate(over="ignore", invalid="ignore"):
            for part in self._scene.parts:
                part.shape.bind(looks)
            baked = self._frames(take, times, looks.uv_sets, check, stretch)
        metadata = self._source.metadata
        return Clip(
            name=take.name,
            index=index or 0,
            times=times,
            frames=baked,
            materials=tuple(look.material for look in looks.found),
            images=tuple(looks.files.images),
            extras={"generator": f"ufbx, FBX {metadata.version} of {metadata.creator[:80] or 'an unknown program'}"},
            warnings=(*self._warnings, *looks.warnings, *looks.files.warnings, *stretch.warnings()),
            skeleton=self._scene.skeleton(),
            up_axis=self._scene.up_axis(),
        )

    def _frames(
        self,
        take: Take,
        times: Float64Array,
        uv_sets: int,
        check: GeometryCheck | None = None,
        stretch: StretchCheck | None = None,
    ) -> tuple[Frame, ...]:
        assembly = Assembly(np.asarray, 1.0, uv_sets)
        most = self._limits.frame_vertices // len(times)

        def worlds() -> Iterator[WorldFrame]:
            for time in take.on_ticks(times):
                with evaluated(self._source, take.anim, float(time)) as posed:
                    yield assembly.frame(self._shown(posed, most))

        return checked_frames(worlds(), len(times), self._path, self._limits, check, stretch)

    def _shown(self, posed: object, most: int) -> list[tuple[Local, Float64Array]]:
        """Return the visible shapes of an evaluated scene, and their (1, 4, 4) places in the clip's axes."""
        found: list[tuple[Local, Float64Array]] = []
        vertices = 0
        for part, node_to_world in self._scene.shown(posed):
            local = part.shape.at(posed, node_to_world)
            if not len(local.surface.faces):
                continue
            vertices += len(local.positions)
            if vertices > most:
                raise OverflowError(f"a frame has at least {vertices:,} vertices")
            matrix = self._scene.to_clip if part.shape.is_in_world else node_to_world @ self._scene.to_clip
            found.append((local, matrix[None]))
        return found

    def _warn(self, message: str) -> None:
        self._warnings.setdefault(message if len(message) <= _LONGEST else f"{message[:_LONGEST]}…")

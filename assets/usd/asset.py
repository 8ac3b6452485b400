"""Turns a USD file into a `Clip`: one timeline, posed at T times, Z up, in meters."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from pxr import Tf, Usd

from helix4d.assets.assembly import checked_frames
from helix4d.assets.choice import ClipInfo
from helix4d.assets.clip import Clip, Frame
from helix4d.assets.geometry_check import GeometryCheck
from helix4d.assets.limits import Limits
from helix4d.assets.stretch import StretchCheck
from helix4d.assets.surface import Poser
from helix4d.assets.usd.frames import Frames
from helix4d.assets.usd.layers import open_stage, reason_of, recorded_notes
from helix4d.assets.usd.materials import Looks
from helix4d.assets.usd.scene import Scene
from helix4d.assets.usd.skeletons import read_skeleton, stated_up_axis
from helix4d.assets.usd.times import timeline
from helix4d.core import AssetError, ReasonCode
from helix4d.core.arrays import Float64Array

_HEADS = (b"PXR-USDC", b"#usda")


class UsdAsset:
    """A composed stage, with one clip if something visible changes over time.

    Args:
        path: path of the .usd, .usda or .usdc file.
        limits: upper bounds on its size.
        root: folder that its references must not leave; the file's own folder if None.

    Raises:
        AssetError: not_gltf for a file of another format, corrupt_file, uri_outside_asset, missing_buffer,
            invalid_scene_graph, out_of_memory.
    """

    def __init__(self, path: Path, limits: Limits, root: Path | None = None) -> None:
        self._path, self._limits, self._root = path, limits, root or path.parent
        self._warnings: dict[str, None] = {}
        with open(path, "rb") as stream:
            if not stream.read(8).startswith(_HEADS):
                raise AssetError(ReasonCode.NOT_GLTF, "is not a USD file: its suffix may be wrong", path)
        with self._recorded():
            self._stage = open_stage(path, self._root, limits)
            self._scene = Scene(self._stage, path, limits, self._warn)
            self._timeline = timeline(self._stage, self._scene.attributes())
        self._rate = float(self._stage.GetTimeCodesPerSecond())
        self.clips: list[ClipInfo] = []
        if self._timeline is not None:
            self.clips.append(ClipInfo(0, "", self._timeline.start / self._rate, self._timeline.end / self._rate))

    def require_visible(self) -> None:
        """Raise no_mesh if there is nothing to bake."""
        if not self._scene.parts:
            message = "has no mesh or geometric primitive" + "".join(f"; {text}" for text in list(self._warnings)[:3])
            raise AssetError(ReasonCode.NO_MESH, message, self._path)

    def require_animation(self) -> None:
        """Raise no_animation if nothing visible changes."""
        if not self.clips:
            raise AssetError(ReasonCode.NO_ANIMATION, "has no animation that changes anything visible", self._path)

    def poser(self, index: int) -> Poser:
        """Return what poses the clip without its looks."""
        return lambda times: self._frames(times, 0)

    def bake(self, index: int | None, times: Float64Array) -> Clip:
        """Bake the animation at (T,) times in seconds; the stage at its start for an index of None.

        Raises:
            AssetError: out_of_memory, invalid_accessor, no_mesh, empty_geometry, degenerate_geometry,
                non_finite_geometry, precision_loss, texture_too_large, uri_outside_asset.
        """
        looks = Looks(self._path, self._root, self._limits)
        check, stretch = GeometryCheck(self._path), StretchCheck()
        with self._recorded(), np.errstate(over="ignore", invalid="ignore"):
            for part in self._scene.parts:
                part.shape.bind(looks)
            baked = self._frames(times, looks.uv_sets, check, stretch)
        return Clip(
            name="",
            index=0,
            times=times,
            frames=baked,
            materials=tuple(look.material for look in looks.found),
            images=tuple(looks.files.images),
            extras=self._extras(),
            warnings=(*self._warnings, *looks.warnings, *looks.files.warnings, *stretch.warnings()),
            skeleton=read_skeleton(self._stage, self._scene.parts),
            up_axis=stated_up_axis(self._stage),
        )

    def _frames(
        self,
        times: Float64Array,
        uv_sets: int,
        check: GeometryCheck | None = None,
        stretch: StretchCheck | None = None,
    ) -> tuple[Frame, ...]:
        posed = Frames(self._scene, uv_sets, self._limits.frame_vertices // len(times))
        worlds = (posed.at(float(code)) for code in self._codes(times))
        return checked_frames(worlds, len(times), self._path, self._limits, check, stretch)

    def _codes(self, times: Float64Array) -> Float64Array:
        """Return the time codes of (T,) seconds; without an animation, the start of the stage."""
        if self._timeline is None:
            return np.full(len(times), self._stage.GetStartTimeCode())
        return self._timeline.codes(times, self._rate)

    def _extras(self) -> dict[str, object]:
        """Return the metadata of the root layer: its documentation, comment and custom texts."""
        layer = self._stage.GetRootLayer()
        stated = {name: value for name, value in layer.customLayerData.items() if isinstance(value, str)}
        facts = {"documentation": layer.documentation, "comment": layer.comment, **stated}
        kept = {name: text for name, text in facts.items() if text}
        if len(json.dumps(kept)) > self._limits.extras_bytes:
            self._warn("customLayerData is larger than the limit: ignored")
            kept = {}
        return {**kept, "generator": f"usd-core {'.'.join(str(number) for number in Usd.GetVersion()[1:])}"}

    @contextmanager
    def _recorded(self) -> Iterator[None]:
        with recorded_notes(self._root) as notes:
            try:
                yield
            except UnicodeDecodeError as error:
                raise AssetError(ReasonCode.CORRUPT_FILE, "contains text that is not UTF-8", self._path) from error
            except Tf.ErrorException as error:
                message = f"usd-core cannot evaluate the stage ({reason_of(error, self._root)})"
                raise AssetError(ReasonCode.CORRUPT_FILE, message, self._path) from error
        for note in notes:
            self._warn(note)

    def _warn(self, message: str) -> None:
        self._warnings.setdefault(message)

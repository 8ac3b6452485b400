"""Turns a COLLADA file into a `Clip`: one of its animation clips, posed at T times, Z up, in meters."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from xml.etree.ElementTree import Element

import numpy as np

from helix4d.assets.choice import ClipInfo
from helix4d.assets.clip import Clip, Frame
from helix4d.assets.collada.channels import Channel, read_channels
from helix4d.assets.collada.curves import Curve
from helix4d.assets.collada.document import Document
from helix4d.assets.collada.frames import Frames, Shown, thinned
from helix4d.assets.collada.materials import Looks
from helix4d.assets.collada.scene import Part, Scene
from helix4d.assets.collada.sources import named
from helix4d.assets.geometry_check import GeometryCheck
from helix4d.assets.limits import Limits
from helix4d.assets.skeleton import UpAxis
from helix4d.assets.surface import Poser
from helix4d.assets.visibility import ALL_INVISIBLE
from helix4d.core import AssetError, ReasonCode
from helix4d.core.arrays import Float64Array

_PROBE_TRIANGLES = 50_000
_UP_AXES: Mapping[str, UpAxis] = {"X_UP": "X", "Y_UP": "Y", "Z_UP": "Z"}


class ColladaAsset:
    """A document with its animation clips; if there are none, all animations form one clip.

    Args:
        path: path of the .dae file.
        limits: upper bounds on its size.
        root: folder that its references must not leave; its own folder if None.

    Raises:
        AssetError: not_gltf for a file of another format, corrupt_file, invalid_scene_graph, invalid_accessor,
            non_finite_geometry, uri_outside_asset, unsupported_extension, out_of_memory.
    """

    def __init__(self, path: Path, limits: Limits, root: Path | None = None) -> None:
        self._document = Document(path, root or path.parent, limits)
        with np.errstate(over="ignore", invalid="ignore"):
            self._scene = Scene(self._document)
            channels = read_channels(self._document)
        looks = Looks(self._document)
        self._visible = [part for part in self._scene.ever_visible(channels) if looks.can_show(part)]
        self._channels: list[list[Channel]] = []
        self.clips: list[ClipInfo] = []
        self._read_clips(channels)

    def _read_clips(self, channels: list[Channel]) -> None:
        """Collect the clips that move something visible, with the channels that do; others may be invalid."""
        document, moves = self._document, self._scene.moving(self._visible)
        self._scene.warn_of_lost(channels)
        for name, chosen, start, end in _clips(document, channels):
            moving = [channel for channel in chosen if moves(channel)]
            if not moving:
                continue
            if len(self.clips) == document.limits.animations:
                message = f"has more animation clips than the limit of {document.limits.animations:,}"
                raise document.fail(ReasonCode.OUT_OF_MEMORY, message)
            self.clips.append(_info(len(self.clips), name, moving, start, end))
            self._channels.append(moving)

    def require_visible(self) -> None:
        """Raise no_mesh or empty_geometry if there is nothing to bake."""
        document = self._document
        if not self._scene.parts:
            found = "".join(f"; {text}" for text in document.warnings[:3])
            raise document.fail(ReasonCode.NO_MESH, f"its scene shows no triangle mesh{found}")
        if not self._visible:
            raise document.fail(ReasonCode.EMPTY_GEOMETRY, ALL_INVISIBLE)

    def require_animation(self) -> None:
        """Raise no_animation or no_motion if no clip moves anything visible."""
        document = self._document
        if not self.clips and next(document.tree.iter("channel"), None) is None:
            raise document.fail(ReasonCode.NO_ANIMATION, "has no animation")
        if not self.clips:
            found = "".join(f"; {text}" for text in document.warnings[:3])
            raise document.fail(ReasonCode.NO_MOTION, f"its animations do not move anything visible{found}")

    def poser(self, index: int) -> Poser:
        """Return a function that poses a clip, reduced to about 50,000 triangles, without materials."""
        rows = thinned([Shown(part, 0, {}) for part in self._visible], _PROBE_TRIANGLES)
        posed = Frames(self._scene, rows, 0, self._channels[index], with_normals=False)

        def frames_at(times: np.ndarray) -> tuple[Frame, ...]:
            return tuple(world.frame() for world in posed.at(times))

        return frames_at

    def bake(self, index: int | None, times: Float64Array) -> Clip:
        """Bake one clip at (T,) times in seconds; the document without its animations for an index of None.

        Raises:
            AssetError: out_of_memory, empty_geometry, degenerate_geometry, non_finite_geometry, precision_loss,
                texture_too_large.
        """
        document, frames, parts = self._document, len(times), self._scene.parts
        vertices = sum(len(part.primitive.positions) for part in parts)
        if frames * vertices > document.limits.frame_vertices:
            message = f"{frames} frames of {vertices:,} vertices are more than the limit of "
            message += f"{document.limits.frame_vertices:,} vertices in all frames"
            raise document.fail(ReasonCode.OUT_OF_MEMORY, message)
        looks = Looks(document)
        channels = [] if index is None else self._channels[index]
        baked = self._baked(times, channels, [Shown(part, *looks.shown(part)) for part in parts], looks.uv_sets)
        return Clip(
            name="" if index is None else self.clips[index].name,
            index=index or 0,
            times=times,
            frames=baked,
            materials=tuple(looks.materials),
            images=looks.images,
            extras=self._extras(),
            warnings=(*document.warnings, *looks.warnings),
            skeleton=self._scene.skeleton(),
            up_axis=_stated_up_axis(document),
        )

    def _baked(
        self, times: Float64Array, channels: list[Channel], rows: list[Shown], uv_sets: int
    ) -> tuple[Frame, ...]:
        check = GeometryCheck(self._document.path)
        posed = Frames(self._scene, rows, uv_sets, channels, with_normals=True)
        baked = []
        with np.errstate(over="ignore", invalid="ignore"):
            for world in posed.at(times):
                check.add(world.positions, world.topology.faces, world.rounding)
                baked.append(world.frame())
        check.finish(_unposed(row.part) for row in rows)
        return tuple(baked)

    def _extras(self) -> dict[str, object]:
        """Return the metadata of the document."""
        facts = {}
        for place in ("contributor", "."):
            for element in self._document.tree.iterfind(f"asset/{place}/*"):
                text = (element.text or "").strip()
                if text and not len(element) and element.tag not in ("created", "modified", "up_axis"):
                    facts[element.tag] = text
        if len(json.dumps(facts)) > self._document.limits.extras_bytes:
            self._document.warn("<asset> is larger than the limit: ignored")
            facts = {}
        return {"generator": facts.pop("authoring_tool", "COLLADA"), **facts}


def _stated_up_axis(document: Document) -> UpAxis | None:
    """Return the up axis in `<asset>`; None if it is missing or unknown, and Y is assumed."""
    return _UP_AXES.get((document.tree.findtext("asset/up_axis") or "").strip())


def _clips(document: Document, channels: list[Channel]) -> list[tuple[str, list[Channel], float | None, float | None]]:
    """Return name, channels, and stated start and end of each clip."""
    elements = list(document.library("library_animation_clips", "animation_clip"))
    if not elements:
        return [("", channels, None, None)] if channels else []
    found: list[tuple[str, list[Channel], float | None, float | None]] = []
    used: set[int] = set()
    for element in elements:
        chosen: list[Channel] = []
        for instance in element.iterfind("instance_animation"):
            animation = document.find(instance.get("url", ""), "animation")
            if animation is None:
                document.warn(f"{named(element)}: refers to an animation that does not exist: ignored")
                continue
            inside = {id(entry) for entry in animation.iter("animation")}
            chosen += [channel for channel in channels if id(channel.animation) in inside]
        used.update(map(id, chosen))
        name = element.get("name") or element.get("id") or ""
        found.append((name, chosen, _seconds(element, "start"), _seconds(element, "end")))
    if any(id(channel) not in used for channel in channels):
        document.warn("some animations are not part of any animation clip: ignored")
    return found


def _info(index: int, name: str, moving: list[Channel], start: float | None, end: float | None) -> ClipInfo:
    """Return a clip that spans its keys, limited to the stated range if the two overlap."""
    curves = [channel.curve for channel in moving if isinstance(channel.curve, Curve)]
    if len(curves) < len(moving):
        error = next(channel.curve for channel in moving if isinstance(channel.curve, AssetError))
        return ClipInfo(index, name, 0.0, 0.0, error)
    first, last = (
        float(min(curve.times[0] for curve in curves)),
        float(max(curve.times[-1] for curve in curves)),
    )
    low = first if start is None else max(first, start)
    high = last if end is None else min(last, end)
    return ClipInfo(index, name, low, high) if low < high else ClipInfo(index, name, first, last)


def _seconds(element: Element, name: str) -> float | None:
    try:
        value = float(element.get(name, ""))
    except ValueError:
        return None
    return value if np.isfinite(value) else None


def _unposed(part: Part) -> Float64Array:
    return part.primitive.positions[part.primitive.faces]

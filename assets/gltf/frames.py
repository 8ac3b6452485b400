"""Combines posed parts into the frames of a clip: one vertex array per frame, Z up; frames share topologies."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from helix4d.assets.clip import Frame, Topology
from helix4d.assets.gltf.animation import Motion
from helix4d.assets.gltf.geometry import Geometry
from helix4d.assets.gltf.looks import Look
from helix4d.assets.gltf.scene import Part, Placements, PosedPart, Scene, State, unit_rows
from helix4d.core.arrays import Float32Array, Float64Array, Int32Array


@dataclass(frozen=True, eq=False)
class WorldFrame:
    """One frame in float64.

    Attributes:
        positions, normals: (V, 3) float64, Z up; normals are zero if they were not requested.
        topology: visible triangles.
        rounding: largest error in world space, in meters, due to float32 rounding in the file.
    """

    positions: Float64Array
    normals: Float64Array
    topology: Topology
    rounding: float

    def frame(self) -> Frame:
        """Convert to float32."""
        return Frame(self.positions.astype(np.float32), self.normals.astype(np.float32), self.topology)


class Topologies:
    """Topologies of a list of parts, of which each frame may hide some and mirror others.

    Args:
        parts: parts of the scene.
        uv_sets: number of UV sets in the clip.
    """

    def __init__(self, parts: Sequence[Part], uv_sets: int) -> None:
        self._parts = parts
        self._sizes = [len(part.geometry.faces) for part in parts]
        starts = np.concatenate([[0], np.cumsum([len(part.geometry.positions) for part in parts])])
        geometries = [part.geometry for part in parts]
        faces = [geometry.faces + start for geometry, start in zip(geometries, starts[:-1], strict=True)]
        self._faces = np.concatenate(faces).astype(np.int32)
        self._uvs = np.zeros((uv_sets, len(self._faces), 3, 2), np.float32)
        has_colors = any(geometry.colors is not None for geometry in geometries)
        self._colors = np.ones((len(self._faces), 3, 4), np.float32) if has_colors else None
        self._rows: list[slice] = []
        end = 0
        for geometry in geometries:
            rows = slice(end, end := end + len(geometry.faces))
            self._rows.append(rows)
            for number, uvs in geometry.uvs.items():
                if number < uv_sets:
                    self._uvs[number, rows] = uvs[geometry.faces]
            if self._colors is not None and geometry.colors is not None:
                self._colors[rows] = geometry.colors[geometry.faces]
        self._shapes: dict[tuple[bytes, ...], Topology] = {}
        self._built: dict[tuple[bytes, ...], Topology] = {}

    def topology(self, posed: Sequence[PosedPart], materials: Int32Array) -> Topology:
        """Return the topology of a frame: the same object if visibility, mirroring, colors and materials are equal.

        Frames that differ only in materials share all other arrays.

        Args:
            posed: the P parts.
            materials: (P,) index of each part's material in the clip.
        """
        mirrored = np.array([part.mirrored for part in posed], bool)
        visible = np.array([part.visible for part in posed], bool)
        key = mirrored.tobytes(), visible.tobytes(), *(p.colors.tobytes() for p in posed if p.colors is not None)
        look = *key, materials.tobytes()
        if look in self._built:
            return self._built[look]
        kept = np.repeat(visible, self._sizes)
        ids = np.repeat(materials, self._sizes)[kept]
        if key in self._shapes:
            self._built[look] = replace(self._shapes[key], material_ids=ids)
        else:
            turned = np.repeat(mirrored, self._sizes)[kept]
            order = np.where(turned[:, None], [0, 2, 1], [0, 1, 2])
            rows = np.arange(len(turned))[:, None]
            self._shapes[key] = self._built[look] = Topology(
                faces=self._faces[kept][rows, order],
                uvs=np.ascontiguousarray(self._uvs[:, kept][:, rows, order]),
                material_ids=ids,
                colors=None if self._colors is None else self._morphed(self._colors, posed)[kept][rows, order],
            )
        return self._built[look]

    def _morphed(self, colors: Float32Array, posed: Sequence[PosedPart]) -> Float32Array:
        """Return the (F, 3, 4) colors of a frame: `colors` with those of parts with morphed colors replaced."""
        if all(part.colors is None for part in posed):
            return colors
        colors = colors.copy()
        for part, pose, rows in zip(self._parts, posed, self._rows, strict=True):
            if pose.colors is not None:
                colors[rows] = pose.colors[part.geometry.faces]
        return colors


def pose_frames(
    scene: Scene,
    parts: Sequence[Part],
    topologies: Topologies,
    motion: Motion,
    times: Float64Array,
    looks: Sequence[Look],
    with_normals: bool,
) -> Iterator[WorldFrame]:
    """Yield one frame per time and look."""
    for time, look in zip(times, looks, strict=True):
        state = scene.state(motion, float(time))
        placed = scene.place(parts, state)
        posed = scene.pose_all(parts, state, placed, with_normals)
        if not look.shown.all():
            posed = [replace(p, visible=p.visible and bool(s)) for p, s in zip(posed, look.shown, strict=True)]
        positions = np.concatenate([part.positions for part in posed])
        normals = _normals(posed, positions) if with_normals else np.zeros_like(positions)
        rounding = _rounding(parts, posed, placed, state)
        topology = topologies.topology(posed, look.materials)
        del posed, placed, state
        positions = z_up(positions)
        normals = z_up(normals)
        yield WorldFrame(positions, normals, topology, rounding)


def thinned(parts: Sequence[Part], stride: int) -> list[Part]:
    """Keep every `stride`-th triangle of each part (at least one), and only the data that moves vertices."""
    return [replace(part, geometry=_thin(part.geometry, stride)) for part in parts if len(part.geometry.faces)]


def z_up(vectors: Float64Array) -> Float64Array:
    """Convert (V, 3) vectors from glTF's axes (x, y, z) to Z up (x, −z, y)."""
    return np.stack([vectors[:, 0], -vectors[:, 2], vectors[:, 1]], axis=1)


def _normals(posed: Sequence[PosedPart], positions: Float64Array) -> Float64Array:
    """Return the (V, 3) unit normals of all parts; parts without normals get flat ones from the (V, 3) positions."""
    counts = [len(part.positions) for part in posed]
    flat = np.repeat([part.normals is None for part in posed], counts)
    given = [part.normals for part in posed if part.normals is not None]
    normals = np.empty_like(positions)
    if given:
        normals[~flat] = unit_rows(np.concatenate(given))
    if flat.any():
        corners = positions[flat].reshape(-1, 3, 3)  # the corners of a part without normals are separate
        signs = np.repeat([-1.0 if part.mirrored else 1.0 for part in posed], counts)[flat][::3, None]
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            across = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
            across = across / np.linalg.norm(across, axis=1, keepdims=True) * signs
        normals[flat] = np.repeat(np.where(np.isfinite(across), across, [0.0, 1.0, 0.0]), 3, axis=0)
    return normals


def _rounding(parts: Sequence[Part], posed: Sequence[PosedPart], placed: Placements, state: State) -> float:
    """Return the largest error of visible positions, in meters, due to float32 rounding in the file."""
    steps = np.array([part.geometry.position_step for part in parts])
    errors = steps * _sizes(placed.matrices)
    for number, part in enumerate(parts):
        if part.joints is None or part.inverse_bind is None or part.weighted is None:
            continue
        # Ignore joints that no vertex follows: they may be arbitrarily far away.
        matrices, inverse_bind = state.globals[part.joints[part.weighted]], part.inverse_bind[part.weighted]
        bind_steps = np.spacing(np.abs(inverse_bind[:, :3, 3]).max(axis=1, initial=0.0).astype(np.float32))
        rounded = np.maximum(steps[number] * _sizes(matrices @ inverse_bind), bind_steps * _sizes(matrices))
        errors[number] = rounded.max(initial=0.0)
    return float(errors[[part.visible for part in posed]].max(initial=0.0))


def _sizes(matrices: Float64Array) -> Float64Array:
    """Return an upper bound (...) of how much each of (..., 4, 4) matrices stretches a vector."""
    return np.asarray(np.sqrt((matrices[..., :3, :3] ** 2).sum(axis=(-2, -1))))


def _thin(geometry: Geometry, stride: int) -> Geometry:
    used, faces = np.unique(geometry.faces[::stride], return_inverse=True)
    return replace(
        geometry,
        positions=geometry.positions[used],
        normals=None,
        faces=faces.reshape(-1, 3),
        uvs={},
        colors=None,
        joints=None if geometry.joints is None else geometry.joints[used],
        weights=None if geometry.weights is None else geometry.weights[used],
        morph_positions=None if geometry.morph_positions is None else geometry.morph_positions[:, used],
        morph_normals=None,
        morph_colors=None,
    )

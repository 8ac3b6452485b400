"""Posed parts become the frames of a clip: one vertex array a frame, Z up, and topologies shared where they repeat."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from helix4d.assets.clip import Frame, Topology
from helix4d.assets.gltf.animation import Motion
from helix4d.assets.gltf.geometry import Geometry
from helix4d.assets.gltf.scene import Part, PosedPart, Scene, State


@dataclass(frozen=True, eq=False)
class WorldFrame:
    """A moment in float64.

    Attributes:
        positions, normals: (V, 3) float64, Z up; normals are zero where they were not asked for.
        faces: (F, 3) int32 of the visible triangles.
        topology: what will go into the clip.
        rounding: meters that the file's own float32 numbers may be off by, carried into the world.
    """

    positions: np.ndarray
    normals: np.ndarray
    topology: Topology
    rounding: float

    def frame(self) -> Frame:
        """The same in float32."""
        return Frame(self.positions.astype(np.float32), self.normals.astype(np.float32), self.topology)


class Topologies:
    """The triangles of some parts; which are hidden and which are turned over may change from frame to frame."""

    def __init__(self, parts: Sequence[Part], material_ids: Sequence[int], uv_sets: int) -> None:
        """`material_ids` holds the clip's material of each part."""
        self._parts = parts
        self._sizes = [len(part.geometry.faces) for part in parts]
        starts = np.concatenate([[0], np.cumsum([len(part.geometry.positions) for part in parts])])
        geometries = [part.geometry for part in parts]
        faces = [geometry.faces + start for geometry, start in zip(geometries, starts[:-1], strict=True)]
        self._faces = np.concatenate(faces).astype(np.int32)
        self._materials = np.repeat(np.array(material_ids, np.int32), self._sizes)
        self._uvs = np.zeros((uv_sets, len(self._faces), 3, 2), np.float32)
        has_colors = any(geometry.colors is not None for geometry in geometries)
        self._colors = np.ones((len(self._faces), 3, 4), np.float32) if has_colors else None
        end = 0
        for geometry in geometries:
            rows = slice(end, end := end + len(geometry.faces))
            for number, uvs in geometry.uvs.items():
                if number < uv_sets:
                    self._uvs[number, rows] = uvs[geometry.faces]
            if self._colors is not None and geometry.colors is not None:
                self._colors[rows] = geometry.colors[geometry.faces]
        self._built: dict[tuple[bytes, bytes], Topology] = {}

    def of(self, posed: Sequence[PosedPart]) -> Topology:
        """The topology of a moment; the same object as at any earlier moment that looks alike."""
        mirrored = np.array([part.mirrored for part in posed], bool)
        visible = np.array([part.visible for part in posed], bool)
        key = mirrored.tobytes(), visible.tobytes()
        if key not in self._built:
            kept = np.repeat(visible, self._sizes)
            turned = np.repeat(mirrored, self._sizes)[kept]
            order = np.where(turned[:, None], [0, 2, 1], [0, 1, 2])
            rows = np.arange(len(turned))[:, None]
            self._built[key] = Topology(
                faces=self._faces[kept][rows, order],
                uvs=np.ascontiguousarray(self._uvs[:, kept][:, rows, order]),
                material_ids=self._materials[kept],
                colors=None if self._colors is None else self._colors[kept][rows, order],
            )
        return self._built[key]


def pose_frames(
    scene: Scene, parts: Sequence[Part], topologies: Topologies, motion: Motion, times: np.ndarray, with_normals: bool
) -> Iterator[WorldFrame]:
    """One frame a time."""
    for time in times:
        state = scene.state(motion, float(time))
        posed = [scene.pose(part, state, with_normals) for part in parts]
        positions = np.concatenate([part.positions for part in posed])
        normals = np.zeros_like(positions)
        if with_normals:
            normals = np.concatenate([_normals(part, p) for part, p in zip(parts, posed, strict=True)])
        rounding = max((_rounding(part, state) for part, p in zip(parts, posed, strict=True) if p.visible), default=0.0)
        yield WorldFrame(z_up(positions), z_up(normals), topologies.of(posed), rounding)


def thinned(parts: Sequence[Part], stride: int) -> list[Part]:
    """Every `stride`-th triangle of each part (at least one), without what does not move vertices."""
    return [replace(part, geometry=_thin(part.geometry, stride)) for part in parts if len(part.geometry.faces)]


def z_up(vectors: np.ndarray) -> np.ndarray:
    """glTF's (x, y, z) to Blender's (x, −z, y)."""
    return np.stack([vectors[:, 0], -vectors[:, 2], vectors[:, 1]], axis=1)


def _normals(part: Part, posed: PosedPart) -> np.ndarray:
    if posed.normals is not None:
        return posed.normals
    corners = posed.positions.reshape(-1, 3, 3)  # a part without normals has its corners apart
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        flat = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        flat = flat / np.linalg.norm(flat, axis=1, keepdims=True) * (-1.0 if posed.mirrored else 1.0)
    return np.repeat(np.where(np.isfinite(flat), flat, [0.0, 1.0, 0.0]), 3, axis=0)


def _rounding(part: Part, state: State) -> float:
    step = part.geometry.position_step
    if part.joints is None or part.inverse_bind is None or part.weighted is None:
        return float(step * _sizes(state.globals[part.node] @ part.local))
    # Joints that no vertex follows may stand anywhere.
    matrices, inverse_bind = state.globals[part.joints[part.weighted]], part.inverse_bind[part.weighted]
    bind_steps = np.spacing(np.abs(inverse_bind[:, :3, 3]).max(axis=1, initial=0.0).astype(np.float32))
    rounded = np.maximum(step * _sizes(matrices @ inverse_bind), bind_steps * _sizes(matrices))
    return float(rounded.max(initial=0.0))


def _sizes(matrices: np.ndarray) -> np.ndarray:
    """(...) how much each of the (..., 4, 4) matrices stretches at most."""
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
    )

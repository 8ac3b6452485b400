"""Combines the shapes of a scene to frames in the clip's axes and in meters."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from pxr import UsdGeom

from helix4d.assets.clip import Frame, Topology
from helix4d.assets.gltf.frames import z_up
from helix4d.assets.gltf.scene import cofactor
from helix4d.assets.usd.scene import Scene
from helix4d.assets.usd.shapes import Local, Surface
from helix4d.core.arrays import BoolArray, Float64Array


@dataclass(frozen=True, eq=False)
class WorldFrame:
    """One frame in float64.

    Attributes:
        positions, normals: (V, 3) float64, Z up, in meters.
        topology: triangles; the same object for frames that show the same surfaces.
        unposed: (F, 3, 3) triangles of each shape in its own space.
        deformed: (F, 3, 3) triangles of each shape that a skin deforms, before and after it.
        rounding: largest error in world space, in meters, due to float32 rounding in the file.
    """

    positions: Float64Array
    normals: Float64Array
    topology: Topology
    unposed: list[Float64Array]
    deformed: list[tuple[Float64Array, Float64Array]]
    rounding: float

    def frame(self) -> Frame:
        """Convert to float32."""
        return Frame(self.positions.astype(np.float32), self.normals.astype(np.float32), self.topology)


class Frames:
    """Poses a scene.

    Args:
        scene: the scene.
        uv_sets: number of UV sets in the clip.
        max_vertices: most vertices in one frame.

    Raises:
        OverflowError: in `at`, if a frame has more vertices.
    """

    def __init__(self, scene: Scene, uv_sets: int, max_vertices: int) -> None:
        self._scene, self._uv_sets, self._max_vertices = scene, uv_sets, max_vertices
        stage = scene.stage
        self._is_y_up = UsdGeom.GetStageUpAxis(stage) == UsdGeom.Tokens.y
        # USD's fallback is centimeters, but without the metadata the unit is unknown: lengths stay as stored.
        stated = UsdGeom.StageHasAuthoredMetersPerUnit(stage)
        self._meters = float(UsdGeom.GetStageMetersPerUnit(stage)) if stated else 1.0
        self._topologies: dict[tuple[tuple[int, bytes], ...], tuple[Topology, list[Surface]]] = {}

    def at(self, time: float) -> WorldFrame:
        """Return the frame at a time code."""
        cache = UsdGeom.XformCache(time)
        shown: list[tuple[Local, Float64Array]] = []
        deformed: list[Local] = []
        vertices = 0
        for part in self._scene.parts:
            matrices = self._scene.matrices(part, time, cache)
            local = part.shape.at(time) if len(matrices) else None
            if local is None or not len(local.surface.faces):
                continue
            vertices += len(matrices) * len(local.positions)
            if vertices > self._max_vertices:
                raise OverflowError(f"a frame has at least {vertices:,} vertices")
            shown.append((local, matrices))
            if part.shape.skin is not None:
                deformed.append(local)
        empty = np.zeros((0, 3))
        placed = [_placed(local, matrices) for local, matrices in shown]
        positions = np.concatenate([empty, *(row[0] for row in placed)]) * self._meters
        normals = np.concatenate([empty, *(row[1] for row in placed)])
        topology = self._topology(
            [(local.surface, turned) for (local, _), (_, _, turned) in zip(shown, placed, strict=True)]
        )
        stretch = [local.step * float(np.linalg.norm(m[:, :3, :3], axis=(1, 2)).max()) for local, m in shown]
        return WorldFrame(
            positions=z_up(positions) if self._is_y_up else positions,
            normals=z_up(normals) if self._is_y_up else normals,
            topology=topology,
            unposed=[local.unposed for local, _ in shown],
            deformed=[(local.unposed, local.positions[local.surface.faces]) for local in deformed],
            rounding=max(stretch, default=0.0) * self._meters,
        )

    def _topology(self, rows: list[tuple[Surface, BoolArray]]) -> Topology:
        key = tuple((id(surface), turned.tobytes()) for surface, turned in rows)
        if key not in self._topologies:
            # The surfaces are kept with it, so that no other object can get the id of one.
            self._topologies[key] = _joined(rows, self._uv_sets), [surface for surface, _ in rows]
        return self._topologies[key][0]


def _placed(local: Local, matrices: Float64Array) -> tuple[Float64Array, Float64Array, BoolArray]:
    """Return the positions, unit normals, and orientation of K instances: (K·V, 3) twice, and a (K,) mask."""
    linear = matrices[:, :3, :3]
    positions = local.positions @ linear + matrices[:, None, 3, :3]
    flipped = np.linalg.det(linear) < 0
    # Normals are multiplied by the cofactor matrix; a mirrored one needs the opposite sign.
    turn = cofactor(linear) * np.where(flipped, -1.0, 1.0)[:, None, None]
    normals = local.normals @ turn
    length = np.linalg.norm(normals, axis=2, keepdims=True)
    valid = np.isfinite(length) & (length > 0)
    normals = np.where(valid, normals / np.where(valid, length, 1.0), [0.0, 0.0, 1.0])
    return positions.reshape(-1, 3), normals.reshape(-1, 3), np.asarray(flipped != local.mirrored)


def _joined(rows: list[tuple[Surface, BoolArray]], uv_sets: int) -> Topology:
    faces, uvs, colors, ids, start = [], [], [], [], 0
    has_colors = any(surface.colors is not None for surface, _ in rows)
    for surface, turned in rows:
        count = len(surface.faces)
        own = surface.colors if surface.colors is not None else np.ones((count, 3, 4), np.float32)
        for flipped in turned:
            order = [0, 2, 1] if flipped else [0, 1, 2]
            faces.append(surface.faces[:, order] + np.int32(start))
            uvs.append(surface.uvs[:, :, order])
            ids.append(surface.material_ids)
            if has_colors:
                colors.append(own[:, order])
            start += surface.count
    if not faces:
        return Topology(np.zeros((0, 3), np.int32), np.zeros((uv_sets, 0, 3, 2), np.float32), np.zeros(0, np.int32))
    return Topology(
        faces=np.concatenate(faces),
        uvs=np.ascontiguousarray(np.concatenate(uvs, axis=1)),
        material_ids=np.concatenate(ids),
        colors=np.concatenate(colors) if has_colors else None,
    )

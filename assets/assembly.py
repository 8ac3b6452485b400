"""Combines posed surfaces, each in its own space, into the frames of a clip.

For scenes of files other than glTF. Matrices multiply row vectors from the right.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from helix4d.assets.clip import Frame, Topology
from helix4d.assets.geometry_check import GeometryCheck
from helix4d.assets.gltf.scene import cofactor
from helix4d.assets.limits import Limits
from helix4d.assets.stretch import StretchCheck
from helix4d.core import AssetError, ReasonCode
from helix4d.core.arrays import BoolArray, Float32Array, Float64Array, Int32Array, Int64Array


class BrokenMeshError(ValueError):
    """The arrays of a mesh are inconsistent; the message names the mesh."""


@dataclass(frozen=True, eq=False)
class Surface:
    """Triangles of a shape; arrays as in `helix4d.assets.Topology`.

    Attributes:
        faces: (F, 3) int32 vertices, counter-clockwise in the space of the shape.
        uvs: (S, F, 3, 2) float32.
        colors: (F, 3, 4) float32, or None.
        material_ids: (F,) int32 indices of materials.
        count: number of vertices.
    """

    faces: Int32Array
    uvs: Float32Array
    colors: Float32Array | None
    material_ids: Int32Array
    count: int

    def equals(self, other: Surface) -> bool:
        """Return whether another surface has the same values."""
        return (
            self.count == other.count
            and np.array_equal(self.faces, other.faces)
            and np.array_equal(self.uvs, other.uvs)
            and np.array_equal(self.material_ids, other.material_ids)
            and (self.colors is None) == (other.colors is None)
            and (self.colors is None or other.colors is None or np.array_equal(self.colors, other.colors))
        )


@dataclass(frozen=True, eq=False)
class Local:
    """A shape at one time, in the space of its node or skin.

    Attributes:
        positions, normals: (V, 3) float64.
        surface: triangles over these vertices; the same object while nothing changes.
        unposed: (F, 3, 3) float64 corners of the triangles before skinning.
        step: float32 step at the largest coordinate of the stored points.
        mirrored: whether the skin turned the shape inside out.
    """

    positions: Float64Array
    normals: Float64Array
    surface: Surface
    unposed: Float64Array
    step: float
    mirrored: bool


@dataclass(frozen=True, eq=False)
class WorldFrame:
    """One frame in float64.

    Attributes:
        positions, normals: (V, 3) float64, Z up, in meters.
        topology: triangles; the same object for frames that show the same surfaces.
        unposed: (F, 3, 3) float64 triangles of each shape in its own space.
        deformed: (F, 3, 3) triangles of each shape before and after its deformation.
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


class Assembly:
    """Combines placed shapes into frames that share topologies.

    Args:
        to_clip: turns (V, 3) vectors of the world of the file to the clip's axes.
        meters: length of the file's unit.
        uv_sets: number of UV sets in the clip.
    """

    def __init__(self, to_clip: Callable[[Float64Array], Float64Array], meters: float, uv_sets: int) -> None:
        self._to_clip, self._meters, self._uv_sets = to_clip, meters, uv_sets
        self._topologies: dict[tuple[tuple[int, bytes], ...], tuple[Topology, list[Surface]]] = {}

    def frame(self, shown: list[tuple[Local, Float64Array]]) -> WorldFrame:
        """Return the frame that shows each shape with its (K, 4, 4) transforms to the world of the file."""
        empty = np.zeros((0, 3))
        placed = [_placed(local, matrices) for local, matrices in shown]
        positions = np.concatenate([empty, *(row[0] for row in placed)]) * self._meters
        normals = np.concatenate([empty, *(row[1] for row in placed)])
        topology = self._topology(
            [(local.surface, turned) for (local, _), (_, _, turned) in zip(shown, placed, strict=True)]
        )
        stretch = [local.step * float(np.linalg.norm(m[:, :3, :3], axis=(1, 2)).max()) for local, m in shown]
        return WorldFrame(
            positions=self._to_clip(positions),
            normals=self._to_clip(normals),
            topology=topology,
            unposed=[local.unposed for local, _ in shown],
            deformed=[(local.unposed, local.positions[local.surface.faces]) for local, _ in shown],
            rounding=max(stretch, default=0.0) * self._meters,
        )

    def _topology(self, rows: list[tuple[Surface, BoolArray]]) -> Topology:
        key = tuple((id(surface), turned.tobytes()) for surface, turned in rows)
        if key not in self._topologies:
            # The surfaces are stored too, so that their ids are not reused for other objects.
            self._topologies[key] = _joined(rows, self._uv_sets), [surface for surface, _ in rows]
        return self._topologies[key][0]


def sums(rows: Float64Array, groups: Int64Array, count: int = 0) -> Float64Array:
    """Return the (G, 3) sums of (N, 3) rows by group."""
    return np.stack([np.bincount(groups, rows[:, n], count) for n in range(3)], axis=1)


def unit(vectors: Float64Array) -> Float64Array:
    """Return (..., 3) vectors at length 1; +Z for those of length 0."""
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    valid = np.isfinite(length) & (length > 0)
    return np.where(valid, vectors / np.where(valid, length, 1.0), [0.0, 0.0, 1.0])


def _placed(local: Local, matrices: Float64Array) -> tuple[Float64Array, Float64Array, BoolArray]:
    """Return the (K·V, 3) positions and unit normals of K instances, and a (K,) mask of those turned inside out."""
    linear = matrices[:, :3, :3]
    positions = local.positions @ linear + matrices[:, None, 3, :3]
    flipped = np.linalg.det(linear) < 0
    # Normals are multiplied by the cofactor matrix, with the opposite sign for mirrored instances.
    turn = cofactor(linear) * np.where(flipped, -1.0, 1.0)[:, None, None]
    normals = unit(local.normals @ turn)
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


def checked_frames(
    worlds: Iterable[WorldFrame],
    count: int,
    path: Path,
    limits: Limits,
    check: GeometryCheck | None,
    stretch: StretchCheck | None,
) -> tuple[Frame, ...]:
    """Convert the frames of a clip to float32, and check them.

    Args:
        worlds: the frames, posed one after the other.
        count: number of frames.
        path: path of the file, for messages.
        limits: upper bounds that posing keeps.
        check, stretch: checks to apply; None for frames whose motion is measured only.

    Raises:
        AssetError: invalid_accessor, out_of_memory, or what `GeometryCheck` finds.
    """
    baked: list[Frame] = []
    unposed: list[Float64Array] = []
    try:
        for world in worlds:
            if check is not None:
                check.add(world.positions, world.topology.faces, world.rounding)
            if stretch is not None:
                stretch.add(world.deformed)
            unposed = unposed or world.unposed
            baked.append(world.frame())
    except BrokenMeshError as error:
        raise AssetError(ReasonCode.INVALID_ACCESSOR, str(error), path) from error
    except OverflowError as error:
        message = f"{count} frames: {error}, more than the limit of {limits.frame_vertices:,} in all frames"
        raise AssetError(ReasonCode.OUT_OF_MEMORY, message, path) from error
    if check is not None:
        check.finish(unposed)
    return tuple(baked)

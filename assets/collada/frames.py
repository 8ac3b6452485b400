"""Combines posed parts into the frames of a clip. Frames that show the same triangles share a topology."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from helix4d.assets.clip import Topology
from helix4d.assets.collada.channels import Channel
from helix4d.assets.collada.scene import Part, Posed, Scene
from helix4d.assets.gltf.frames import WorldFrame, z_up
from helix4d.assets.gltf.scene import unit_rows
from helix4d.core.arrays import BoolArray, Float32Array, Float64Array


@dataclass(frozen=True, eq=False)
class Shown:
    """A part, with what its material needs.

    Attributes:
        part: the part.
        material: index of its material in the clip.
        uvs: (V, 2) float32 by the number of the clip's UV set.
    """

    part: Part
    material: int
    uvs: dict[int, Float32Array]


class Frames:
    """Poses parts of a scene.

    Args:
        scene: the scene.
        rows: what is shown, at least one part.
        uv_sets: number of UV sets in the clip.
        channels: the animation.
        with_normals: whether normals are needed.
    """

    def __init__(
        self, scene: Scene, rows: Sequence[Shown], uv_sets: int, channels: Sequence[Channel], with_normals: bool
    ) -> None:
        self._scene, self._rows, self._channels, self._with_normals = scene, rows, channels, with_normals
        primitives = [row.part.primitive for row in rows]
        self._sizes = [len(primitive.faces) for primitive in primitives]
        starts = np.cumsum([0, *(len(primitive.positions) for primitive in primitives)])[:-1]
        faces = [primitive.faces + start for primitive, start in zip(primitives, starts, strict=True)]
        self._faces = np.concatenate([np.zeros((0, 3), np.int64), *faces]).astype(np.int32)
        self._materials = np.repeat(np.array([row.material for row in rows], np.int32), self._sizes)
        self._uvs = np.zeros((uv_sets, len(self._faces), 3, 2), np.float32)
        has_colors = with_normals and any(primitive.colors is not None for primitive in primitives)
        self._colors = np.ones((len(self._faces), 3, 4), np.float32) if has_colors else None
        end = 0
        for row, primitive in zip(rows, primitives, strict=True):
            place = slice(end, end := end + len(primitive.faces))
            for number, uvs in row.uvs.items():
                self._uvs[number, place] = uvs[primitive.faces]
            if self._colors is not None and primitive.colors is not None:
                self._colors[place] = primitive.colors[primitive.faces]
        self._built: dict[tuple[bytes, bytes], Topology] = {}

    def at(self, times: Float64Array) -> Iterator[WorldFrame]:
        """Yield the frames at (T,) times in seconds."""
        parts = [row.part for row in self._rows]
        for state in self._scene.states(self._channels, times):
            posed = self._scene.pose_all(parts, state, self._with_normals)
            visible = state.visible[[part.instance.node for part in parts]]
            positions = np.concatenate([part.positions for part in posed])
            normals = np.zeros_like(positions)
            if self._with_normals:
                normals = np.concatenate([_normals(part, found) for part, found in zip(parts, posed, strict=True)])
            yield WorldFrame(
                positions=z_up(positions),
                normals=z_up(normals),
                topology=self._topology(np.array([part.mirrored for part in posed], bool), visible),
                rounding=max((p.rounding for p, shown in zip(posed, visible, strict=True) if shown), default=0.0),
            )

    def _topology(self, mirrored: BoolArray, visible: BoolArray) -> Topology:
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


def thinned(rows: Sequence[Shown], most: int) -> list[Shown]:
    """Keep about `most` triangles in even steps, at least one per part, and only the data that moves vertices."""
    total = sum(len(row.part.primitive.faces) for row in rows)
    stride = max(-(-total // most), 1)
    return [replace(row, part=_thin(row.part, stride), uvs={}) for row in rows]


def _normals(part: Part, posed: Posed) -> Float64Array:
    """Return the (V, 3) unit normals of a part; flat ones if it has none, as its corners are separate then."""
    if posed.normals is not None:
        return unit_rows(posed.normals)
    corners = posed.positions[part.primitive.faces]
    across = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals = np.empty_like(posed.positions)
    normals[part.primitive.faces.reshape(-1)] = np.repeat(across * (-1.0 if posed.mirrored else 1.0), 3, axis=0)
    return unit_rows(normals)


def _thin(part: Part, stride: int) -> Part:
    primitive, binding = part.primitive, part.binding
    used, faces = np.unique(primitive.faces[::stride], return_inverse=True)
    thin = replace(
        primitive,
        points=primitive.points[used],
        positions=primitive.positions[used],
        normals=None,
        faces=faces.reshape(-1, 3),
        uvs={},
        colors=None,
    )
    if binding is not None:
        binding = replace(binding, joints=binding.joints[used], weights=binding.weights[used])
    moved = None if part.moved is None else part.moved[:, used]
    return replace(part, primitive=thin, binding=binding, moved=moved, turned=None)

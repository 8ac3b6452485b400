"""Converts a clip to one O-Voxel per frame; shared data is prepared once, and frames may run in parallel threads."""

from __future__ import annotations

import math
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from helix4d.assets import Clip, Frame, Topology
from helix4d.voxelize.convert.conversion import check_faces, check_resolution, convert, weld_labels
from helix4d.voxelize.convert.gpu_check import use_gpu
from helix4d.voxelize.convert.grid import Attributes, Device, DualGrid, QuadricWeights
from helix4d.voxelize.convert.surface import MaterialTable, material_table
from helix4d.voxelize.convert.triangles import Triangles
from helix4d.voxelize.errors import GeometryError
from helix4d.voxelize.kernels.order_kernels import ORDER_SIDE, spatial_order
from helix4d.voxelize.kernels.topology_kernels import boundary_edges
from helix4d.voxelize.ovoxel import OVoxel, spread_table


@dataclass(frozen=True, eq=False)
class PreparedTopology:
    """A topology with its faces in spatial order of the first frame, so that memory is read almost sequentially.

    Attributes:
        topology: the original topology.
        triangles: its faces in this order, with their boundary and materials.
    """

    topology: Topology
    triangles: Triangles


@dataclass(frozen=True, eq=False)
class Surface:
    """Data shared by all frames of a clip at every resolution; created by `prepare_surface`."""

    topologies: Mapping[int, PreparedTopology]
    """Keyed by the `id` of the topology, which the value keeps alive."""

    def prepared(self, topology: Topology) -> PreparedTopology:
        """Return the prepared data for this topology (the same object, not an equal one).

        Raises:
            GeometryError: if the topology is not part of the clip.
        """
        try:
            return self.topologies[id(topology)]
        except KeyError:
            raise GeometryError("the frame is not part of the clip that the surface was prepared for") from None


def prepare_surface(clip: Clip) -> Surface:
    """Compute mip pyramids, material tables and boundary edges of a clip; faces of outline materials are left out.

    To find boundary edges, vertices are welded if their positions are bitwise equal in every frame of their topology.
    This welds UV seams, where both copies of a vertex move alike, but not parts that touch only for a moment, so the
    boundary is the same in all frames.

    Raises:
        GeometryError: if an index has no vertex, material, image or UV set.
    """
    frames: dict[int, list[Frame]] = {}
    for frame in clip.frames:
        frames.setdefault(id(frame.topology), []).append(frame)
    for group in frames.values():
        _check_topology(clip, group)
    materials = material_table(clip.materials, clip.images)
    shown = np.array([not material.outline for material in clip.materials], np.bool_)
    return Surface({key: _prepared_topology(group, materials, shown) for key, group in frames.items()})


def voxelize_frame(frame: Frame, surface: Surface, resolution: int, device: Device = "auto") -> OVoxel:
    """Convert one frame of the clip that `surface` was prepared from.

    A triangle contributes its color to the voxels that it activates, sampled at their centers and weighted by 1 minus
    the signed distance of the center from its plane. Stored texels are multiplied by factors without conversion from
    sRGB, as in TRELLIS.2.

    Raises:
        GeometryError: if a triangle is not finite or leaves [-0.5, 0.5]^3.
        GpuError: if the device is "gpu" and cannot be used.
        ValueError: if the resolution is not between 1 and 1024.
    """
    triangles = surface.prepared(frame.topology).triangles
    return _ovoxel(*convert(frame.vertices, triangles, resolution, QuadricWeights(), device))


def voxelize_clip(
    clip: Clip, resolution: int, threads: int = 1, surface: Surface | None = None, device: Device = "auto"
) -> list[OVoxel]:
    """Convert all frames; the result does not depend on the number of threads.

    Args:
        clip: normalized to [-0.5, 0.5]^3.
        resolution: voxels per side.
        threads: frames to convert at the same time on the CPU; memory grows with it.
        surface: `prepare_surface(clip)`, if several resolutions share it.
        device: see `Device`. On a GPU, transfers of one frame overlap with the computation of another.

    Raises:
        GeometryError, GpuError, ValueError: as in `prepare_surface` and `voxelize_frame`.
    """
    if threads < 1:
        raise ValueError(f"threads {threads}: must be at least 1")
    shared = prepare_surface(clip) if surface is None else surface
    if use_gpu(device):
        from helix4d.voxelize.convert.gpu import convert_on_gpu

        check_resolution(resolution)
        frames = [
            (np.ascontiguousarray(frame.vertices, np.float32), shared.prepared(frame.topology).triangles)
            for frame in clip.frames
        ]
        return convert_on_gpu(frames, resolution, QuadricWeights(), _ovoxel)
    if threads == 1:
        return [voxelize_frame(frame, shared, resolution, "cpu") for frame in clip.frames]
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(lambda frame: voxelize_frame(frame, shared, resolution, "cpu"), clip.frames))


def _ovoxel(grid: DualGrid, attributes: Attributes) -> OVoxel:
    metallic, roughness, alpha = attributes.surface[:, :, None]
    return OVoxel(
        grid.resolution,
        grid.coords,
        grid.dual_vertices,
        grid.intersected,
        attributes.base_color,
        metallic,
        roughness,
        alpha,
    )


def _check_topology(clip: Clip, frames: list[Frame]) -> None:
    """Raise GeometryError unless every index of the frames' topology exists."""
    topology = frames[0].topology
    vertices = len(frames[0].vertices)
    if any(len(frame.vertices) != vertices for frame in frames):
        raise GeometryError("frames with the same topology have different numbers of vertices")
    check_faces(topology.faces, vertices)
    ids = topology.material_ids
    if len(ids) and (ids.min() < 0 or ids.max() >= len(clip.materials)):
        raise GeometryError(f"faces use materials {ids.min()} to {ids.max()}, the clip has {len(clip.materials)}")
    for used in np.unique(ids):
        material = clip.materials[used]
        for texture in (material.base_color_texture, material.metallic_roughness_texture):
            if texture is None:
                continue
            if not 0 <= texture.image < len(clip.images):
                raise GeometryError(f"material {used} uses image {texture.image}, the clip has {len(clip.images)}")
            if not 0 <= texture.uv_set < len(topology.uvs):
                raise GeometryError(f"material {used} uses UV set {texture.uv_set}, the clip has {len(topology.uvs)}")
    if len(topology.uvs) and not math.isfinite(float(np.abs(topology.uvs).max(initial=0.0))):
        raise GeometryError("UVs are not finite")


def _prepared_topology(frames: list[Frame], materials: MaterialTable, shown: np.ndarray) -> PreparedTopology:
    topology = frames[0].topology
    labels = weld_labels([frame.vertices for frame in frames], len(frames[0].vertices))
    kept = np.flatnonzero(shown[topology.material_ids]).astype(np.int32)
    faces = np.ascontiguousarray(topology.faces[kept], np.int32)
    positions = np.ascontiguousarray(frames[0].vertices, np.float32)
    order = kept[spatial_order(positions, faces, spread_table(ORDER_SIDE))[0]]
    triangles = Triangles(
        np.ascontiguousarray(topology.faces[order], np.int32),
        boundary_edges(faces, labels),
        order,
        materials,
        np.ascontiguousarray(topology.uvs[:, order], np.float32),
        np.ascontiguousarray(topology.material_ids[order], np.int32),
        np.zeros((0, 3, 4), np.float32) if topology.colors is None else topology.colors[order].astype(np.float32),
    )
    return PreparedTopology(topology, triangles)

"""A clip becomes one O-Voxel a frame; what frames share is prepared once and frames may run in parallel threads."""

from __future__ import annotations

import math
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from helix4d.assets import Clip, Frame, Topology
from helix4d.voxelize.convert.conversion import Device, QuadricWeights, check_faces, convert, weld_labels
from helix4d.voxelize.convert.surface import MaterialTable, material_table
from helix4d.voxelize.errors import GeometryError
from helix4d.voxelize.kernels.order_kernels import ORDER_SIDE, spatial_order
from helix4d.voxelize.kernels.topology_kernels import boundary_edges
from helix4d.voxelize.ovoxel import OVoxel, spread_table


@dataclass(frozen=True, eq=False)
class PreparedTopology:
    """A topology with its faces in spatial order, so that memory is read nearly in sequence, and its boundary.

    Attributes:
        topology: the one that this was made from, untouched.
        order: (F,) int32, the faces by where they lie in the first frame; the arrays of faces below follow it.
        faces, uvs, material_ids, colors: as in the topology.
        edges: (E, 2) int32, those that bound the surface.
    """

    topology: Topology
    order: np.ndarray
    faces: np.ndarray
    uvs: np.ndarray
    material_ids: np.ndarray
    colors: np.ndarray | None
    edges: np.ndarray


@dataclass(frozen=True, eq=False)
class Surface:
    """What all frames of a clip share at every resolution; `prepare_surface` makes it."""

    materials: MaterialTable
    topologies: Mapping[int, PreparedTopology]
    """By the identity of the topology, which the value keeps alive."""

    def prepared(self, topology: Topology) -> PreparedTopology:
        """What was prepared for this topology (the same object, not an equal one)."""
        try:
            return self.topologies[id(topology)]
        except KeyError:
            raise GeometryError("the frame's topology is not one of the clip that the surface was made for") from None


def prepare_surface(clip: Clip) -> Surface:
    """Mip pyramids, material tables and boundary edges of a clip.

    Vertices are welded for the search of boundary edges where they coincide, to the bit, in every frame of their
    topology. UV seams do, since both copies of a vertex move alike; two parts that only touch for a moment do not,
    so the boundary is the same in all frames.

    Raises:
        GeometryError: for an index without a vertex, a material or a UV set.
    """
    frames: dict[int, list[Frame]] = {}
    for frame in clip.frames:
        frames.setdefault(id(frame.topology), []).append(frame)
    topologies = {key: _prepared_topology(clip, group) for key, group in frames.items()}
    return Surface(material_table(clip.materials, clip.images), topologies)


def voxelize_frame(frame: Frame, surface: Surface, resolution: int, device: Device = "auto") -> OVoxel:
    """The O-Voxel of one frame of the clip that `surface` was prepared from.

    A triangle feeds its color to the voxels that it makes active, sampled at their centers and weighted by 1 minus
    the signed distance of the center from its plane. Texels are multiplied by factors as stored, without conversion
    from sRGB, as TRELLIS.2 does.

    Raises:
        GeometryError: if a triangle leaves [-0.5, 0.5]^3 or is not finite.
        ValueError: for a resolution not between 1 and 1024.
    """
    prepared = surface.prepared(frame.topology)
    grid, attributes = convert(
        frame.vertices,
        prepared.faces,
        prepared.edges,
        resolution,
        QuadricWeights(),
        surface.materials,
        prepared.uvs,
        prepared.material_ids,
        prepared.colors,
        device,
        prepared.order,
    )
    return OVoxel(
        resolution,
        grid.coords,
        grid.dual_vertices,
        grid.intersected,
        np.ascontiguousarray(attributes[:, :3]),
        attributes[:, 3:4].copy(),
        attributes[:, 4:5].copy(),
        attributes[:, 5:6].copy(),
    )


def voxelize_clip(
    clip: Clip, resolution: int, threads: int = 1, surface: Surface | None = None, device: Device = "auto"
) -> list[OVoxel]:
    """The O-Voxels of all frames, the same for any number of threads.

    Args:
        clip: normalized into [-0.5, 0.5]^3.
        resolution: voxels per side.
        threads: frames converted at a time; memory grows with it.
        surface: `prepare_surface(clip)`, where several resolutions share it.
        device: "gpu", "cpu", or "auto" for a GPU that passes a check against the CPU, else the CPU.

    Raises:
        GeometryError, ValueError: as `prepare_surface` and `voxelize_frame`.
    """
    if threads < 1:
        raise ValueError(f"threads is {threads}, at least 1 is needed")
    shared = prepare_surface(clip) if surface is None else surface
    if threads == 1:
        return [voxelize_frame(frame, shared, resolution, device) for frame in clip.frames]
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(lambda frame: voxelize_frame(frame, shared, resolution, device), clip.frames))


def _prepared_topology(clip: Clip, frames: list[Frame]) -> PreparedTopology:
    topology = frames[0].topology
    vertices = len(frames[0].vertices)
    if any(len(frame.vertices) != vertices for frame in frames):
        raise GeometryError("frames of one topology have different numbers of vertices")
    check_faces(topology.faces, vertices)
    ids = topology.material_ids
    if len(ids) and (ids.min() < 0 or ids.max() >= len(clip.materials)):
        raise GeometryError(f"material ids {ids.min()} to {ids.max()}, the clip has {len(clip.materials)} materials")
    for used in np.unique(ids):
        material = clip.materials[used]
        for texture in (material.base_color_texture, material.metallic_roughness_texture):
            if texture is None:
                continue
            if not 0 <= texture.image < len(clip.images):
                raise GeometryError(f"material {used} shows image {texture.image}, the clip has {len(clip.images)}")
            if not 0 <= texture.uv_set < len(topology.uvs):
                raise GeometryError(f"material {used} reads UV set {texture.uv_set}, there are {len(topology.uvs)}")
    if len(topology.uvs) and not math.isfinite(float(np.abs(topology.uvs).max(initial=0.0))):
        raise GeometryError("a UV is not finite")
    labels = weld_labels([frame.vertices for frame in frames], vertices)
    faces = np.ascontiguousarray(topology.faces, np.int32)
    positions = np.ascontiguousarray(frames[0].vertices, np.float32)
    order, _ = spatial_order(positions, faces, spread_table(ORDER_SIDE))
    return PreparedTopology(
        topology,
        order,
        faces[order],
        np.ascontiguousarray(topology.uvs[:, order], np.float32),
        topology.material_ids[order],
        None if topology.colors is None else topology.colors[order],
        boundary_edges(faces, labels),
    )

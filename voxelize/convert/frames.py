"""Converts a clip to one O-Voxel per frame; shared data is prepared once, and frames may run in parallel threads."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import get_args

import numpy as np

from helix4d.assets import Clip, Frame, Topology
from helix4d.voxelize.convert.conversion import check_faces, check_resolution, convert, weld_labels
from helix4d.voxelize.convert.cpu import Workspace
from helix4d.voxelize.convert.emission import Emissive, add_emission, emission_table, glows
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
        emission: the same with the emission of the materials as their base color; None if it is ignored, or none glows.
    """

    topology: Topology
    triangles: Triangles
    emission: Triangles | None


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


def prepare_surface(clip: Clip, emissive: Emissive = "ignore") -> Surface:
    """Compute mip pyramids, material tables and boundary edges of a clip; faces of outline materials are left out.

    To find boundary edges, vertices are welded if their positions are bitwise equal in every frame of their triangles.
    This welds UV seams, where both copies of a vertex move alike, but not parts that touch only for a moment, so the
    boundary is the same in all frames.

    Args:
        clip: the clip.
        emissive: what becomes of the materials' emission; see `Emissive`.

    Raises:
        GeometryError: if an index has no vertex, material, image or UV set.
    """
    if emissive not in get_args(Emissive):
        raise ValueError(f"emissive {emissive!r}: must be {' or '.join(get_args(Emissive))}")
    add = emissive == "add"
    for group in _grouped(clip.frames, lambda one, two: one.topology is two.topology):
        _check_topology(clip, group, add)
    tables = _Tables(
        material_table(clip.materials, clip.images),
        emission_table(clip.materials, clip.images) if add else None,
        np.array([not material.outline for material in clip.materials], np.bool_),
        np.array([add and glows(material) for material in clip.materials], np.bool_),
    )
    prepared: dict[int, PreparedTopology] = {}
    for group in _grouped(clip.frames, _same_mesh):
        prepared.update(_prepared_topologies(group, tables))
    return Surface(prepared)


def voxelize_frame(frame: Frame, surface: Surface, resolution: int, device: Device = "auto") -> OVoxel:
    """Convert one frame of the clip that `surface` was prepared from.

    A triangle contributes its color to the voxels that it activates, sampled at their centers and weighted by 1 minus
    the signed distance of the center from its plane. Stored texels are multiplied by factors without conversion from
    sRGB, as in TRELLIS.2. Emission is added if the surface was prepared for that.

    Raises:
        GeometryError: if a triangle is not finite or leaves [-0.5, 0.5]^3.
        GpuError: if the device is "gpu" and cannot be used.
        ValueError: if the resolution is not between 1 and 1024.
    """
    return _voxelize(frame, surface, resolution, device, Workspace())


def _voxelize(frame: Frame, surface: Surface, resolution: int, device: Device, workspace: Workspace) -> OVoxel:
    prepared = surface.prepared(frame.topology)
    ovoxel = _ovoxel(*convert(frame.vertices, prepared.triangles, resolution, QuadricWeights(), device, workspace))
    if prepared.emission is None:
        return ovoxel
    _, emission = convert(frame.vertices, prepared.emission, resolution, QuadricWeights(), device, workspace)
    return replace(ovoxel, base_color=add_emission(ovoxel.base_color, emission.base_color))


def voxelize_clip(
    clip: Clip,
    resolution: int,
    threads: int = 1,
    surface: Surface | None = None,
    device: Device = "auto",
    emissive: Emissive = "ignore",
) -> list[OVoxel]:
    """Convert all frames; the result does not depend on the number of threads.

    Args:
        clip: normalized to [-0.5, 0.5]^3.
        resolution: voxels per side.
        threads: frames to convert at the same time on the CPU; memory grows with it.
        surface: `prepare_surface(clip, emissive)`, if several resolutions share it.
        device: see `Device`. On a GPU, transfers of one frame overlap with the computation of another.
        emissive: what becomes of the materials' emission; see `Emissive`. Not used if `surface` is given.

    Raises:
        GeometryError, GpuError, ValueError: as in `prepare_surface` and `voxelize_frame`.
    """
    if threads < 1:
        raise ValueError(f"threads {threads}: must be at least 1")
    shared = prepare_surface(clip, emissive) if surface is None else surface
    if use_gpu(device):
        return _voxelize_on_gpu(clip, resolution, shared)
    if threads == 1:
        workspace = Workspace()
        return [_voxelize(frame, shared, resolution, "cpu", workspace) for frame in clip.frames]
    own = threading.local()  # a workspace per thread

    def voxelize(frame: Frame) -> OVoxel:
        if not hasattr(own, "workspace"):
            own.workspace = Workspace()
        return _voxelize(frame, shared, resolution, "cpu", own.workspace)

    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(voxelize, clip.frames))


def _voxelize_on_gpu(clip: Clip, resolution: int, surface: Surface) -> list[OVoxel]:
    from helix4d.voxelize.convert.gpu import convert_on_gpu

    check_resolution(resolution)
    vertices = [np.ascontiguousarray(frame.vertices, np.float32) for frame in clip.frames]
    prepared = [surface.prepared(frame.topology) for frame in clip.frames]
    frames = [(points, one.triangles) for points, one in zip(vertices, prepared, strict=True)]
    ovoxels = convert_on_gpu(frames, resolution, QuadricWeights(), _ovoxel)
    glowing = [number for number, one in enumerate(prepared) if one.emission is not None]
    emitting = [(vertices[n], triangles) for n in glowing if (triangles := prepared[n].emission) is not None]
    emitted = convert_on_gpu(emitting, resolution, QuadricWeights(), lambda _, attributes: attributes.base_color)
    for number, emission in zip(glowing, emitted, strict=True):
        base_color = add_emission(ovoxels[number].base_color, emission)
        ovoxels[number] = replace(ovoxels[number], base_color=base_color)
    return ovoxels


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


def _grouped(frames: Iterable[Frame], alike: Callable[[Frame, Frame], bool]) -> list[list[Frame]]:
    """Group frames that are alike, in order of the first of each group."""
    groups: list[list[Frame]] = []
    for frame in frames:
        for group in groups:
            if alike(group[0], frame):
                group.append(frame)
                break
        else:
            groups.append([frame])
    return groups


def _same_mesh(one: Frame, two: Frame) -> bool:
    return len(one.vertices) == len(two.vertices) and one.topology.same_triangles(two.topology)


def _check_topology(clip: Clip, frames: list[Frame], emissive: bool) -> None:
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
        emission = material.emissive_texture if emissive else None
        for texture in (material.base_color_texture, material.metallic_roughness_texture, emission):
            if texture is None:
                continue
            if not 0 <= texture.image < len(clip.images):
                raise GeometryError(f"material {used} uses image {texture.image}, the clip has {len(clip.images)}")
            if not 0 <= texture.uv_set < len(topology.uvs):
                raise GeometryError(f"material {used} uses UV set {texture.uv_set}, the clip has {len(topology.uvs)}")
    if len(topology.uvs) and not math.isfinite(float(np.abs(topology.uvs).max(initial=0.0))):
        raise GeometryError("UVs are not finite")


@dataclass(frozen=True, eq=False)
class _Tables:
    """Tables of a clip's M materials.

    Attributes:
        materials: the materials.
        emission: their emission as base color, or None.
        shown: (M,) bool, whether a material has voxels.
        glows: (M,) bool, whether a material's emission counts.
    """

    materials: MaterialTable
    emission: MaterialTable | None
    shown: np.ndarray
    glows: np.ndarray


def _prepared_topologies(frames: list[Frame], tables: _Tables) -> dict[int, PreparedTopology]:
    """Prepare the topologies of frames that have the same triangles, by the `id` of the topology."""
    first = frames[0]
    labels = weld_labels([frame.vertices for frame in frames], len(first.vertices))
    prepared: dict[int, PreparedTopology] = {}
    previous: PreparedTopology | None = None
    for topology in {id(frame.topology): frame.topology for frame in frames}.values():
        if previous is not None and _differ_in_materials_only(previous.topology, topology, tables.shown):
            order = previous.triangles.names
            triangles = replace(previous.triangles, material_ids=np.ascontiguousarray(topology.material_ids[order]))
        else:
            triangles = _in_spatial_order(topology, first.vertices, labels, tables)
        emission = None
        if tables.emission is not None and tables.glows[triangles.material_ids].any():
            emission = replace(triangles, materials=tables.emission, colors=np.zeros((0, 3, 4), np.float32))
        previous = prepared[id(topology)] = PreparedTopology(topology, triangles, emission)
    return prepared


def _differ_in_materials_only(one: Topology, two: Topology, shown: np.ndarray) -> bool:
    """Return whether topologies share their arrays, except for material ids, and show the same faces."""
    shared = one.faces is two.faces and one.uvs is two.uvs and one.colors is two.colors
    return shared and np.array_equal(shown[one.material_ids], shown[two.material_ids])


def _in_spatial_order(topology: Topology, vertices: np.ndarray, labels: np.ndarray, tables: _Tables) -> Triangles:
    kept = np.flatnonzero(tables.shown[topology.material_ids]).astype(np.int32)
    faces = np.ascontiguousarray(topology.faces[kept], np.int32)
    positions = np.ascontiguousarray(vertices, np.float32)
    order = kept[spatial_order(positions, faces, spread_table(ORDER_SIDE))[0]]
    return Triangles(
        np.ascontiguousarray(topology.faces[order], np.int32),
        boundary_edges(faces, labels),
        order,
        tables.materials,
        np.ascontiguousarray(topology.uvs[:, order], np.float32),
        np.ascontiguousarray(topology.material_ids[order], np.int32),
        np.zeros((0, 3, 4), np.float32) if topology.colors is None else topology.colors[order].astype(np.float32),
    )

"""Converts triangles to a sparse dual grid: active voxels, crossed edges, dual vertices, and optionally attributes.

These are the entry points, which check the arguments and choose CPU or GPU. Algorithm and conventions follow TRELLIS.2;
docs/voxelize.md has the details and the cost.
"""

from __future__ import annotations

import numpy as np

from helix4d.voxelize.convert.cpu import Workspace, convert_on_cpu
from helix4d.voxelize.convert.gpu_check import use_gpu
from helix4d.voxelize.convert.grid import Attributes, Device, DualGrid, QuadricWeights
from helix4d.voxelize.convert.triangles import Triangles
from helix4d.voxelize.errors import GeometryError
from helix4d.voxelize.kernels.compilation import warm_up
from helix4d.voxelize.kernels.topology_kernels import boundary_edges, refine_labels
from helix4d.voxelize.ovoxel import MAX_RESOLUTION


def dual_grid(
    vertices: np.ndarray,
    faces: np.ndarray,
    resolution: int,
    face_weight: float = 1.0,
    boundary_weight: float = 0.2,
    regularization_weight: float = 0.01,
    weld: bool = True,
    device: Device = "auto",
) -> DualGrid:
    """Compute the dual grid of one mesh, without attributes.

    Args:
        vertices: (V, 3) float32 in [-0.5, 0.5]; unused vertices may be anywhere.
        faces: (F, 3) int32; triangles without area only affect the boundary.
        resolution: voxels per side, 1 to 1024.
        face_weight, boundary_weight, regularization_weight: weights of TRELLIS.2's terms; 0 omits a term.
        weld: merge vertices with equal positions when searching for boundary edges.
        device: see `Device`.

    Raises:
        GeometryError: if an index has no vertex, or a vertex is not finite or outside the cube.
        GpuError: if the device is "gpu" and cannot be used.
        ValueError: if the resolution is out of range.
    """
    warm_up()
    vertices, faces = np.ascontiguousarray(vertices, np.float32), np.ascontiguousarray(faces, np.int32)
    check_faces(faces, len(vertices))
    labels = weld_labels([vertices] if weld else [], len(vertices))
    edges = boundary_edges(faces, labels)
    weights = QuadricWeights(float(face_weight), float(boundary_weight), float(regularization_weight))
    grid, _ = convert(vertices, Triangles(faces, edges), resolution, weights, device)
    return grid


def check_faces(faces: np.ndarray, vertices: int) -> None:
    """Raise GeometryError unless all indices of (F, 3) int32 faces are below `vertices`."""
    if len(faces) and (faces.min() < 0 or faces.max() >= vertices):
        raise GeometryError(f"faces use vertices {faces.min()} to {faces.max()}, the mesh has {vertices}")


def weld_labels(frames: list[np.ndarray], vertices: int) -> np.ndarray:
    """(V,) int32: for each vertex, the first one with the same position in all frames (V, 3)."""
    warm_up()
    labels = np.zeros(vertices, np.int32) if frames else np.arange(vertices, dtype=np.int32)
    for positions in frames:
        labels = refine_labels(np.ascontiguousarray(positions, np.float32), labels)
    return labels


def convert(
    vertices: np.ndarray,
    triangles: Triangles,
    resolution: int,
    weights: QuadricWeights,
    device: Device = "auto",
    workspace: Workspace | None = None,
) -> tuple[DualGrid, Attributes]:
    """Compute the dual grid and its attributes; see `dual_grid` for the other arguments and the errors.

    On the CPU, `workspace` keeps its memory for the next conversion by the same thread.
    """
    check_resolution(resolution)
    warm_up()
    vertices = np.ascontiguousarray(vertices, np.float32)
    if use_gpu(device):
        from helix4d.voxelize.convert.gpu import convert_on_gpu

        return convert_on_gpu([(vertices, triangles)], resolution, weights, lambda *both: both)[0]
    return convert_on_cpu(vertices, triangles, resolution, weights, workspace)


def check_resolution(resolution: int) -> None:
    """Raise ValueError unless voxels of this many per side can be numbered."""
    if not 1 <= resolution <= MAX_RESOLUTION:
        raise ValueError(f"resolution {resolution}: must be between 1 and {MAX_RESOLUTION}")

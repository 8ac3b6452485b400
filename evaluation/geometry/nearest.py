"""Nearest-neighbor search: a k-d tree on the CPU, brute force on a GPU.

Brute force computes differences, not matrix products, whose rounding would give identical clouds a nonzero distance. On
CUDA it is one Triton kernel that keeps the distances in registers, ten instructions a pair; elsewhere it goes through
memory in chunks.
"""

from __future__ import annotations

import importlib.util
from functools import cache

import torch
from scipy.spatial import KDTree
from torch import Tensor

_PAIRS = 2**24
"""Pairs per chunk: 64 MiB for each of the two float32 arrays."""
TILE_QUERIES, TILE_POINTS, WARPS = 64, 32, 4
"""One program of the kernel: 16 pairs a thread and step, in 116 registers."""


class Neighbors:
    """Finds the nearest of the points (P, 3) to queries."""

    def __init__(self, points: Tensor) -> None:
        self._points = points.detach()
        # Fastest tree settings for clouds that are queried once, as in an alignment.
        on_cpu = points.device.type == "cpu"
        self._tree = KDTree(self._points.numpy(), leafsize=24, balanced_tree=False) if on_cpu else None

    def query(self, queries: Tensor) -> tuple[Tensor, Tensor]:
        """Return distances (...) and indices (...) of the points nearest to (..., 3), with torch's thread count."""
        if self._tree is None:
            return _brute_force(queries, self._points)
        distances, indices = self._tree.query(queries.detach().numpy(), workers=torch.get_num_threads())
        return torch.as_tensor(distances), torch.as_tensor(indices)


def nearest_of_each(queries: Tensor, clouds: Tensor) -> tuple[Tensor, Tensor]:
    """Search each of the clouds (S, P, 3) for the points nearest to the queries (Q, 3): distances, indices (S, Q)."""
    if _has_kernel(clouds):
        return nearest_in_registers(queries[None], clouds)
    found = [Neighbors(cloud).query(queries) for cloud in clouds]
    distances, indices = (torch.stack(kind) for kind in zip(*found, strict=True))
    return distances, indices


def nearest_in_registers(queries: Tensor, clouds: Tensor) -> tuple[Tensor, Tensor]:
    """Search in Triton: queries (S, Q, 3) in clouds (S, P, 3) → distances and int64 indices (S, Q).

    Either may have S = 1, which stands for all. All are float32 and finite. Distances are those of `nearest_in_chunks`,
    and the index is the first of equals.
    """
    from helix4d.evaluation.geometry.nearest_kernels import nearest_points

    queries, clouds = queries.detach().contiguous(), clouds.detach()
    size, count = max(len(queries), len(clouds)), queries.shape[1]
    columns = torch.nn.functional.pad(clouds.mT, (0, -clouds.shape[1] % TILE_POINTS), value=torch.inf).contiguous()
    squared = torch.empty(size, count, device=queries.device)
    indices = torch.empty(size, count, dtype=torch.int32, device=queries.device)
    if count:
        nearest_points[-(-count // TILE_QUERIES), size](
            queries, columns, squared, indices, count, columns.shape[2],
            queries.stride(0) if len(queries) > 1 else 0, columns.stride(0) if len(clouds) > 1 else 0,
            TILE_QUERIES, TILE_POINTS, num_warps=WARPS,
        )  # fmt: skip
    return squared.sqrt_(), indices.long()


def nearest_in_chunks(queries: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
    """Brute-force search on any device: queries (..., 3), points (P, 3) → distances (...), indices (...)."""
    flat = queries.detach().reshape(-1, 3)
    parts = [_nearest_of_all(part, points) for part in flat.split(max(1, _PAIRS // len(points)))]
    squared, indices = (torch.cat(kind).reshape(queries.shape[:-1]) for kind in zip(*parts, strict=True))
    return squared.sqrt(), indices


def _brute_force(queries: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
    if not _has_kernel(points):
        return nearest_in_chunks(queries, points)
    distances, indices = nearest_in_registers(queries.reshape(1, -1, 3), points[None])
    return distances.reshape(queries.shape[:-1]), indices.reshape(queries.shape[:-1])


def _has_kernel(points: Tensor) -> bool:
    return points.is_cuda and points.dtype == torch.float32 and _triton_available()


@cache
def _triton_available() -> bool:
    return importlib.util.find_spec("triton") is not None


def _nearest_of_all(queries: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
    """Search all pairs at once: (Q, 3), (P, 3) → squared distances (Q,) and indices (Q,)."""
    squared = torch.zeros(len(queries), len(points), dtype=points.dtype, device=points.device)
    for axis in range(3):
        difference = queries[:, axis, None] - points[None, :, axis]
        squared.addcmul_(difference, difference)
    nearest = squared.min(dim=1)
    return nearest.values, nearest.indices

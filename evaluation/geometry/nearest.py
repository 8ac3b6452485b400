"""Nearest-neighbor search: a k-d tree on the CPU, brute force in chunks on a GPU.

Brute force computes differences, not matrix products, whose rounding would give identical clouds a nonzero distance.
"""

from __future__ import annotations

import torch
from scipy.spatial import KDTree
from torch import Tensor

_PAIRS = 2**24
"""Pairs per chunk: 64 MiB for each of the two float32 arrays."""


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
            return nearest_in_chunks(queries, self._points)
        distances, indices = self._tree.query(queries.detach().numpy(), workers=torch.get_num_threads())
        return torch.as_tensor(distances), torch.as_tensor(indices)


def nearest_in_chunks(queries: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
    """Brute-force search on any device: queries (..., 3), points (P, 3) → distances (...), indices (...)."""
    flat = queries.detach().reshape(-1, 3)
    parts = [_nearest_of_all(part, points) for part in flat.split(max(1, _PAIRS // len(points)))]
    squared, indices = (torch.cat(kind).reshape(queries.shape[:-1]) for kind in zip(*parts, strict=True))
    return squared.sqrt(), indices


def _nearest_of_all(queries: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
    """Search all pairs at once: (Q, 3), (P, 3) → squared distances (Q,) and indices (Q,)."""
    squared = torch.zeros(len(queries), len(points), dtype=points.dtype, device=points.device)
    for axis in range(3):
        difference = queries[:, axis, None] - points[None, :, axis]
        squared.addcmul_(difference, difference)
    nearest = squared.min(dim=1)
    return nearest.values, nearest.indices

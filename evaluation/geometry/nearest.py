"""The nearest of a set of points: a k-d tree on the CPU, differences of all pairs in chunks on a GPU.

Not by matrix products on the GPU: they round points that are equal apart, and identical clouds must give 0.
"""

from __future__ import annotations

import torch
from scipy.spatial import KDTree
from torch import Tensor

_PAIRS = 2**24
"""Of one chunk: 64 MiB for each of the two arrays of float32."""


class Neighbors:
    """Answers which of the given points (P, 3) is nearest to a query."""

    def __init__(self, points: Tensor) -> None:
        self._points = points.detach()
        # Of the trees tried, the fastest for a cloud that is asked once, as in an alignment.
        on_cpu = points.device.type == "cpu"
        self._tree = KDTree(self._points.numpy(), leafsize=24, balanced_tree=False) if on_cpu else None

    def query(self, queries: Tensor) -> tuple[Tensor, Tensor]:
        """(..., 3) → (...) distances and (...) indices into the points; as many threads as torch uses."""
        if self._tree is None:
            return nearest_in_chunks(queries, self._points)
        found, indices = self._tree.query(queries.detach().numpy(), workers=torch.get_num_threads())
        return torch.as_tensor(found), torch.as_tensor(indices)


def nearest_in_chunks(queries: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
    """The same answer from all pairs, on any device: (..., 3) and (P, 3) → (...) distances, (...) indices."""
    flat = queries.detach().reshape(-1, 3)
    parts = [_nearest_of_all(part, points) for part in flat.split(max(1, _PAIRS // len(points)))]
    squared, indices = (torch.cat(kind).reshape(queries.shape[:-1]) for kind in zip(*parts, strict=True))
    return squared.sqrt(), indices


def _nearest_of_all(queries: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
    """(Q, 3), (P, 3) → (Q,) squared distances and (Q,) indices."""
    squared = torch.zeros(len(queries), len(points), dtype=points.dtype, device=points.device)
    for axis in range(3):
        difference = queries[:, axis, None] - points[None, :, axis]
        squared.addcmul_(difference, difference)
    found = squared.min(dim=1)
    return found.values, found.indices

"""Compare the nearest-neighbor kernel with brute force in numpy, bit for bit; run with TRITON_INTERPRET=1."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import triton.runtime.interpreter as interpreter
from torch import Tensor

from helix4d.evaluation.geometry.nearest import nearest_in_registers
from tests.triton_interpreter import patch_scalars


def fused(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
    """x · y + z rounded once, as a GPU does: the product of two float32 is exact in float64."""
    return (x.astype(np.float64) * y + z).astype(np.float32)


def patch_fma() -> None:
    """Triton's interpreter rounds twice."""

    def create_fma(_: Any, x: Any, y: Any, z: Any) -> Any:
        return interpreter.TensorHandle(fused(x.data, y.data, z.data), z.dtype.scalar)

    interpreter.InterpreterBuilder.create_fma = create_fma


def reference(queries: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
    """Distances and indices of (Q, 3) in (P, 3); argmin takes the first of equals."""
    x, y, z = np.moveaxis(queries.numpy()[:, None] - points.numpy(), -1, 0)
    squared = fused(z, z, fused(y, y, x * x))
    indices = squared.argmin(axis=1)
    return torch.from_numpy(squared.min(axis=1)).sqrt(), torch.from_numpy(indices)


def clouds(size: int, count: int, generator: torch.Generator) -> Tensor:
    """Half of the points on a coarse grid, so that many distances are equal."""
    coarse = torch.randint(-4, 5, (size, count, 3), generator=generator) / 8
    return torch.where(torch.rand(size, count, 1, generator=generator) < 0.5, coarse, coarse.cos() * 1.1)


def main() -> None:
    """Shared and separate queries and points, whole and partial tiles."""
    patch_scalars()
    patch_fma()
    seeded = torch.Generator().manual_seed(0)
    for (sets, count), (kinds, size) in (((1, 70), (3, 100)), ((3, 64), (1, 32)), ((2, 5), (2, 1))):
        queries, points = clouds(sets, count, seeded), clouds(kinds, size, seeded)
        distances, indices = nearest_in_registers(queries, points)
        assert distances.shape == indices.shape == (max(sets, kinds), count)
        for number in range(len(distances)):
            expected = reference(queries[number % sets], points[number % kinds])
            assert torch.equal(distances[number], expected[0])
            assert torch.equal(indices[number], expected[1])
    assert nearest_in_registers(clouds(1, 0, seeded), points)[1].shape == (2, 0)
    assert float(nearest_in_registers(points, points)[0].max()) == 0


if __name__ == "__main__":
    main()

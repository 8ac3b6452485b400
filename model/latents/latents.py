"""Derive the tokens of each stage from voxels, and normalize latents.

Stage 1 works on the unnormalized 8 x 16^3 latent of a 64^3 occupancy. Stages 2 and 3 work on normalized 32-channel
latents at the voxels of a 32^3 grid (for assets at 512^3).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from helix4d.core import ConfigError
from helix4d.model.networks.sparse import SparseLayout

OCCUPANCY_RESOLUTION = 64
LATENT_STRIDE = 16  # voxels per token along each axis


@dataclass(frozen=True)
class LatentStatistics:
    """Mean and standard deviation of each channel of a latent."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.mean) != len(self.std) or not all(s > 0 for s in self.std):
            raise ConfigError(
                f"{len(self.mean)} means and {len(self.std)} standard deviations: there must be equally many, and all "
                "standard deviations must be positive"
            )

    @classmethod
    def from_json(cls, values: Mapping[str, Sequence[float]]) -> LatentStatistics:
        """Parse `{"mean": [...], "std": [...]}`, as in `pipeline.json`."""
        try:
            return cls(tuple(map(float, values["mean"])), tuple(map(float, values["std"])))
        except (KeyError, TypeError, ValueError) as error:
            raise ConfigError(f"latent statistics must have lists of numbers `mean` and `std` ({error!r})") from error

    def normalize(self, z: Tensor) -> Tensor:
        """Normalize [N, C] to zero mean and unit standard deviation."""
        return (z - z.new_tensor(self.mean)) / z.new_tensor(self.std)

    def denormalize(self, z: Tensor) -> Tensor:
        """Invert `normalize`; decoders take denormalized latents."""
        return z * z.new_tensor(self.std) + z.new_tensor(self.mean)


def occupancy(coords: Tensor, batch_size: int, resolution: int = 512, grid: int = OCCUPANCY_RESOLUTION) -> Tensor:
    """Turn voxels int [N, 4] of (sample, x, y, z) into the occupancy that stage 1 encodes, float32 [B, 1, grid³]."""
    stride = _stride(resolution, grid)
    volume = torch.zeros(batch_size, 1, grid, grid, grid, device=coords.device)
    sample, x, y, z = coords.long().unbind(1)
    volume[sample, 0, x // stride, y // stride, z // stride] = 1
    return volume


def token_layout(coords: Tensor, batch_size: int, resolution: int = 512) -> SparseLayout:
    """Turn voxels int [N, 4] into the tokens of stages 2 and 3, in lexicographic order: unique(coords // 16)."""
    grid = _stride(resolution, LATENT_STRIDE)
    volume = occupancy(coords, batch_size, resolution, grid)
    return _layout(volume[:, 0] > 0, batch_size)


def tokens_from_occupancy(logits: Tensor, grid: int = 32) -> SparseLayout:
    """Threshold stage 1's decoded logits [B, 1, 64³] at 0 and max-pool to `grid`: the tokens of stages 2 and 3."""
    stride = _stride(logits.shape[-1], grid)
    return _layout(F.max_pool3d((logits > 0).float(), stride)[:, 0] > 0, len(logits))


def _layout(occupied: Tensor, batch_size: int) -> SparseLayout:
    return SparseLayout(occupied.nonzero().to(torch.int32), batch_size)


def _stride(resolution: int, grid: int) -> int:
    if resolution % grid:
        raise ConfigError(f"a resolution of {resolution} voxels per side is not divisible by {grid}")
    return resolution // grid


# The released statistics (pipeline.json of microsoft/TRELLIS.2-4B).
SHAPE_STATISTICS = LatentStatistics(
    mean=(
        0.781296,
        0.018091,
        -0.495192,
        -0.558457,
        1.06053,
        0.093252,
        1.518149,
        -0.933218,
        -0.732996,
        2.604095,
        -0.118341,
        -2.143904,
        0.495076,
        -2.179512,
        -2.130751,
        -0.996944,
        0.261421,
        -2.217463,
        1.260067,
        -0.150213,
        3.790713,
        1.481266,
        -1.046058,
        -1.523667,
        -0.059621,
        2.22078,
        1.621212,
        0.87723,
        0.567247,
        -3.175944,
        -3.186688,
        1.578665,
    ),
    std=(
        5.972266,
        4.706852,
        5.44501,
        5.209927,
        5.32022,
        4.547237,
        5.020802,
        5.444004,
        5.226681,
        5.683095,
        4.831436,
        5.286469,
        5.652043,
        5.367606,
        5.525084,
        4.730578,
        4.805265,
        5.124013,
        5.530808,
        5.619001,
        5.10393,
        5.41767,
        5.269677,
        5.547194,
        5.634698,
        5.235274,
        6.110351,
        5.511298,
        6.237273,
        4.879207,
        5.347008,
        5.405691,
    ),
)

TEXTURE_STATISTICS = LatentStatistics(
    mean=(
        3.501659,
        2.212398,
        2.226094,
        0.251093,
        -0.026248,
        -0.687364,
        0.439898,
        -0.928075,
        0.029398,
        -0.339596,
        -0.869527,
        1.038479,
        -0.972385,
        0.126042,
        -1.129303,
        0.455149,
        -1.209521,
        2.069067,
        0.544735,
        2.569128,
        -0.323407,
        2.293,
        -1.925608,
        -1.217717,
        1.213905,
        0.971588,
        -0.023631,
        0.10675,
        2.021786,
        0.250524,
        -0.662387,
        -0.768862,
    ),
    std=(
        2.665652,
        2.743913,
        2.765121,
        2.595319,
        3.037293,
        2.291316,
        2.144656,
        2.911822,
        2.969419,
        2.501689,
        2.154811,
        3.163343,
        2.621215,
        2.381943,
        3.186697,
        3.021588,
        2.295916,
        3.234985,
        3.233086,
        2.26014,
        2.874801,
        2.810596,
        3.29272,
        2.674999,
        2.680878,
        2.372054,
        2.451546,
        2.353556,
        2.995195,
        2.379849,
        2.786195,
        2.77519,
    ),
)

"""The tables that the convolution kernels read: which rows a tile gathers at each offset, and the pairs of each offset.

A tile is 128 output rows. It does the work of every offset at which any of its rows has a neighbor, so rows with the
same missing neighbors are put into the same tile: on a shell two voxels thick, 17.8 of 27 neighbors exist, and a tile
works on 20.4 offsets instead of 27.0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

TILE_ROWS = 128
WINDOW_ROWS = 1 << 16
"""Rows are reordered only within this many, so that the rows that running tiles gather stay in the L2 cache."""


@dataclass(frozen=True)
class NeighborPairs:
    """Neighbor pairs of one offset: voxel `source[i]` lies at voxel `target[i]` plus the offset. Both int64 [P]."""

    target: Tensor
    source: Tensor


@dataclass(frozen=True, eq=False)
class GatherTiles:
    """Rows gathered by each tile, in blocks of one offset; all int32, −1 for none.

    Attributes:
        first: [tiles + 1], the first block of each tile.
        offsets: [blocks], offset of each block, ascending within a tile.
        sources: [blocks, TILE_ROWS], input row of each output row of the tile.
        targets: [tiles, TILE_ROWS], output rows of each tile.
    """

    first: Tensor
    offsets: Tensor
    sources: Tensor
    targets: Tensor


@dataclass(frozen=True, eq=False)
class OffsetPairs:
    """All pairs of an output row with an input row, by offset; all int32.

    Attributes:
        starts: [offsets + 1], the first pair of each offset.
        reads: [pairs], input rows.
        writes: [pairs], output rows.
    """

    starts: Tensor
    reads: Tensor
    writes: Tensor


def gather_tiles(neighbors: Tensor) -> GatherTiles:
    """Make the tiles of a neighbor map, int32 [offsets, N] with −1 for none."""
    offsets, rows = neighbors.shape
    order = _order(neighbors)
    padding = -rows % TILE_ROWS
    targets = torch.nn.functional.pad(order.to(torch.int32), (0, padding), value=-1).reshape(-1, TILE_ROWS)
    sorted_map = torch.nn.functional.pad(neighbors[:, order], (0, padding), value=-1)
    sources = sorted_map.reshape(offsets, -1, TILE_ROWS).transpose(0, 1)
    used = (sources >= 0).any(dim=2)
    first = torch.nn.functional.pad(used.sum(dim=1).cumsum(0), (1, 0)).to(torch.int32)
    return GatherTiles(first, used.nonzero()[:, 1].to(torch.int32), sources[used], targets)


def offset_pairs(pairs: Sequence[NeighborPairs], rows: int, device: torch.device) -> OffsetPairs:
    """List the pairs of all offsets, given those of the offsets before the center."""
    center = torch.arange(rows, device=device)
    reads = [*(pair.source for pair in pairs), center, *(pair.target for pair in reversed(pairs))]
    writes = [*(pair.target for pair in pairs), center, *(pair.source for pair in reversed(pairs))]
    starts = torch.tensor([0, *(len(part) for part in reads)], device=device).cumsum(0)
    return OffsetPairs(*(table.to(torch.int32) for table in (starts, torch.cat(reads), torch.cat(writes))))


def _order(neighbors: Tensor) -> Tensor:
    """Order of the rows, int64 [N]: by their missing neighbors within each window, the rarest offset first."""
    rows = neighbors.shape[1]
    rank = (neighbors >= 0).sum(dim=1).argsort(descending=True, stable=True).argsort()
    key = torch.arange(rows, device=neighbors.device) // WINDOW_ROWS << len(neighbors)
    for offset, place in zip(neighbors, rank, strict=True):
        key |= (offset >= 0).long() << place
    return key.argsort(stable=True)

"""Sparse tensors: features on a list of voxels, with everything that depends only on the voxels computed once.

A `SparseLayout` is the list of voxels of a batch with cached neighbor pairs and coarser grid; a `SparseTensor` holds
features on a layout. Layers that keep the voxels keep the layout, and so share its caches.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from helix4d.core import ConfigError
from helix4d.model.networks.gather_tiles import GatherTiles, NeighborPairs, OffsetPairs, gather_tiles, offset_pairs

KERNEL = 27  # a 3 x 3 x 3 neighborhood: offset o = 9 (dx + 1) + 3 (dy + 1) + (dz + 1), so 26 − o is its mirror image
CENTER = 13


class SparseLayout:
    """The voxels of a batch, int32 [N, 4] of (sample, x, y, z), grouped by sample and without duplicates.

    Args:
        coords: the voxels.
        batch_size: number of samples.
        lengths: number of voxels of each sample, if known; otherwise read from the device when needed.
    """

    def __init__(self, coords: Tensor, batch_size: int, lengths: tuple[int, ...] | None = None) -> None:
        self.coords = coords
        self.batch_size = batch_size
        if lengths is not None:
            self.__dict__["lengths"] = lengths

    @classmethod
    def from_coords(cls, coords: Tensor, batch_size: int | None = None) -> SparseLayout:
        """Build from external coordinates, which are checked but not reordered. Samples may be empty."""
        if coords.ndim != 2 or coords.shape[1] != 4:
            raise ConfigError(f"coordinates have shape {tuple(coords.shape)}: expected [N, 4] of (sample, x, y, z)")
        samples = coords[:, 0]
        last = int(samples[-1]) if len(coords) else -1
        size = last + 1 if batch_size is None else batch_size
        if len(coords):
            if bool((samples[1:] < samples[:-1]).any()):
                raise ConfigError("coordinates are not grouped by sample: sort them by their first column")
            if int(coords.min()) < 0 or last >= size:
                raise ConfigError(
                    f"coordinates have minimum {int(coords.min())} and samples up to {last}: must be at least 0, with "
                    f"samples below the batch size {size}"
                )
            if int(coords[:, 1:].max()) >= 1 << 15:
                raise ConfigError(f"coordinates reach {int(coords[:, 1:].max())}: must be below 32768")
        return cls(coords.to(torch.int32), size)

    def __len__(self) -> int:
        return len(self.coords)

    @cached_property
    def lengths(self) -> tuple[int, ...]:
        """Number of voxels of each sample."""
        counts = torch.bincount(self.coords[:, 0].long(), minlength=self.batch_size)
        return tuple(int(n) for n in counts.tolist())

    @cached_property
    def pairs(self) -> tuple[NeighborPairs, ...]:
        """Neighbor pairs of the 13 offsets before the center; offset 26 − o has those of o with the columns swapped."""
        side = int(self.coords[:, 1:].max()) + 3 if len(self) else 3
        keys = _keys(self.coords, side)
        ordered, order = keys.sort()
        pairs = []
        for offset in range(CENTER):
            dx, dy, dz = offset // 9 - 1, offset // 3 % 3 - 1, offset % 3 - 1
            neighbor_keys = ordered + ((dx * side + dy) * side + dz)
            place = torch.searchsorted(ordered, neighbor_keys).clamp_(max=max(len(self) - 1, 0))
            hit = (ordered[place] == neighbor_keys).nonzero().squeeze(1)
            pairs.append(NeighborPairs(target=order[hit], source=order[place[hit]]))
        return tuple(pairs)

    @property
    def neighbor_map(self) -> Tensor:
        """Index of the voxel at each offset from each voxel, or −1: int32 [27, N], made anew."""
        table = torch.full((KERNEL, len(self)), -1, dtype=torch.int32, device=self.coords.device)
        table[CENTER] = torch.arange(len(self), dtype=torch.int32, device=self.coords.device)
        for offset, pair in enumerate(self.pairs):
            table[offset, pair.target] = pair.source.to(torch.int32)
            table[KERNEL - 1 - offset, pair.source] = pair.target.to(torch.int32)
        return table

    @cached_property
    def gather_tiles(self) -> GatherTiles:
        """Rows gathered by each tile of the convolution kernel."""
        return gather_tiles(self.neighbor_map)

    @cached_property
    def offset_pairs(self) -> OffsetPairs:
        """Pairs of all 27 offsets, for the kernel of the weight's gradient."""
        return offset_pairs(self.pairs, len(self), self.coords.device)

    @cached_property
    def coarse(self) -> tuple[SparseLayout, Tensor, Tensor]:
        """The layout at half the resolution, in lexicographic order, and each voxel's position in it.

        Returns:
            Coarse layout [M]; parent of each voxel, int64 [N] < M; child index x + 2y + 4z, int64 [N] < 8.
        """
        child = (self.coords[:, 1] & 1) + 2 * (self.coords[:, 2] & 1) + 4 * (self.coords[:, 3] & 1)
        halved = torch.cat([self.coords[:, :1], self.coords[:, 1:] >> 1], dim=1)
        side = int(halved[:, 1:].max()) + 1 if len(self) else 1
        unique, parent = torch.unique(_keys(halved, side, margin=0), return_inverse=True)
        coords = torch.stack(
            [unique // side**3, unique // side**2 % side, unique // side % side, unique % side], dim=1
        ).to(torch.int32)
        return SparseLayout(coords, self.batch_size), parent, child.long()

    def children(self, parent: Tensor, child: Tensor) -> SparseLayout:
        """Return the layout at twice the resolution with the given children: parent int64 [M], child int64 [M] < 8."""
        bits = torch.stack([child & 1, child >> 1 & 1, child >> 2 & 1], dim=1).to(torch.int32)
        base = self.coords[parent]
        return SparseLayout(torch.cat([base[:, :1], 2 * base[:, 1:] + bits], dim=1), self.batch_size)


@dataclass(frozen=True)
class SparseTensor:
    """Features [N, C] on the N voxels of a layout."""

    feats: Tensor
    layout: SparseLayout

    def __post_init__(self) -> None:
        if self.feats.ndim != 2 or len(self.feats) != len(self.layout):
            raise ConfigError(f"features have shape {tuple(self.feats.shape)}: expected [{len(self.layout)}, C]")

    @classmethod
    def from_coords(cls, feats: Tensor, coords: Tensor, batch_size: int | None = None) -> SparseTensor:
        """Build from features [N, C] and coordinates int [N, 4], which are checked."""
        return cls(feats, SparseLayout.from_coords(coords, batch_size))

    @property
    def coords(self) -> Tensor:
        """Voxel coordinates (sample, x, y, z), int32 [N, 4]."""
        return self.layout.coords

    def replace(self, feats: Tensor) -> SparseTensor:
        """Return a tensor with other features on the same voxels."""
        return SparseTensor(feats, self.layout)

    def split(self) -> tuple[Tensor, ...]:
        """Split the features by sample into batch_size tensors [N_i, C]."""
        return self.feats.split(list(self.layout.lengths))


def concatenate(tensors: Sequence[SparseTensor]) -> SparseTensor:
    """Concatenate several batches into one, renumbering the samples."""
    coords, start = [], 0
    for tensor in tensors:
        shift = torch.tensor([start, 0, 0, 0], dtype=torch.int32, device=tensor.coords.device)
        coords.append(tensor.coords + shift)
        start += tensor.layout.batch_size
    return SparseTensor(torch.cat([t.feats for t in tensors]), SparseLayout(torch.cat(coords), start))


def _keys(coords: Tensor, side: int, margin: int = 1) -> Tensor:
    """Return one key per voxel, int64 [N], with an empty margin so that neighbors never wrap into another row."""
    sample, x, y, z = coords.long().unbind(1)
    return ((sample * side + x + margin) * side + y + margin) * side + z + margin

"""What several processes of a run say to each other, over torchrun's process group; nothing where there is one.

Gradients are sums, divided by a count that all ranks know beforehand, so ranks may have any number of microbatches,
none included, which DistributedDataParallel's own reduction would not allow. They are summed once a step.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn

from helix4d.model.device import choose_device

_BUCKET_BYTES = 1 << 28


@dataclass(frozen=True)
class World:
    """The processes of a run: which one this is, how many there are, and its device."""

    rank: int
    ranks: int
    device: torch.device

    @property
    def first(self) -> bool:
        """Whether this is the process that writes."""
        return self.rank == 0

    def sum(self, values: Iterable[float]) -> list[float]:
        """Sums over all ranks, in double precision."""
        tensor = torch.tensor(list(values), dtype=torch.float64, device=self.device)
        if self.ranks > 1:
            dist.all_reduce(tensor)
        return [float(v) for v in tensor.tolist()]

    def most(self, value: int) -> int:
        """The largest of the ranks' values."""
        tensor = torch.tensor(value, device=self.device)
        if self.ranks > 1:
            dist.all_reduce(tensor, dist.ReduceOp.MAX)
        return int(tensor)

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Sum every gradient over the ranks, in buckets of a fixed order; a missing gradient becomes zero."""
        bucket: list[Tensor] = []
        size = 0
        for parameter in parameters:
            if parameter.grad is None:  # this rank's clips were all broken: the optimizer steps, as on other ranks
                parameter.grad = torch.zeros_like(parameter)
            if self.ranks == 1:
                continue
            bucket.append(parameter.grad)
            size += parameter.grad.nbytes
            if size >= _BUCKET_BYTES:
                _sum_together(bucket)
                bucket, size = [], 0
        _sum_together(bucket)

    def barrier(self) -> None:
        """Wait for all ranks."""
        if self.ranks > 1:
            dist.barrier()


@contextmanager
def world(device: str) -> Iterator[World]:
    """The process group that torchrun's environment describes, or one process on its own.

    Args:
        device: cuda, cpu, or auto.

    Raises:
        ConfigError: if there is no such device.
    """
    ranks, rank = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("RANK", "0"))
    place = choose_device(device, int(os.environ.get("LOCAL_RANK", "0")))
    on_gpu = place.type == "cuda"
    if on_gpu:
        torch.cuda.set_device(place)
    if ranks == 1:
        yield World(0, 1, place)
        return
    dist.init_process_group("nccl" if on_gpu else "gloo", device_id=place if on_gpu else None)
    try:
        yield World(rank, ranks, place)
    finally:
        dist.destroy_process_group()


def _sum_together(gradients: list[Tensor]) -> None:
    if not gradients:
        return
    flat = torch.cat([g.flatten() for g in gradients])
    dist.all_reduce(flat)
    for gradient, part in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(part.view_as(gradient))

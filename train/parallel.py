"""Communication between the processes of a run, over torchrun's process group; a no-op for a single process.

Gradients are reduced on the device. Counts are reduced on the CPU, so that the host never waits for a GPU to agree on
them.

Gradients are summed once per step and divided by a count that all ranks know beforehand, so ranks may have different
numbers of microbatches, even zero, which DistributedDataParallel's reduction does not allow.
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
    """The processes of a run: rank of this process, number of ranks, and device of this process."""

    rank: int
    ranks: int
    device: torch.device

    @property
    def first(self) -> bool:
        """Whether this is the process that writes files."""
        return self.rank == 0

    def sum(self, values: Iterable[float]) -> list[float]:
        """Sum values over all ranks in double precision."""
        tensor = torch.tensor(list(values), dtype=torch.float64)
        if self.ranks > 1:
            dist.all_reduce(tensor)
        return [float(v) for v in tensor.tolist()]

    def max(self, value: int) -> int:
        """Return the maximum over all ranks."""
        tensor = torch.tensor(value)
        if self.ranks > 1:
            dist.all_reduce(tensor, dist.ReduceOp.MAX)
        return int(tensor)

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Sum all gradients over the ranks, in buckets of fixed order; missing gradients become zero."""
        bucket: list[Tensor] = []
        size = 0
        for parameter in parameters:
            if parameter.grad is None:  # all clips of this rank are broken: the optimizer must still step
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
    """Set up the process group described by torchrun's environment, or a single process.

    Args:
        device: cuda, cpu, or auto.

    Raises:
        ConfigError: if the device is not available.
    """
    ranks, rank = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("RANK", "0"))
    place = choose_device(device, int(os.environ.get("LOCAL_RANK", "0")))
    on_gpu = place.type == "cuda"
    if on_gpu:
        torch.cuda.set_device(place)
    if ranks == 1:
        yield World(0, 1, place)
        return
    dist.init_process_group("cpu:gloo,cuda:nccl" if on_gpu else "gloo", device_id=place if on_gpu else None)
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

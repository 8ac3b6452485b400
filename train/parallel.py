"""Communication between the processes of a run, over torchrun's process group; a no-op for a single process.

Gradients are reduced on the device. Counts are reduced on the CPU, so that the host never waits for a GPU to agree on
them.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta

import torch
import torch.distributed as dist
from torch.distributed.rendezvous import rendezvous

from helix4d.model.device import choose_device
from helix4d.train.signals import StopRequest


@dataclass(frozen=True)
class World:
    """The processes of a run: rank of this process, number of ranks, device of this process, requests to stop."""

    rank: int
    ranks: int
    device: torch.device
    stop: StopRequest = field(default_factory=StopRequest)

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

    def is_same(self, value: int) -> bool:
        """Return whether all ranks have passed the same value, which must fit 63 bits."""
        return self.max(value) == -self.max(-value)


@contextmanager
def world(device: str, stop: StopRequest, timeout_s: float) -> Iterator[World]:
    """Set up the process group described by torchrun's environment, or a single process.

    Args:
        device: cuda, cpu, or auto.
        stop: requests to stop, which the ranks share while the group exists.
        timeout_s: seconds that a rank waits for the others before it fails.

    Raises:
        ConfigError: if the device is not available.
    """
    ranks, rank = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("RANK", "0"))
    place = choose_device(device, int(os.environ.get("LOCAL_RANK", "0")))
    on_gpu = place.type == "cuda"
    if on_gpu:
        torch.cuda.set_device(place)
    if ranks == 1:
        yield World(0, 1, place, stop)
        return
    timeout = timedelta(seconds=timeout_s)
    store, rank, ranks = next(rendezvous("env://", timeout=timeout))
    # torchrun's store survives restarts; without a prefix per restart, processes may read the addresses of killed ones.
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    dist.init_process_group(
        "cpu:gloo,cuda:nccl" if on_gpu else "gloo",
        store=dist.PrefixStore(f"helix4d/attempt_{attempt}", store),
        rank=rank,
        world_size=ranks,
        timeout=timeout,
        device_id=place if on_gpu else None,
    )
    try:
        comm = World(rank, ranks, place, stop)
        # A different key for each start, because the store may still hold the request that stopped an earlier one.
        started = comm.sum([time.time_ns() >> 20 if comm.first else 0])[0]
        stop.share(store, f"helix4d/stop/{started:.0f}")
        yield comm
    finally:
        dist.destroy_process_group()

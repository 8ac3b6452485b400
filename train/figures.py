"""Figures of the steps between two lines of the metrics."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from helix4d.model.device import upload
from helix4d.model.networks.flow import FlowTransformer
from helix4d.train.config import TrainConfig
from helix4d.train.flops import peak_flops, step_flops
from helix4d.train.objective import TIME_BINS, elements, time_bins
from helix4d.train.parallel import World
from helix4d.train.step import Pass


class Figures:
    """Accumulates figures between two lines of the metrics. Only `collect` synchronizes with the device."""

    def __init__(self, network: FlowTransformer, config: TrainConfig, device: torch.device) -> None:
        self._network, self._config, self._device = network, config, device
        self._peak = peak_flops(device)
        self._reset()

    def _reset(self) -> None:
        self._errors = torch.zeros(TIME_BINS, dtype=torch.float64, device=self._device)
        self._counts = torch.zeros(TIME_BINS, dtype=torch.float64, device=self._device)
        self._tokens = self._flops = self._waited = self._busy = 0.0
        self._steps = 0
        self._start = time.perf_counter()

    def add_step(self, passes: Sequence[Pass], waited_s: float, busy: float) -> None:
        """Add a step of this rank: its microbatches, the time it waited for data, and the busy share of all ranks."""
        for one in passes:
            if one.weight:
                self._add(one)
        self._waited += waited_s
        self._busy += busy
        self._steps += 1

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Exclude the time spent in the block, in which a validation or preview runs."""
        start = time.perf_counter()
        yield
        self._start += time.perf_counter() - start

    def _add(self, one: Pass) -> None:
        first_frame = self._config.network.first_frame
        counts = upload([elements([clip], first_frame) for clip in one.clips], torch.float64, self._device)
        bins = time_bins(one.t)
        self._errors.index_add_(0, bins, one.errors.double())
        self._counts.index_add_(0, bins, counts)
        lengths = [clip.latent.lengths for clip in one.clips]
        self._tokens += sum(map(sum, lengths))
        settings, network = self._config.network, self._network
        whole, low_rank = settings.trainable == ("*",), settings.rank is not None
        self._flops += step_flops(network.config, network.video, lengths, one.cond_tokens, whole, low_rank)

    def collect(self, comm: World) -> dict[str, Any]:
        """Return the figures over all ranks since the last call, and reset them."""
        seconds = time.perf_counter() - self._start
        sums = [*self._errors.tolist(), *self._counts.tolist(), self._tokens, self._flops, self._waited]
        totals = comm.sum(sums)
        errors, counts = totals[:TIME_BINS], totals[TIME_BINS : 2 * TIME_BINS]
        tokens, flops, waited = totals[2 * TIME_BINS :]
        on_gpu = self._device.type == "cuda"
        values = {
            "loss": sum(errors) / max(sum(counts), 1),
            "loss_by_time": [e / c if c else None for e, c in zip(errors, counts, strict=True)],
            "seconds_per_step": seconds / self._steps,
            "tokens_per_s": tokens / seconds,
            "mfu": flops / seconds / (self._peak * comm.ranks) if self._peak else None,
            "busy_share": self._busy / self._steps,
            "data_wait": waited / comm.ranks / seconds,
            "peak_memory_bytes": torch.cuda.max_memory_allocated(self._device) if on_gpu else None,
        }
        self._reset()
        return values

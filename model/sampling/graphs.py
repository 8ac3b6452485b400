"""Replay the passes of a stage from CUDA graphs: one launch per pass instead of one per kernel.

A stage repeats a pass on tensors of the same shapes. The first pass of a kind runs as usual, which makes everything
that later ones reuse (anchor caches, attention plans, compiled kernels). The second is captured and all later ones are
replayed. All other tensors that the pass reads must keep their memory as long as the graph exists.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

Passes = tuple[bool, ...]
"""The guidance passes of a call of the network; True: conditional."""

Run = Callable[[Tensor, Tensor, Passes], list[Tensor]]
"""Maps x, 1000 t (a scalar on the device of x) and the passes to one velocity per pass."""

Capture = Callable[[Callable[[], list[Tensor]]], tuple[Callable[[], None], list[Tensor]]]
"""Captures a function; returns a function that replays it and the tensors that the replay overwrites."""


@dataclass(frozen=True)
class _Graph:
    x: Tensor
    timestep: Tensor
    replay: Callable[[], None]
    outputs: list[Tensor]


class GraphedPasses:
    """A `Run` that replays `run`; `capture` is replaced in tests, which have no GPU."""

    def __init__(self, run: Run, capture: Capture | None = None) -> None:
        self._run = run
        self._capture = capture or cuda_capture()
        self._kinds: dict[tuple[Passes, torch.Size], _Graph | None] = {}

    def __call__(self, x: Tensor, timestep: Tensor, passes: Passes) -> list[Tensor]:
        """Run, capture or replay the passes; the results are copies, which later calls do not overwrite."""
        kind = (passes, x.shape)
        if kind not in self._kinds:
            self._kinds[kind] = None
            return self._run(x, timestep, passes)
        graph = self._kinds[kind]
        if graph is None:
            held_x, held_timestep = x.clone(), timestep.clone()
            replay, outputs = self._capture(lambda: self._run(held_x, held_timestep, passes))
            graph = self._kinds[kind] = _Graph(held_x, held_timestep, replay, outputs)
        graph.x.copy_(x)
        graph.timestep.copy_(timestep)
        graph.replay()
        return [output.clone() for output in graph.outputs]


def cuda_capture() -> Capture:
    """Return a `Capture` into CUDA graphs that share one memory pool, because they never run at the same time."""
    pool = torch.cuda.graph_pool_handle()

    def capture(function: Callable[[], list[Tensor]]) -> tuple[Callable[[], None], list[Tensor]]:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=pool):
            outputs = function()
        return graph.replay, outputs

    return capture

"""Replayed passes equal eager ones; operations that a graph cannot capture are refused. A recorder replaces the GPU."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

from helix4d.model.networks.attention.plan import AttentionBackend
from helix4d.model.networks.config import BASE, FlowConfig, VideoConfig
from helix4d.model.networks.flow import DenseFlow, SparseFlow
from helix4d.model.networks.initialize import initialize_flow
from helix4d.model.networks.sparse import SparseLayout, SparseTensor
from helix4d.model.sampling.graphs import GraphedPasses
from helix4d.model.sampling.sampler import SamplerConfig, dense_spread, packed_spread, sample
from helix4d.model.sampling.velocities import (
    PassVelocity,
    SparseAnchor,
    anchored_dense_velocity,
    anchored_sparse_velocity,
    dense_velocity,
    sparse_velocity,
)

SIZES: dict[str, Any] = {"model_channels": 48, "cond_channels": 12, "num_blocks": 1, "num_heads": 2}
DENSE = FlowConfig(resolution=3, in_channels=4, out_channels=4, **SIZES)
SPARSE = FlowConfig(resolution=8, in_channels=8, out_channels=4, **SIZES)
META = torch.device("meta")
GUIDED = SamplerConfig(steps=5, guidance=3.0, guidance_interval=(0.3, 0.9), rescale_t=2.0)


class _Recorder(TorchDispatchMode):
    """Stands in for stream capture: records operators, and refuses those that touch the host."""

    refused = ("lift_fresh", "_local_scalar_dense", "nonzero", "equal")
    """Tensors from Python values, values from tensors, shapes that depend on values, comparisons on the host."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, Any, Any, Any]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        assert func.overloadpacket.__name__ not in self.refused, f"{func} needs the host"
        out = func(*args, **(kwargs or {}))
        self.calls.append((func, args, kwargs or {}, out))
        return out


class _Capture:
    """A `Capture` that replays the recorded operators on the tensors of the recording."""

    def __init__(self) -> None:
        self.captured = self.replayed = 0

    def __call__(self, function: Callable[[], list[Tensor]]) -> tuple[Callable[[], None], list[Tensor]]:
        with _Recorder() as recorder:
            outputs = function()
        held = [torch.full_like(output, torch.nan) for output in outputs]  # a capture computes nothing
        self.captured += 1

        def replay() -> None:
            self.replayed += 1
            values: dict[int, Any] = {}

            def current(leaf: Any) -> Any:
                return values.get(id(leaf), leaf) if isinstance(leaf, Tensor) else leaf

            for func, args, kwargs, out in recorder.calls:
                again = func(*tree_map(current, args), **tree_map(current, kwargs))
                for old, new in zip(tree_flatten(out)[0], tree_flatten(again)[0], strict=True):
                    if isinstance(old, Tensor):
                        values[id(old)] = new
            for output, target in zip(outputs, held, strict=True):
                target.copy_(current(output))

        return replay, held


def _rand(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def _network(kind: Any, config: FlowConfig, video: VideoConfig) -> Any:
    network = kind(config, video)
    generator = torch.Generator().manual_seed(0)
    initialize_flow(network, generator)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
    return network.eval()


def _layout(lengths: tuple[int, ...]) -> SparseLayout:
    coords = [torch.tensor([frame, i // 64, i // 8 % 8, i % 8]) for frame, n in enumerate(lengths) for i in range(n)]
    return SparseLayout.from_coords(torch.stack(coords), len(lengths))


def _cases(batched: bool) -> list[tuple[PassVelocity, Tensor, Any]]:
    dense, sparse = _network(DenseFlow, DENSE, VideoConfig()), _network(SparseFlow, SPARSE, VideoConfig())
    base, base_sparse = _network(DenseFlow, DENSE, BASE), _network(SparseFlow, SPARSE, BASE)
    cond, grids, lengths = _rand(4, 5, 12), _rand(4, 4, 3, 3, 3, seed=2), (6, 0, 9)
    layout, x, side = _layout(lengths), _rand(15, 4, seed=3), _rand(15, 4, seed=4)
    anchor = SparseAnchor(SparseTensor(_rand(7, 4, seed=5), _layout((7,))), _rand(7, 4, seed=6))
    packed = packed_spread(lengths)
    return [
        (anchored_dense_velocity(dense, grids[0], cond, batched=batched), grids[1:], dense_spread),
        (anchored_sparse_velocity(sparse, anchor, layout, cond, side, batched=batched), x, packed),
        (anchored_sparse_velocity(sparse, anchor, layout, cond, side, False, batched), x, packed),
        (dense_velocity(base, cond, batched), grids, dense_spread),
        (sparse_velocity(base_sparse, layout, cond[1:], side, batched), x, packed),
    ]


@pytest.mark.parametrize("batched", [False, True])
def test_replayed_passes_give_the_same_sample(batched: bool) -> None:
    for velocity, noise, spread in _cases(batched):
        capture = _Capture()
        graphed = PassVelocity(GraphedPasses(velocity.run, capture), batched)
        assert torch.equal(sample(graphed, noise, GUIDED, spread), sample(velocity, noise, GUIDED, spread))
        # t = 1, 0.89, 0.75, 0.57 and 0.33, of which the last four are guided.
        assert (capture.captured, capture.replayed) == ((1, 3) if batched else (2, 7))


def test_results_outlive_later_replays() -> None:
    velocity, x, _ = _cases(False)[1]
    graphed = PassVelocity(GraphedPasses(velocity.run, _Capture()))
    with torch.no_grad():
        for _ in range(2):
            graphed(x, 800.0, True)
        early, expected = graphed(x, 600.0, True), velocity(x, 600.0, True)
        graphed(x + 1, 300.0, True)
    assert torch.equal(early, expected)


def test_other_shapes_get_a_graph_of_their_own() -> None:
    capture = _Capture()
    graphed = GraphedPasses(lambda x, t, passes: [x * t for _ in passes], capture)
    for size in (3, 3, 5, 5, 3):
        (found,) = graphed(torch.ones(size), torch.tensor(2.0), (True,))
        assert torch.equal(found, torch.full((size,), 2.0))
    assert (capture.captured, capture.replayed) == (2, 3)


def test_a_pass_that_reads_a_value_is_refused() -> None:
    graphed = GraphedPasses(lambda x, t, passes: [x * float(t)], _Capture())
    graphed(torch.ones(2), torch.tensor(2.0), (True,))
    with pytest.raises(AssertionError, match="needs the host"):
        graphed(torch.ones(2), torch.tensor(2.0), (True,))


@torch.no_grad()
@pytest.mark.parametrize("batched", [False, True])
def test_the_gpus_attention_needs_no_host_either(batched: bool) -> None:
    """Variable-length attention in bfloat16, on the meta device; tables are made by the first pass."""
    with META:
        network = DenseFlow(DENSE, VideoConfig())
        grid, x, cond, time = (
            torch.zeros(4, 3, 3, 3),
            torch.zeros(3, 4, 3, 3, 3),
            torch.zeros(4, 5, 12),
            torch.zeros(()),
        )
    network.compute_dtype = torch.bfloat16
    network.attention_backend = AttentionBackend.VARLEN
    velocity = anchored_dense_velocity(network, grid, cond, batched=batched)
    passes = (True, False) if batched else (True,)
    velocity.run(x, time, passes)
    with _Recorder() as recorder:
        velocity.run(x, time, passes)
    assert any("varlen_attn" in str(func) for func, *_ in recorder.calls)


@pytest.mark.gpu
@pytest.mark.parametrize("batched", [False, True])
def test_cuda_graphs_give_the_same_sample(batched: bool) -> None:
    network = _network(DenseFlow, DENSE, VideoConfig()).cuda()
    network.compute_dtype = torch.bfloat16
    grids, cond = _rand(4, 4, 3, 3, 3, seed=2).cuda(), _rand(4, 5, 12).cuda()
    velocity = anchored_dense_velocity(network, grids[0], cond, batched=batched)
    found, expected = (sample(v, grids[1:], GUIDED, dense_spread) for v in (velocity.graphed(), velocity))
    torch.testing.assert_close(found, expected, atol=1e-3, rtol=1e-3)

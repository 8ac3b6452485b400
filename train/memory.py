"""Count the memory of a training step without a GPU: run it on fake tensors, which have sizes but no data.

The code that runs is the code that trains: network, checkpointing, loss, backward pass, clipping, optimizer and moving
average. Every storage is counted from its creation to its release, in blocks of 512 bytes, as torch's CUDA allocator
does. Attention and pointwise parts take the path of a GPU. Not counted: CUDA's context and libraries, fragmentation.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from helix4d.model.networks.attention.plan import AttentionBackend
from helix4d.model.networks.config import FlowConfig
from helix4d.model.networks.pointwise.functions import assume_kernels
from helix4d.model.networks.sparse import SparseLayout
from helix4d.train.config import Stage, TrainConfig
from helix4d.train.data.batch import Batch
from helix4d.train.network import KINDS, set_types
from helix4d.train.objective import squared_errors
from helix4d.train.optimizer import AdaptiveClip, MovingAverage, make_optimizer

_BLOCK = 512
_FLASH_ROWS = 128


class Kind(StrEnum):
    """What a piece of memory is used for."""

    PARAMETERS = "parameters"
    GRADIENTS = "gradients"
    OPTIMIZER = "Adam's state"
    AVERAGE = "moving average"
    ENCODER = "image encoder"
    INPUTS = "inputs"
    ACTIVATIONS = "activations kept by the forward pass"
    BACKWARD = "recomputed activations and gradients in the backward pass"
    KERNELS = "workspace inside attention kernels"


@dataclass(frozen=True)
class StepMemory:
    """Bytes in use at the peak of a training step, by kind."""

    kinds: dict[Kind, int]

    @property
    def peak(self) -> int:
        """Bytes in use at the peak."""
        return sum(self.kinds.values())

    @property
    def state(self) -> int:
        """Bytes in use independent of the batch: weights, gradients, Adam's state, average."""
        return sum(self.kinds.get(kind, 0) for kind in (Kind.PARAMETERS, Kind.GRADIENTS, Kind.OPTIMIZER, Kind.AVERAGE))


def step_memory(
    config: TrainConfig,
    flow: FlowConfig,
    clips: Sequence[tuple[int, ...]],
    backend: AttentionBackend | None = None,
    encoder_config: Any = None,
) -> StepMemory:
    """Measure a step of a network of any depth: networks of two and three blocks, extended in a straight line.

    Exact, because the blocks are alike. Arguments as in `measure_step`.
    """
    if flow.num_blocks <= 3:
        return measure_step(config, flow, clips, backend, encoder_config)
    two, three = (
        measure_step(config, replace(flow, num_blocks=blocks), clips, backend, encoder_config).kinds
        for blocks in (2, 3)
    )
    return StepMemory({kind: two[kind] + (flow.num_blocks - 2) * (three[kind] - two[kind]) for kind in Kind})


def measure_step(
    config: TrainConfig,
    flow: FlowConfig,
    clips: Sequence[tuple[int, ...]],
    backend: AttentionBackend | None = None,
    encoder_config: Any = None,
) -> StepMemory:
    """Run a microbatch, not the first of its step, and the optimizer on fake tensors.

    Args:
        config: settings of the run; `compile` and `shard` are ignored.
        flow: configuration of the network.
        clips: number of tokens of each frame of each clip.
        backend: kernels of attention; by default what `auto` selects on a GPU for the run's precision.
        encoder_config: `DINOv3ViTConfig` of the image encoder, whose weights are counted; it does not run, because its
            activations are released before the network starts.
    """
    with FakeTensorMode(), assume_kernels(), _Tracker() as tracker:
        with tracker.creating(Kind.PARAMETERS):
            network = KINDS[config.stage](flow, config.network.video).train()
            set_types(network, config.network)
        half = config.network.precision == "bfloat16"
        network.attention_backend = backend or (AttentionBackend.VARLEN if half else AttentionBackend.PER_FRAME)
        trained = {name: p for name, p in network.named_parameters() if p.requires_grad}
        with tracker.creating(Kind.AVERAGE):
            average = MovingAverage(trained, config.optimizer)
        with tracker.creating(Kind.GRADIENTS):
            for parameter in trained.values():
                parameter.grad = torch.zeros_like(parameter)
        optimizer = make_optimizer(trained, config.optimizer)
        with tracker.creating(Kind.OPTIMIZER):
            optimizer.step()
        with tracker.creating(Kind.ENCODER):
            encoder = None if encoder_config is None else _encoder(encoder_config)
        with tracker.creating(Kind.INPUTS):
            batch, cond = _inputs(config, flow, clips)
        tracker.reset_peak()
        errors = squared_errors(network, batch, cond, config.network.first_frame)
        errors.sum().backward()
        norm = torch.nn.utils.get_total_norm(p.grad for p in trained.values() if p.grad is not None)
        AdaptiveClip(config.optimizer).apply(trained.values(), norm)
        optimizer.step()
        average.update(trained, 0)
        del encoder
    return StepMemory(tracker.peak)


def _inputs(config: TrainConfig, flow: FlowConfig, clips: Sequence[tuple[int, ...]]) -> tuple[Batch, Tensor]:
    """Return a batch without data and its image tokens, [F, M, C']."""
    lengths = tuple(n for clip in clips for n in clip)
    if config.stage is Stage.STRUCTURE:
        clean, voxels = torch.empty(len(lengths), flow.out_channels, *[flow.resolution] * 3), None
    else:
        clean = torch.empty(sum(lengths), flow.out_channels)
        voxels = SparseLayout(torch.empty(sum(lengths), 4, dtype=torch.int32), len(lengths), lengths)
    side = flow.in_channels - flow.out_channels
    batch = Batch(
        keys=tuple(str(i) for i in range(len(clips))),
        frames=tuple(len(clip) for clip in clips),
        clean=clean,
        noise=torch.empty_like(clean),
        voxels=voxels,
        side=torch.empty(len(clean), side) if side else None,
        images=torch.empty(len(lengths), 3, config.data.image_size, config.data.image_size),
        t=torch.empty(len(clips)),
        dropped=torch.zeros(len(clips), dtype=torch.bool),
    )
    tokens = (config.data.image_size // 16) ** 2 + 5  # DINOv3's patches, class token and four registers
    return batch, torch.empty(len(lengths), tokens, flow.cond_channels)


def _encoder(encoder_config: Any) -> Any:
    from transformers import DINOv3ViTModel
    from transformers.initialization import no_init_weights

    with no_init_weights():
        return DINOv3ViTModel(encoder_config)


class _Tracker(TorchDispatchMode):
    """Counts the bytes of all storages that are alive, by kind, and keeps the counts at the peak."""

    def __init__(self) -> None:
        super().__init__()
        self.peak: dict[Kind, int] = {}
        self._bytes = dict.fromkeys(Kind, 0)
        self._total = self._peak_total = 0
        self._alive: dict[int, tuple[Any, Kind, int]] = {}
        self._kind: Kind | None = None

    @contextmanager
    def creating(self, kind: Kind) -> Iterator[None]:
        """Count everything that is created in the block and outlives it as `kind`."""
        before, self._kind = self._kind, kind
        try:
            yield
        finally:
            self._kind = before

    def reset_peak(self) -> None:
        """Start to look for the peak."""
        self.peak, self._peak_total = {**self._bytes, Kind.KERNELS: 0}, self._total

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, Tensor):
                self._add(tensor)
        workspace = _workspace(func, args)
        if self._total + workspace > self._peak_total:
            self.peak, self._peak_total = {**self._bytes, Kind.KERNELS: workspace}, self._total + workspace
        return out

    def _add(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key = id(storage)
        if key in self._alive and self._alive[key][0]() is storage:
            return
        size = -(-storage.nbytes() // _BLOCK) * _BLOCK
        kind = self._kind or (Kind.BACKWARD if torch._C._current_graph_task_id() != -1 else Kind.ACTIVATIONS)
        self._bytes[kind] += size
        self._total += size
        reference = weakref.ref(storage, lambda _: self._remove(key))
        self._alive[key] = (reference, kind, size)

    def _remove(self, key: int) -> None:
        _, kind, size = self._alive.pop(key)
        self._bytes[kind] -= size
        self._total -= size


def _workspace(func: Any, args: Any) -> int:
    """Return the bytes that an attention kernel allocates inside, which fake tensors do not show.

    FlashAttention-2's backward pass sums the gradient of the queries in float32 and keeps a row sum per query, both
    with up to 128 rows of padding per sequence (flash_api.cpp, mha_varlen_bwd). `window` needs only row sums.
    """
    name = str(func)
    if name == "torch_attn._varlen_attn_backward.default":
        query, sequences = args[1], len(args[6]) - 1
        rows = len(query) + _FLASH_ROWS * sequences
        return int(4 * rows * query.shape[1] * (query.shape[2] + 1))
    if name == "helix4d.window_attention_gradients.default":
        return 4 * int(args[2].numel())
    return 0

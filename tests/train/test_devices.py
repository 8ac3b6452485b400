"""A training step and a sampling run on the meta device: all tensors are created on the device of the inputs.

A tensor made on the CPU inside them would be a copy at every step on a GPU, or an error; no GPU is needed to see it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from helix4d.model.networks.attention.plan import AttentionBackend
from helix4d.model.networks.config import AttentionPattern, FlowConfig, VideoConfig
from helix4d.model.networks.flow import Checkpointing, DenseFlow, FlowTransformer, SparseFlow
from helix4d.model.networks.initialize import initialize_flow
from helix4d.model.networks.sparse import SparseLayout
from helix4d.model.sampling.sampler import SamplerConfig, dense_spread, sample
from helix4d.model.sampling.velocities import anchored_dense_velocity
from helix4d.train.data.batch import Batch, Copier, collate
from helix4d.train.data.dataset import Latent, TrainingClip
from helix4d.train.objective import squared_errors

META = torch.device("meta")
FRAMES, IMAGE_TOKENS, LENGTHS = 5, 9, (6, 0, 8, 5, 7)
SIZES: dict[str, Any] = {
    "in_channels": 4,
    "out_channels": 4,
    "model_channels": 64,
    "cond_channels": 16,
    "num_blocks": 2,
    "num_heads": 2,
}


class _Places(TorchDispatchMode):
    """Records operations that create tensors on the CPU, other than scalars and the empty ones of checkpointing."""

    def __init__(self) -> None:
        super().__init__()
        self.on_cpu: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        made = [leaf for leaf in tree_leaves(out) if isinstance(leaf, Tensor)]
        self.on_cpu += [str(func) for tensor in made if tensor.device.type == "cpu" and tensor.ndim and tensor.numel()]
        return out


def _network(kind: Callable[..., FlowTransformer], resolution: int, pattern: AttentionPattern) -> Any:
    with META:
        network = kind(FlowConfig(resolution=resolution, **SIZES), VideoConfig(pattern=pattern))
    trained = {name for name, _ in network.self_attention_parameters()}
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(name in trained)
    network.compute_dtype = torch.bfloat16
    network.attention_backend = AttentionBackend.VARLEN  # the backend used on GPUs
    return network


def _batch(clean: Tensor, voxels: SparseLayout | None) -> Batch:
    images, t = torch.zeros(FRAMES, 3, 8, 8, device=META), torch.zeros(2, device=META)
    return Batch(("a", "b"), (3, 2), clean, torch.zeros_like(clean), voxels, None, images, t, t > 0)


@pytest.mark.parametrize("checkpointing", [Checkpointing.NONE, Checkpointing.KEEP_ATTENTION])
@pytest.mark.parametrize("pattern", list(AttentionPattern))
@pytest.mark.parametrize("kind", [DenseFlow, SparseFlow])
def test_a_training_step(kind: type[FlowTransformer], pattern: AttentionPattern, checkpointing: Checkpointing) -> None:
    network = _network(kind, 3 if kind is DenseFlow else 8, pattern)
    network.checkpointing = checkpointing
    if kind is DenseFlow:
        batch = _batch(torch.zeros(FRAMES, 4, 3, 3, 3, device=META), None)
    else:
        voxels = SparseLayout(torch.zeros(sum(LENGTHS), 4, dtype=torch.int32, device=META), FRAMES)
        voxels.__dict__["lengths"] = LENGTHS  # normally derived from the coordinates, which are not available here
        batch = _batch(torch.zeros(sum(LENGTHS), 4, device=META), voxels)
    cond = torch.zeros(FRAMES, IMAGE_TOKENS, 16, device=META)
    with _Places() as places:
        squared_errors(network, batch, cond, first_frame=True).sum().backward()
    assert not places.on_cpu
    assert all(p.grad is not None for p in network.parameters() if p.requires_grad)


@pytest.mark.parametrize("pattern", list(AttentionPattern))
@pytest.mark.parametrize("batched", [False, True])
def test_sampling(pattern: AttentionPattern, batched: bool) -> None:
    network = _network(DenseFlow, 3, pattern)
    clip = torch.zeros(FRAMES, 4, 3, 3, 3, device=META)
    cond = torch.zeros(FRAMES, IMAGE_TOKENS, 16, device=META)
    with _Places() as places:
        velocity = anchored_dense_velocity(network, clip[0], cond, batched=batched)
        sampled = sample(velocity, clip[1:], SamplerConfig(steps=3), dense_spread)
    assert not places.on_cpu
    assert sampled.device == META


@pytest.mark.gpu
def test_gpu_microbatches_run_without_waiting_and_equal_those_of_the_cpu() -> None:
    """Copies, forward and backward pass in the mode in which torch refuses to make the host wait."""
    source = torch.Generator().manual_seed(0)
    network = SparseFlow(FlowConfig(resolution=8, **SIZES), VideoConfig())
    initialize_flow(network, source)
    with torch.no_grad():
        network.out_layer.weight.normal_(generator=source)
    clips = []
    for key in "abc":
        latent = Latent(_draw(source, 26, 4), LENGTHS, torch.randint(8, (26, 3), generator=source, dtype=torch.int32))
        clips.append(TrainingClip(key, 0, latent, _draw(source, 5, 3, 32, 32), _draw(source, 26, 4), 0.5, False))
    cond = _draw(source, 15, IMAGE_TOKENS, 16)
    expected = squared_errors(network, collate(clips, torch.device("cpu")), cond, first_frame=True)
    network.to("cuda").checkpointing = Checkpointing.KEEP_ATTENTION
    copier, cond = Copier(torch.device("cuda")), cond.to("cuda")
    for dtype, tolerance in ((torch.float32, 1e-3), (torch.bfloat16, 0.1)):
        network.compute_dtype = dtype
        squared_errors(network, copier.take(clips), cond, first_frame=True).sum().backward()  # first use of kernels
        torch.cuda.synchronize()
        torch.cuda.set_sync_debug_mode("error")
        try:
            for _ in range(3):
                errors = squared_errors(network, copier.take(clips), cond, first_frame=True)
                errors.sum().backward()
                copier.start(clips)
        finally:
            torch.cuda.set_sync_debug_mode("default")
        torch.testing.assert_close(errors.cpu(), expected, rtol=tolerance, atol=tolerance)


def _draw(source: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(shape, generator=source)

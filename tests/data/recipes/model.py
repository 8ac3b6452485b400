"""Tiny networks of every kind, their weights drawn from names: outputs for inputs drawn the same way."""

from __future__ import annotations

import math
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from helix4d.core import generator
from helix4d.model import (
    DenseDecoder,
    DenseDecoderConfig,
    DenseEncoder,
    DenseEncoderConfig,
    DenseFlow,
    FlowConfig,
    SamplerConfig,
    SparseDecoder,
    SparseDecoderConfig,
    SparseEncoder,
    SparseEncoderConfig,
    SparseFlow,
    SparseTensor,
    VideoConfig,
    sample,
)
from helix4d.model.sampling.sampler import dense_spread

Network = TypeVar("Network", bound=nn.Module)

_FLOW = FlowConfig(
    resolution=4, in_channels=4, out_channels=4, model_channels=48, cond_channels=12, num_blocks=2, num_heads=2
)
_LENGTHS = (9, 7, 0, 8)
_SMALLEST_LOGIT = 1e-3
"""Subdivisions nearer to zero than this could turn out either way on another CPU."""


@torch.no_grad()
def network_outputs() -> dict[str, np.ndarray]:
    """`NETWORK.OUTPUT` float32, in the order of the sorted coordinates `NETWORK.coords` where the network is sparse."""
    return {
        **_dense_vae(),
        **_sparse_vae(),
        **_flows(),
        "sampler.sample": _guided_sample().numpy(),
    }


def _dense_vae() -> dict[str, np.ndarray]:
    encoder = _weighted(
        DenseEncoder(DenseEncoderConfig(channels=(8, 16, 16), num_res_blocks=1, num_res_blocks_middle=1)), "encoder"
    )
    decoder = _weighted(
        DenseDecoder(DenseDecoderConfig(channels=(16, 16, 8), num_res_blocks=1, num_res_blocks_middle=1)), "decoder"
    )
    occupancy = (_drawn("occupancy", 1, 1, 8, 8, 8) > 0.5).float()
    mean, logvar = encoder(occupancy)
    logits = decoder(_drawn("dense latent", 1, 8, 2, 2, 2))
    return {
        "dense_encoder.mean": mean.numpy(),
        "dense_encoder.logvar": logvar.numpy(),
        "dense_decoder.logits": logits.numpy(),
    }


def _sparse_vae() -> dict[str, np.ndarray]:
    encoder = _weighted(
        SparseEncoder(SparseEncoderConfig(model_channels=(8, 16, 32), num_blocks=(1, 1, 1), latent_channels=4)),
        "sparse encoder",
    )
    mean, logvar = encoder(_sparse("voxels", (60, 40), 16, 6))
    arrays = _sorted("sparse_encoder", {"mean": mean, "logvar": logvar})

    levels = {"model_channels": (32, 16, 8), "num_blocks": (1, 1, 1), "latent_channels": 4}
    shape = _weighted(SparseDecoder(SparseDecoderConfig(**levels)), "shape decoder")
    texture = _weighted(SparseDecoder(SparseDecoderConfig(**levels, out_channels=6, pred_subdiv=False)), "texture")
    latent = _sparse("latent", (5, 4), 4, 4)
    decoded = shape(latent)
    nearest = min(float(logits.feats.abs().min()) for logits in decoded.subdivisions)
    assert nearest > _SMALLEST_LOGIT, f"a subdivision's logit is {nearest:.1e}: draw other weights"
    arrays.update(_sorted("shape_decoder", {"fields": decoded.fields}))
    arrays.update(_sorted("texture_decoder", {"fields": texture(latent, decoded.subdivisions).fields}))
    return arrays


def _flows() -> dict[str, np.ndarray]:
    frames = len(_LENGTHS)
    cond, times = _drawn("condition", frames, 5, 12), torch.tensor([0.0, 700.0, 700.0, 700.0])
    dense = _weighted(DenseFlow(_FLOW, VideoConfig()), "dense flow")
    sparse = _weighted(SparseFlow(_FLOW, VideoConfig()), "sparse flow")
    velocity = dense(_drawn("grid", frames, 4, 4, 4, 4), times, cond, clips=(frames,))
    tokens = sparse(_sparse("tokens", _LENGTHS, 4, 4), times, cond, clips=(frames,))
    return {"dense_flow.velocity": velocity.numpy(), **_sorted("sparse_flow", {"velocity": tokens})}


def _guided_sample() -> Tensor:
    """Twelve guided steps of a velocity that is a formula."""
    a, b, cond = _drawn("a", 6, 6), _drawn("b", 6, 6), _drawn("sampler condition", 2, 4, 6)

    def velocity(x: Tensor, timestep: float, conditional: bool) -> Tensor:
        return torch.tanh(x @ a + (cond @ b if conditional else 0.0) + timestep / 1000)

    settings = SamplerConfig(steps=12, guidance=7.5, guidance_rescale=0.7, guidance_interval=(0.6, 1.0), rescale_t=5.0)
    return sample(velocity, _drawn("noise", 2, 4, 6), settings, dense_spread)


def _weighted(network: Network, name: str) -> Network:
    """The network with weights N(0, 1/fan_in), biases N(0, 0.1²) and scales of norms N(1, 0.1²)."""
    for key, parameter in network.named_parameters():
        drawn = _drawn(f"{name} {key}", *parameter.shape)
        if parameter.ndim > 1:
            parameter.copy_(drawn / math.sqrt(parameter[0].numel()))
        else:
            parameter.copy_(0.1 * drawn + (1.0 if key.endswith("weight") else 0.0))
    return network.eval()


def _drawn(name: str, *shape: int) -> Tensor:
    return torch.from_numpy(generator("frozen", name).standard_normal(shape, dtype=np.float32))


def _sparse(name: str, lengths: tuple[int, ...], side: int, channels: int) -> SparseTensor:
    """Distinct random voxels of a grid of `side` voxels per side, `lengths` of them in each sample."""
    coords = []
    for number, count in enumerate(lengths):
        places = np.sort(generator("frozen", name, number).permutation(side**3)[:count])
        xyz = np.stack(np.unravel_index(places, (side,) * 3), axis=1)
        coords.append(np.concatenate([np.full((count, 1), number), xyz], axis=1))
    packed = torch.from_numpy(np.concatenate(coords).astype(np.int32))
    return SparseTensor.from_coords(_drawn(f"{name} features", sum(lengths), channels), packed, len(lengths))


def _sorted(name: str, tensors: dict[str, SparseTensor]) -> dict[str, np.ndarray]:
    """Features in the lexicographic order of (sample, x, y, z), and these coordinates as uint8."""
    first = next(iter(tensors.values()))
    coords = first.coords.numpy()
    order = np.lexsort(coords.T[::-1])
    arrays = {f"{name}.{key}": tensor.feats.numpy()[order] for key, tensor in tensors.items()}
    return {f"{name}.coords": coords[order].astype(np.uint8), **arrays}

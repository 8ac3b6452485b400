"""TRELLIS.2's three stages on single frames: image tokens to a sparse structure, to geometry, to materials.

Used by the rotary study and for the anchor of a video. Noise comes from a named generator, so a sample depends only on
its names and not on its batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from helix4d.core import generator
from helix4d.model.latents.latents import SHAPE_STATISTICS, TEXTURE_STATISTICS, LatentStatistics, tokens_from_occupancy
from helix4d.model.networks.flow import DenseFlow, SparseFlow
from helix4d.model.networks.sparse import SparseLayout, SparseTensor
from helix4d.model.sampling.sampler import (
    SHAPE_SAMPLER,
    STRUCTURE_SAMPLER,
    TEXTURE_SAMPLER,
    SamplerConfig,
    dense_spread,
    packed_spread,
    sample,
)
from helix4d.model.sampling.velocities import dense_velocity, sparse_velocity
from helix4d.model.vae.dense_vae import DenseDecoder


def sampler_from_json(document: dict[str, Any]) -> SamplerConfig:
    """Parse a sampler's entry in `pipeline.json`: `args` has `sigma_min`, `params` the rest."""
    params = document.get("params", {})
    return SamplerConfig(
        steps=params.get("steps", 12),
        guidance=params.get("guidance_strength", 1.0),
        guidance_rescale=params.get("guidance_rescale", 0.0),
        guidance_interval=tuple(params.get("guidance_interval", (0.0, 1.0))),
        rescale_t=params.get("rescale_t", 1.0),
        sigma_min=document.get("args", {}).get("sigma_min", 1e-5),
    )


def named_noise(shape: Sequence[int], *names: str | int, device: torch.device | None = None) -> Tensor:
    """Draw standard normal float32 noise from the generator with these names; identical on every device."""
    return torch.from_numpy(generator(*names).standard_normal(tuple(shape), dtype="float32")).to(device)


def sample_structure(
    flow: DenseFlow, cond: Tensor, noise: Tensor, sampler: SamplerConfig = STRUCTURE_SAMPLER
) -> Tensor:
    """Stage 1: map image tokens [B, M, C] and noise [B, 8, 16, 16, 16] to latents, which are not normalized."""
    return sample(dense_velocity(flow, cond), noise, sampler, dense_spread)


def decode_structure(decoder: DenseDecoder, latent: Tensor, grid: int = 32) -> SparseLayout:
    """Decode stage 1's latents to the tokens of stages 2 and 3, one by one to limit memory."""
    return tokens_from_occupancy(torch.cat([decoder(one) for one in latent.split(1)]), grid)


def sample_shape(
    flow: SparseFlow,
    layout: SparseLayout,
    cond: Tensor,
    noise: Tensor,
    sampler: SamplerConfig = SHAPE_SAMPLER,
    statistics: LatentStatistics = SHAPE_STATISTICS,
) -> SparseTensor:
    """Stage 2: map tokens, image tokens [B, M, C] and noise [L, 32] to the denormalized shape latent."""
    z = sample(sparse_velocity(flow, layout, cond), noise, sampler, packed_spread(layout.lengths))
    return SparseTensor(statistics.denormalize(z), layout)


def sample_texture(
    flow: SparseFlow,
    shape: SparseTensor,
    cond: Tensor,
    noise: Tensor,
    sampler: SamplerConfig = TEXTURE_SAMPLER,
    shape_statistics: LatentStatistics = SHAPE_STATISTICS,
    statistics: LatentStatistics = TEXTURE_STATISTICS,
) -> SparseTensor:
    """Stage 3: map the shape latent, image tokens [B, M, C] and noise [L, 32] to the denormalized texture latent."""
    velocity = sparse_velocity(flow, shape.layout, cond, side=shape_statistics.normalize(shape.feats))
    z = sample(velocity, noise, sampler, packed_spread(shape.layout.lengths))
    return shape.replace(statistics.denormalize(z))

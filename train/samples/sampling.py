"""Sample a video with a trained stage (frame 0 given, the others from noise) and decode it to voxels and meshes.

Used for previews, for the small world and to measure overfitting.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from helix4d.core import ConfigError, generator
from helix4d.model.networks.flow import DenseFlow, FlowTransformer, SparseFlow
from helix4d.model.networks.sparse import SparseLayout, SparseTensor
from helix4d.model.sampling.sampler import (
    SHAPE_SAMPLER,
    STRUCTURE_SAMPLER,
    TEXTURE_SAMPLER,
    SamplerConfig,
    Velocity,
    dense_spread,
    packed_spread,
    sample,
)
from helix4d.model.sampling.velocities import SparseAnchor, anchored_dense_velocity, anchored_sparse_velocity
from helix4d.model.vae.dense_vae import DenseDecoder
from helix4d.model.vae.sc_vae import SparseDecoder, decode_shape_fields
from helix4d.train.config import Stage
from helix4d.train.data.dataset import Latent
from helix4d.voxelize import extract_mesh_arrays

_SAMPLERS = {Stage.STRUCTURE: STRUCTURE_SAMPLER, Stage.GEOMETRY: SHAPE_SAMPLER, Stage.MATERIAL: TEXTURE_SAMPLER}


@dataclass(frozen=True)
class SampledMesh:
    """Mesh of one frame: vertices float32 (V, 3) in [-0.5, 0.5], faces int32 (F, 3)."""

    vertices: np.ndarray
    faces: np.ndarray


def stage_sampler(stage: Stage, guidance: float | None = None) -> SamplerConfig:
    """Return the settings with which `helix4d sample` samples a stage; `guidance` overrides the guidance strength."""
    sampler = _SAMPLERS[stage]
    return sampler if guidance is None else replace(sampler, guidance=guidance)


@torch.no_grad()
def sample_video(
    network: FlowTransformer,
    given: Latent,
    cond: Tensor,
    sampler: SamplerConfig,
    seed: int,
    first_frame: bool = True,
) -> Tensor:
    """Sample a clip's normalized latent, of the shape of `given.clean`.

    Args:
        network: network of a stage.
        given: latent that provides frame 0, if it is the anchor, and the voxels and side input of all frames.
        cond: image tokens [T, M, C].
        sampler: sampling settings.
        seed: seed of the noise.
        first_frame: whether frame 0 is the clean anchor; otherwise, and for clips of one frame, all frames are sampled.
    """
    network.eval()
    device = cond.device
    frames = len(given.lengths)
    first_frame = first_frame and frames > 1
    noise = torch.from_numpy(generator(seed, "sample").standard_normal(given.clean.shape, dtype=np.float32)).to(device)
    clean = given.clean.to(device)
    if isinstance(network, DenseFlow):
        if first_frame:
            velocity = anchored_dense_velocity(network, clean[0], cond)
            return torch.cat([clean[:1], sample(velocity, noise[1:], sampler, dense_spread)])
        return sample(_free_velocity(network, frames, cond), noise, sampler, dense_spread)
    if not isinstance(network, SparseFlow) or given.coords is None:
        raise ConfigError(f"a {type(network).__name__} cannot sample this latent")
    numbers = torch.repeat_interleave(torch.arange(frames, dtype=torch.int32), torch.tensor(given.lengths))
    coords = torch.cat([numbers[:, None], given.coords], dim=1).to(device)
    side = None if given.side is None else given.side.to(device)
    first = given.lengths[0]
    if not first_frame:
        layout = SparseLayout.from_coords(coords, frames)
        free = _free_velocity(network, frames, cond, layout, side)
        return sample(free, noise, sampler, packed_spread(given.lengths))
    anchor_side, rest_side = (None, None) if side is None else (side[:first], side[first:])
    anchor = SparseAnchor(SparseTensor.from_coords(clean[:first], coords[:first], 1), anchor_side)
    shift = torch.tensor([1, 0, 0, 0], dtype=torch.int32, device=device)
    layout = SparseLayout.from_coords(coords[first:] - shift, frames - 1)
    velocity = anchored_sparse_velocity(network, anchor, layout, cond, rest_side)
    moved = sample(velocity, noise[first:], sampler, packed_spread(given.lengths[1:]))
    return torch.cat([clean[:first], moved])


@torch.no_grad()
def decode_occupancy(decoder: DenseDecoder, latent: Tensor) -> Tensor:
    """Decode stage 1's latents [T, C, r, r, r] to occupancies bool [T, R, R, R], frame by frame."""
    return torch.cat([decoder(one)[:, 0] > 0 for one in latent.split(1)])


@torch.no_grad()
def decode_meshes(
    decoder: SparseDecoder, latent: Tensor, coords: Tensor, lengths: Sequence[int], resolution: int
) -> list[SampledMesh]:
    """Decode denormalized shape latents [L, C] on int32 [L, 3] to one mesh per frame, empty if it has no voxels."""
    meshes = []
    for feats, voxels in zip(latent.split(list(lengths)), coords.split(list(lengths)), strict=True):
        if not len(feats):
            meshes.append(SampledMesh(np.zeros((0, 3), np.float32), np.zeros((0, 3), np.int32)))
            continue
        placed = torch.nn.functional.pad(voxels, (1, 0)).to(feats.device)
        decoded = decoder(SparseTensor.from_coords(feats, placed, 1)).fields
        fields = decode_shape_fields(decoded.feats)
        vertices, faces = extract_mesh_arrays(
            resolution,
            decoded.coords[:, 1:].cpu().numpy(),
            fields.dual_vertices.cpu().numpy(),
            fields.intersected.cpu().numpy(),
            "weight",
            fields.split_weight.cpu().numpy(),
        )
        meshes.append(SampledMesh(vertices, faces))
    return meshes


def _free_velocity(
    network: DenseFlow | SparseFlow,
    frames: int,
    cond: Tensor,
    layout: SparseLayout | None = None,
    side: Tensor | None = None,
) -> Velocity:
    """Velocity of all frames of one clip, without a clean anchor."""

    def velocity(x: Tensor, timestep: float, conditional: bool) -> Tensor:
        times = torch.full((frames,), timestep, dtype=torch.float32, device=x.device)
        condition = cond if conditional else torch.zeros_like(cond)
        if isinstance(network, DenseFlow):
            return network(x, times, condition, clips=(frames,))
        if layout is None:
            raise ConfigError("sparse stages need voxels")
        return network(SparseTensor(x, layout), times, condition, clips=(frames,), side=side).feats

    return velocity

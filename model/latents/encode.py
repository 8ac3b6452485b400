"""Encode O-Voxels as latents, for training the three stages and for re-encoding a resized anchor.

Latents are the means of the encoders' posteriors, not normalized, on tokens in lexicographic order. Frames are encoded
one by one, so a latent depends only on its own frame.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from helix4d.core import ConfigError, sha256_file
from helix4d.model.checkpoint.checkpoint import CheckpointSource, load_network, model_references, read_settings
from helix4d.model.latents.latents import LATENT_STRIDE, OCCUPANCY_RESOLUTION, occupancy
from helix4d.model.networks.sparse import SparseTensor
from helix4d.model.vae.dense_vae import DenseEncoder
from helix4d.model.vae.sc_vae import SparseEncoder, encode_shape_fields, encode_texture_fields
from helix4d.voxelize import OVoxel

# Locations of TRELLIS.2's encoders, which its `pipeline.json` does not list. Our own pipelines list them by these keys.
RELEASED_ENCODERS = {
    "sparse_structure_encoder": "microsoft/TRELLIS-image-large/ckpts/ss_enc_conv3d_16l8_fp16",
    "shape_slat_encoder": "ckpts/shape_enc_next_dc_f16c32_fp16",
    "tex_slat_encoder": "ckpts/tex_enc_next_dc_f16c32_fp16",
}


@dataclass(frozen=True, eq=False)
class ClipLatents:
    """Latents of all frames of a clip.

    Attributes:
        structure: [T, 8, r, r, r], latent of each frame's occupancy (stage 1).
        lengths: number of tokens of each of the T frames; zero for an empty frame.
        coords: int32 [L, 3], tokens of all frames, frame by frame.
        shape: [L, C], shape latents (stage 2).
        texture: [L, C], texture latents (stage 3).
    """

    structure: Tensor
    lengths: tuple[int, ...]
    coords: Tensor
    shape: Tensor
    texture: Tensor


@dataclass(frozen=True, eq=False)
class Encoders:
    """The three encoders, and the hash of their files."""

    structure: DenseEncoder
    shape: SparseEncoder
    texture: SparseEncoder
    fingerprint: str

    @classmethod
    def load(cls, source: CheckpointSource, device: torch.device, compute_dtype: torch.dtype) -> Encoders:
        """Load the encoders from a folder or repository in TRELLIS.2's layout.

        Encoders that its `pipeline.json` does not list are loaded from `RELEASED_ENCODERS`.
        """
        references = encoder_references(source)
        networks = [load_network(source, ref, torch.float32, compute_dtype) for ref in references.values()]
        structure, shape, texture = (network.to(device).requires_grad_(False) for network in networks)
        if not (
            isinstance(structure, DenseEncoder)
            and isinstance(shape, SparseEncoder)
            and isinstance(texture, SparseEncoder)
        ):
            kinds = [type(n).__name__ for n in (structure, shape, texture)]
            raise ConfigError(f"{source.root}: expected one dense and two sparse encoders, found {kinds}")
        for name, encoder in (("shape", shape), ("texture", texture)):
            stride = 2 ** (len(encoder.config.model_channels) - 1)
            if stride != LATENT_STRIDE:
                raise ConfigError(f"{source.root}: the {name} encoder has stride {stride}, expected {LATENT_STRIDE}")
        return cls(structure, shape, texture, encoders_fingerprint(source))

    @property
    def device(self) -> torch.device:
        """Device of the encoders."""
        return next(self.structure.parameters()).device


def encoder_references(source: CheckpointSource) -> dict[str, str]:
    """Return the encoders' paths in `source`, in the order of `RELEASED_ENCODERS`."""
    models = model_references(read_settings(source.file("pipeline.json"))["args"].get("models"), source.root)
    return {name: models.get(name, released) for name, released in RELEASED_ENCODERS.items()}


def encoders_fingerprint(source: CheckpointSource) -> str:
    """Hex SHA-256 of the encoders' files, on which latents depend besides their O-Voxels."""
    digest = hashlib.sha256()
    for name, reference in encoder_references(source).items():
        for suffix in (".json", ".safetensors"):
            digest.update(f"{name}{suffix} {sha256_file(source.reference(reference, suffix))}\n".encode())
    return digest.hexdigest()


@torch.no_grad()
def encode_clip(
    ovoxels: Sequence[OVoxel], encoders: Encoders, occupancy_resolution: int = OCCUPANCY_RESOLUTION
) -> ClipLatents:
    """Encode every frame: latents in float32 on the CPU. Frames without voxels have no tokens."""
    structures, coords, shapes, textures = [], [], [], []
    for ovoxel in ovoxels:
        geometry, attributes = encoder_inputs(ovoxel, encoders.device)
        volume = occupancy(geometry.coords, 1, ovoxel.resolution, occupancy_resolution)
        structures.append(encoders.structure(volume)[0])
        if len(geometry.layout) == 0:
            continue
        shape, _ = encoders.shape(geometry)
        # Both encoders share one layout, so neighbors and coarser grids are computed once.
        texture, _ = encoders.texture(attributes)
        coords.append(shape.coords[:, 1:].cpu())
        shapes.append(shape.feats.float().cpu())
        textures.append(texture.feats.float().cpu())
    lengths = iter([len(c) for c in coords])
    channels = encoders.shape.config.latent_channels, encoders.texture.config.latent_channels
    return ClipLatents(
        structure=torch.cat(structures).float().cpu(),
        lengths=tuple(next(lengths) if len(ovoxel) else 0 for ovoxel in ovoxels),
        coords=torch.cat([torch.zeros(0, 3, dtype=torch.int32), *coords]),
        shape=torch.cat([torch.zeros(0, channels[0]), *shapes]),
        texture=torch.cat([torch.zeros(0, channels[1]), *textures]),
    )


def encoder_inputs(ovoxel: OVoxel, device: torch.device) -> tuple[SparseTensor, SparseTensor]:
    """Convert an O-Voxel to the inputs of the shape and texture encoders, both [N, 6], on one shared layout."""
    coords = torch.from_numpy(np.pad(ovoxel.coords, ((0, 0), (1, 0)))).to(device)
    duals, flags = torch.from_numpy(ovoxel.dual_vertices), torch.from_numpy(ovoxel.intersected)
    geometry = SparseTensor.from_coords(encode_shape_fields(duals, flags).to(device), coords, 1)
    channels = (ovoxel.base_color, ovoxel.metallic, ovoxel.roughness, ovoxel.alpha)
    attributes = torch.from_numpy(np.concatenate(channels, axis=1)).float() / 255
    return geometry, geometry.replace(encode_texture_fields(attributes).to(device))

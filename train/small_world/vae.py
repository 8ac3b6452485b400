"""Train the small world's three VAEs from scratch on curation shards, in minutes on a CPU.

The losses are the reconstruction terms of TRELLIS.2's first training phase (dual vertices, intersected edges,
subdivisions and attributes on the true voxels) and a small KL term, with our own weights; rendering losses are omitted.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from helix4d.core import ConfigError, generator, write_bytes
from helix4d.curation.shards.reader import ShardReader
from helix4d.model.checkpoint.checkpoint import Pipeline
from helix4d.model.latents.encode import encoder_inputs
from helix4d.model.latents.latents import occupancy
from helix4d.model.networks.config import (
    DenseDecoderConfig,
    DenseEncoderConfig,
    SparseDecoderConfig,
    SparseEncoderConfig,
)
from helix4d.model.networks.initialize import initialize_vae
from helix4d.model.networks.sparse import SparseLayout, SparseTensor
from helix4d.model.vae.dense_vae import DenseDecoder, DenseEncoder
from helix4d.model.vae.sc_vae import SparseDecoder, SparseEncoder, UpBlock
from helix4d.train.small_world.random_encoder import write_random_image_encoder
from helix4d.voxelize import OVoxel, decode_vxz

log = logging.getLogger("helix4d.train")

LOSSES_FILE = "vae_losses.json"


@dataclass(frozen=True, kw_only=True)
class LossWeights:
    """Weights of the loss terms."""

    dual: float = 10.0
    """Mean squared error of dual vertices, in voxels."""
    crossed: float = 1.0
    """Cross-entropy of intersected edges."""
    subdivision: float = 1.0
    """Cross-entropy of children, averaged over the levels."""
    attributes: float = 1.0
    """Mean absolute error of base color, metallic, roughness and alpha, in [-1, 1]."""
    kl: float = 1e-4


@dataclass(frozen=True, kw_only=True)
class VaeConfig:
    """Settings of the three VAEs and the random image encoder."""

    shards: str
    """Output folder of `helix4d curate`."""
    output: str
    """Output folder for the networks, in TRELLIS.2's layout."""
    occupancy_resolution: int
    """Voxels per side of the occupancy; TRELLIS.2 uses an eighth of the O-Voxels' resolution."""
    structure_channels: tuple[int, ...] = (16, 32, 64)
    structure_latent: int = 8
    sparse_channels: tuple[int, ...] = (16, 16, 32, 64, 64)
    sparse_blocks: tuple[int, ...] = (0, 1, 1, 1, 1)
    sparse_latent: int = 16
    image_channels: int = 32
    """Channels of the random image encoder."""
    steps: int = 300
    """Steps per VAE."""
    batch: int = 2
    """Frames per step."""
    lr: float = 2e-3
    weights: LossWeights = field(default_factory=LossWeights)
    seed: int = 0


@dataclass(frozen=True)
class _Frames:
    """The O-Voxels of a split: (shard, key, frame) of each, and a cache of those already read."""

    readers: tuple[ShardReader, ...]
    places: tuple[tuple[int, str, int], ...]
    cache: dict[int, OVoxel]

    @classmethod
    def open(cls, folder: Path) -> _Frames:
        readers = tuple(ShardReader(tar) for tar in sorted((folder / "train").glob("*.tar")))
        places = tuple(
            (number, sample["key"], frame)
            for number, reader in enumerate(readers)
            for sample in reader.sidecar["samples"]
            for frame, voxels in enumerate(sample["voxels"])
            if voxels
        )
        if not places:
            raise ConfigError(
                f"{folder}: no shards with voxels in the train split: set shards to the output of `helix4d curate`"
            )
        return cls(readers, places, {})

    def draw(self, count: int, *names: str | int) -> list[OVoxel]:
        """Draw random frames from the generator with these names."""
        numbers = generator(*names).integers(len(self.places), size=count)
        return [self._read(int(number)) for number in numbers]

    def _read(self, number: int) -> OVoxel:
        if number not in self.cache:
            shard, key, frame = self.places[number]
            self.cache[number] = decode_vxz(self.readers[shard].read(key, f"frame_{frame:02d}.vxz"))
        return self.cache[number]


def train_vaes(config: VaeConfig) -> dict[str, list[float]]:
    """Train the three VAEs, save them with a random image encoder, and return the loss of each at every step."""
    frames = _Frames.open(Path(config.shards))
    structure = _Structure(config)
    shape, texture = _Sparse(config, 7), _Sparse(config, 6)
    losses = {
        "structure": _fit("structure", structure, frames, config),
        "shape": _fit("shape", shape, frames, config),
        "texture": _fit("texture", texture, frames, config),
    }
    folder = Path(config.output)
    write_random_image_encoder(folder / "image_encoder", config.image_channels, seed=config.seed)
    write_bytes(folder / LOSSES_FILE, json.dumps(losses).encode())
    networks: dict[str, nn.Module] = {
        "sparse_structure_encoder": structure.encoder,
        "sparse_structure_decoder": structure.decoder,
        "shape_slat_encoder": shape.encoder,
        "shape_slat_decoder": shape.decoder,
        "tex_slat_encoder": texture.encoder,
        "tex_slat_decoder": texture.decoder,
    }
    Pipeline(networks, {}).save_pretrained(folder)
    return losses


def _fit(name: str, vae: _Structure | _Sparse, frames: _Frames, config: VaeConfig) -> list[float]:
    seed = int(generator(config.seed, "vae", name).integers(2**63))
    initialize_vae(vae, torch.Generator().manual_seed(seed))
    optimizer = torch.optim.AdamW(vae.parameters(), lr=config.lr, betas=(0.9, 0.95), weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, config.steps, config.lr / 20)
    losses = []
    for step in range(config.steps):
        drawn = frames.draw(config.batch, config.seed, name, step)
        noise = torch.Generator().manual_seed(int(generator(config.seed, name, step, "noise").integers(2**63)))
        loss = vae.loss(drawn, noise)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        losses.append(float(loss.detach()))
        if (step + 1) % 50 == 0:
            log.info("%s VAE: step %d of %d, loss %.4f", name, step + 1, config.steps, losses[-1])
    vae.requires_grad_(False)
    return losses


class _Structure(nn.Module):
    """The occupancy VAE."""

    def __init__(self, config: VaeConfig) -> None:
        super().__init__()
        self.config = config
        widths, latent = config.structure_channels, config.structure_latent
        common: dict[str, Any] = {"latent_channels": latent, "num_res_blocks": 1, "num_res_blocks_middle": 1}
        self.encoder = DenseEncoder(DenseEncoderConfig(channels=widths, **common))
        self.decoder = DenseDecoder(DenseDecoderConfig(channels=widths[::-1], **common))

    def loss(self, frames: Sequence[OVoxel], noise: torch.Generator) -> Tensor:
        """Cross-entropy of the occupancy, with empty and occupied voxels weighted equally, plus the KL term."""
        grid = self.config.occupancy_resolution
        volume = torch.cat([occupancy(_coords(frame), 1, frame.resolution, grid) for frame in frames])
        mean, logvar = self.encoder(volume)
        logits = self.decoder(_draw(mean, logvar, noise))
        share = volume.mean().clamp(1e-3, 1 - 1e-3)
        weight = torch.where(volume > 0, 0.5 / share, 0.5 / (1 - share))
        return F.binary_cross_entropy_with_logits(logits, volume, weight) + self.config.weights.kl * _kl(mean, logvar)


class _Sparse(nn.Module):
    """A shape VAE (7 outputs) or a texture VAE (6 outputs)."""

    def __init__(self, config: VaeConfig, out_channels: int) -> None:
        super().__init__()
        self.config = config
        widths, blocks, latent = config.sparse_channels, config.sparse_blocks, config.sparse_latent
        self.encoder = SparseEncoder(
            SparseEncoderConfig(model_channels=widths, num_blocks=blocks, latent_channels=latent)
        )
        self.decoder = SparseDecoder(
            SparseDecoderConfig(
                out_channels=out_channels,
                model_channels=widths[::-1],
                num_blocks=blocks[::-1],
                latent_channels=latent,
                pred_subdiv=out_channels == 7,
            )
        )

    def loss(self, frames: Sequence[OVoxel], noise: torch.Generator) -> Tensor:
        """Mean over frames of the reconstruction terms and the KL term."""
        return torch.stack([self._loss(frame, noise) for frame in frames]).mean()

    def _loss(self, frame: OVoxel, noise: torch.Generator) -> Tensor:
        weights = self.config.weights
        geometry, attributes = encoder_inputs(frame, torch.device("cpu"))
        inputs = geometry if self.decoder.config.pred_subdiv else attributes
        mean, logvar = self.encoder(inputs)
        latent = mean.replace(_draw(mean.feats, logvar.feats, noise))
        fields, subdivisions = decode_along(self.decoder, latent, inputs.layout)
        target = inputs.feats[match_rows(fields.layout, inputs.layout)]
        loss = weights.kl * _kl(mean.feats, logvar.feats)
        if not self.decoder.config.pred_subdiv:
            return loss + weights.attributes * (fields.feats - target).abs().mean()
        duals = 2 * torch.sigmoid(fields.feats[:, :3]) - 1.0  # decoded value − 0.5, as in the encoder's input
        loss = loss + weights.dual * (duals - target[:, :3]).square().mean()
        loss = loss + weights.crossed * F.binary_cross_entropy_with_logits(fields.feats[:, 3:6], target[:, 3:] + 0.5)
        terms = [F.binary_cross_entropy_with_logits(logits, truth) for logits, truth in subdivisions]
        return loss + weights.subdivision * torch.stack(terms).mean()


def decode_along(
    decoder: SparseDecoder, z: SparseTensor, fine: SparseLayout
) -> tuple[SparseTensor, list[tuple[Tensor, Tensor]]]:
    """Decode on the true voxels instead of the predicted ones.

    Args:
        decoder: shape or texture decoder.
        z: latent [M, C] on the coarsest layout of `fine`.
        fine: voxels from which the latent was encoded.

    Returns:
        Fields on the voxels of `fine`, in the decoder's order, and, if the decoder predicts subdivisions, its logits
        and the ground truth of each level, both float [N_level, 8].
    """
    levels = [fine]
    for _ in range(len(decoder.config.model_channels) - 1):
        levels.append(levels[-1].coarse[0])
    h = z.replace(decoder.from_latent(z.feats))
    subdivisions: list[tuple[Tensor, Tensor]] = []
    depth = len(levels) - 1
    for level in decoder.blocks:
        for block in level:  # type: ignore[attr-defined]
            if not isinstance(block, UpBlock):
                h = block(h)
                continue
            depth -= 1
            truth = children_present(h.layout, levels[depth])
            if block.to_subdiv is not None:
                subdivisions.append((block.to_subdiv(h.feats), truth.to(h.feats.dtype)))
            h, _ = block(h, SparseTensor(truth.to(h.feats.dtype), h.layout))
    feats = F.layer_norm(h.feats, h.feats.shape[-1:])
    return h.replace(decoder.output_layer(feats)), subdivisions


def children_present(coarse: SparseLayout, fine: SparseLayout) -> Tensor:
    """Return which children of each voxel of `coarse` exist in `fine`, bool [N, 8]."""
    count = len(coarse)
    parent = torch.arange(count).repeat_interleave(8)
    children = coarse.children(parent, torch.arange(8).repeat(count))
    return torch.isin(_keys(children.coords), _keys(fine.coords)).view(count, 8)


def match_rows(query: SparseLayout, source: SparseLayout) -> Tensor:
    """Return the row in `source` of each voxel of `query`, int64 [N]; both must contain the same voxels."""
    ordered, order = _keys(source.coords).sort()
    return order[torch.searchsorted(ordered, _keys(query.coords))]


def _keys(coords: Tensor) -> Tensor:
    sample, x, y, z = coords.long().unbind(1)
    return ((sample << 15 | x) << 15 | y) << 15 | z


def _coords(frame: OVoxel) -> Tensor:
    return F.pad(torch.from_numpy(frame.coords), (1, 0))


def _draw(mean: Tensor, logvar: Tensor, noise: torch.Generator) -> Tensor:
    return mean + (0.5 * logvar).exp() * torch.randn(mean.shape, generator=noise)


def _kl(mean: Tensor, logvar: Tensor) -> Tensor:
    return 0.5 * (mean.square() + logvar.exp() - 1 - logvar).mean()

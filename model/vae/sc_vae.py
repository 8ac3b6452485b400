"""Shape and texture SC-VAEs: encode an O-Voxel as a sparse latent at 1/16 of its resolution, and decode it.

Encoders halve the grid four times (space to channel), decoders double it four times (channel to space), with sparse
ConvNeXt blocks at each level. The shape decoder predicts which children exist; the texture decoder follows it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from helix4d.core import ConfigError
from helix4d.model.networks.config import SparseDecoderConfig, SparseEncoderConfig
from helix4d.model.networks.convolution.sparse_conv import SubmanifoldConv3d
from helix4d.model.networks.layers import LayerNorm, Linear, upcast
from helix4d.model.networks.sparse import SparseTensor


@dataclass(frozen=True)
class DecodedVoxels:
    """Output of a decoder.

    Attributes:
        fields: raw outputs [N, out] on the voxels of the finest level.
        subdivisions: logits [N_level, 8] of each voxel's children, per up block; input of a texture decoder.
    """

    fields: SparseTensor
    subdivisions: tuple[SparseTensor, ...]


class SparseEncoder(nn.Module):
    """`FlexiDualGridVaeEncoder` and `SparseUnetVaeEncoder` of TRELLIS.2, which differ only in their input."""

    def __init__(self, config: SparseEncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.compute_dtype = torch.float32
        widths = config.model_channels
        self.input_layer = Linear(config.in_channels, widths[0])
        self.blocks = nn.ModuleList()
        for level, (width, count) in enumerate(zip(widths, config.num_blocks, strict=True)):
            blocks: list[nn.Module] = [ConvNeXtBlock(width) for _ in range(count)]
            if level + 1 < len(widths):
                blocks.append(DownBlock(width, widths[level + 1]))
            self.blocks.append(nn.ModuleList(blocks))
        self.to_latent = Linear(widths[-1], 2 * config.latent_channels)

    def forward(self, x: SparseTensor) -> tuple[SparseTensor, SparseTensor]:
        """Map [N, in] at full resolution to the latent's mean and log variance, both [M, latent], in the type of x."""
        _check_channels(x, self.config.in_channels, "encoder input")
        h = x.replace(self.input_layer(x.feats).to(self.compute_dtype))
        for level in self.blocks:
            for block in level:  # type: ignore[attr-defined]
                h = block(h)
        feats = F.layer_norm(h.feats.to(x.feats.dtype), h.feats.shape[-1:])
        mean, logvar = self.to_latent(feats).chunk(2, dim=-1)
        return h.replace(mean), h.replace(logvar)


class SparseDecoder(nn.Module):
    """`FlexiDualGridVaeDecoder` and `SparseUnetVaeDecoder` of TRELLIS.2."""

    def __init__(self, config: SparseDecoderConfig) -> None:
        super().__init__()
        self.config = config
        self.compute_dtype = torch.float32
        widths = config.model_channels
        self.output_layer = Linear(widths[-1], config.out_channels)
        self.from_latent = Linear(config.latent_channels, widths[0])
        self.blocks = nn.ModuleList()
        for level, (width, count) in enumerate(zip(widths, config.num_blocks, strict=True)):
            blocks: list[nn.Module] = [ConvNeXtBlock(width) for _ in range(count)]
            if level + 1 < len(widths):
                blocks.append(UpBlock(width, widths[level + 1], config.pred_subdiv))
            self.blocks.append(nn.ModuleList(blocks))

    def forward(self, z: SparseTensor, subdivisions: Sequence[SparseTensor] | None = None) -> DecodedVoxels:
        """Map [M, latent] to [N, out]; each up block doubles the resolution (16 times in total at full size).

        Args:
            z: denormalized latent.
            subdivisions: subdivisions of the shape decoder to follow instead of predicting them; required by texture
                decoders.
        """
        _check_channels(z, self.config.latent_channels, "latent")
        ups = len(self.config.model_channels) - 1
        if subdivisions is None and not self.config.pred_subdiv:
            raise ConfigError(f"this decoder predicts no subdivisions: pass the {ups} of the shape decoder")
        if subdivisions is not None and len(subdivisions) != ups:
            raise ConfigError(f"{len(subdivisions)} subdivisions passed to a decoder with {ups} up blocks")
        h = z.replace(self.from_latent(z.feats).to(self.compute_dtype))
        used: list[SparseTensor] = []
        for level in self.blocks:
            for block in level:  # type: ignore[attr-defined]
                if isinstance(block, UpBlock):
                    h, logits = block(h, None if subdivisions is None else subdivisions[len(used)])
                    used.append(logits)
                else:
                    h = block(h)
        feats = F.layer_norm(h.feats.to(z.feats.dtype), h.feats.shape[-1:])
        return DecodedVoxels(fields=h.replace(self.output_layer(feats)), subdivisions=tuple(used))


class ConvNeXtBlock(nn.Module):
    """ConvNeXt block: x + MLP(LN(conv(x))), with an MLP four times as wide."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = LayerNorm(channels, eps=1e-6)
        self.conv = SubmanifoldConv3d(channels, channels)
        self.mlp = nn.Sequential(Linear(channels, 4 * channels), nn.SiLU(), Linear(4 * channels, channels))

    def forward(self, x: SparseTensor) -> SparseTensor:
        """Map [N, C] to [N, C]."""
        return x.replace(x.feats + self.mlp(self.norm(self.conv(x).feats)))


class DownBlock(nn.Module):
    """Halve the resolution: the eight children of a coarse voxel (zeros if absent) become its channels."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.out_channels = out_channels
        self.norm1 = LayerNorm(in_channels, eps=1e-6)
        self.norm2 = LayerNorm(out_channels, eps=1e-6, elementwise_affine=False)
        self.conv1 = SubmanifoldConv3d(in_channels, out_channels // 8)
        self.conv2 = SubmanifoldConv3d(out_channels, out_channels)

    def forward(self, x: SparseTensor) -> SparseTensor:
        """Map [N, in] to [M, out] on the coarser layout."""
        h = self.conv1(x.replace(F.silu(self.norm1(x.feats))))
        h = space_to_channel(h)
        h = self.conv2(h.replace(F.silu(self.norm2(h.feats))))
        skip = space_to_channel(x).feats.unflatten(1, (self.out_channels, -1)).mean(dim=-1)
        return h.replace(h.feats + skip)


class UpBlock(nn.Module):
    """Double the resolution: a voxel's channels become its children, if their subdivision logits are positive."""

    def __init__(self, in_channels: int, out_channels: int, predicts: bool) -> None:
        super().__init__()
        self.repeats = 8 * out_channels // in_channels
        self.norm1 = LayerNorm(in_channels, eps=1e-6)
        self.norm2 = LayerNorm(out_channels, eps=1e-6, elementwise_affine=False)
        self.conv1 = SubmanifoldConv3d(in_channels, 8 * out_channels)
        self.conv2 = SubmanifoldConv3d(out_channels, out_channels)
        self.to_subdiv = Linear(in_channels, 8) if predicts else None

    def forward(self, x: SparseTensor, guide: SparseTensor | None = None) -> tuple[SparseTensor, SparseTensor]:
        """Map [N, in] to [M, out] on the finer layout; also return the logits [N, 8] that define it.

        The logits are those of `guide` if it is passed, else they are predicted.
        """
        if guide is None:
            if self.to_subdiv is None:
                raise ConfigError("this block predicts no subdivision: pass one to follow")
            guide = x.replace(self.to_subdiv(x.feats))
        elif not torch.equal(guide.coords, x.coords):
            raise ConfigError(
                f"the subdivision's {len(guide.layout)} voxels differ from the {len(x.layout)} voxels of this level"
            )
        parent, child = (guide.feats > 0).nonzero(as_tuple=True)
        finer = x.layout.children(parent, child)
        h = self.conv1(x.replace(F.silu(self.norm1(x.feats))))
        h = SparseTensor(channel_to_space(h.feats, parent, child), finer)
        h = self.conv2(h.replace(F.silu(self.norm2(h.feats))))
        skip = channel_to_space(x.feats, parent, child).repeat_interleave(self.repeats, dim=1)
        return h.replace(h.feats + skip), guide


def space_to_channel(x: SparseTensor) -> SparseTensor:
    """Map [N, C] to [M, 8 C] on the coarser layout, with channels ordered [child][channel], child = x + 2y + 4z."""
    coarse, parent, child = x.layout.coarse
    channels = x.feats.shape[1]
    blocks = x.feats.new_zeros(8 * len(coarse), channels).index_copy(0, 8 * parent + child, x.feats)
    return SparseTensor(blocks.view(len(coarse), 8 * channels), coarse)


def channel_to_space(feats: Tensor, parent: Tensor, child: Tensor) -> Tensor:
    """Map [N, 8 C], with channels ordered [child][channel], to the selected children [M, C]."""
    return feats.reshape(8 * len(feats), feats.shape[1] // 8)[8 * parent + child]


@dataclass(frozen=True)
class ShapeFields:
    """Decoded geometry of an O-Voxel.

    Attributes:
        dual_vertices: [N, 3], in voxels, −0.5 to 1.5 (see `decode_shape_fields`).
        intersected: bool [N, 3], intersection flags.
        split_weight: [N, 1], weights that choose the diagonal of each quad.
    """

    dual_vertices: Tensor
    intersected: Tensor
    split_weight: Tensor


def encode_shape_fields(dual_vertices: Tensor, intersected: Tensor) -> Tensor:
    """Convert dual vertices float [N, 3] in [0, 1] and flags [N, 3] to the shape encoder's input [N, 6]."""
    return torch.cat([dual_vertices - 0.5, intersected.to(dual_vertices.dtype) - 0.5], dim=1)


def decode_shape_fields(fields: Tensor) -> ShapeFields:
    """Convert the shape decoder's [N, 7] to geometry; 2 sigmoid − 0.5 allows vertices half a voxel outside theirs."""
    fields = upcast(fields)
    return ShapeFields(
        dual_vertices=2 * torch.sigmoid(fields[:, :3]) - 0.5,
        intersected=fields[:, 3:6] > 0,
        split_weight=F.softplus(fields[:, 6:7]),
    )


def encode_texture_fields(attributes: Tensor) -> Tensor:
    """Convert attributes float [N, 6] in [0, 1] to the texture encoder's input in [−1, 1]."""
    return 2 * attributes - 1


def decode_texture_fields(fields: Tensor) -> Tensor:
    """Convert the texture decoder's [N, 6] to attributes; callers clamp values outside [0, 1]."""
    return upcast(fields) * 0.5 + 0.5


def _check_channels(x: SparseTensor, channels: int, what: str) -> None:
    if x.feats.shape[1] != channels:
        raise ConfigError(f"{what} has {x.feats.shape[1]} channels: this network expects {channels}")

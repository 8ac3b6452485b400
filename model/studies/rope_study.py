"""Figure 4 and Table A1 of the paper for any checkpoint: how many low-frequency rotary pairs per axis are dispensable.

The low-frequency pairs of every spatial axis are replaced by the identity with everything else (weights, noise, image)
unchanged, and the output is compared with that of the untruncated network.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from helix4d.core import ConfigError
from helix4d.model.checkpoint.checkpoint import Pipeline
from helix4d.model.latents.latents import SHAPE_STATISTICS, LatentStatistics
from helix4d.model.networks.config import BASE, VideoConfig
from helix4d.model.networks.flow import DenseFlow, FlowTransformer, SparseFlow
from helix4d.model.networks.rope import axis_pairs, kept_pairs
from helix4d.model.networks.sparse import SparseLayout
from helix4d.model.sampling.sampler import SHAPE_SAMPLER, STRUCTURE_SAMPLER, SamplerConfig
from helix4d.model.sampling.stages import (
    decode_structure,
    named_noise,
    sample_shape,
    sample_structure,
    sampler_from_json,
)
from helix4d.model.vae.dense_vae import DenseDecoder
from helix4d.model.vae.sc_vae import SparseDecoder, decode_shape_fields

SHARES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
"""Values of α in Table A1."""

PAPER = {0.0: 0.0181, 0.2: 0.0098, 0.4: 0.0079, 0.6: 0.0079, 0.8: 0.0079, 1.0: 0.0}
"""Table A1's CD-3D relative to the full rotary embedding, from a third party's transcript; not verified."""

_CHUNK = 1 << 26  # number of distances computed at once: 256 MB


@dataclass(frozen=True)
class StudyNetworks:
    """Networks used by the study. Without the two networks of stage 2, the points are token centers."""

    structure_flow: DenseFlow
    structure_decoder: DenseDecoder
    shape_flow: SparseFlow | None = None
    shape_decoder: SparseDecoder | None = None
    structure_sampler: SamplerConfig = STRUCTURE_SAMPLER
    shape_sampler: SamplerConfig = SHAPE_SAMPLER
    shape_statistics: LatentStatistics = SHAPE_STATISTICS

    def __post_init__(self) -> None:
        if (self.shape_flow is None) != (self.shape_decoder is None):
            raise ConfigError("shape_flow and shape_decoder must be passed together")

    @property
    def token_grid(self) -> int:
        """Tokens per side: the geometry stage's grid, or half the occupancy's if there is no geometry stage."""
        if self.shape_flow is not None:
            return self.shape_flow.config.resolution
        return self.structure_flow.config.resolution * 2 ** (len(self.structure_decoder.config.channels) - 1) // 2

    @classmethod
    def from_pipeline(cls, pipeline: Pipeline) -> StudyNetworks:
        """Build from the networks, samplers and statistics of a checkpoint, including stage 2 if it was loaded."""
        networks: dict[str, Any] = dict(pipeline.networks)
        settings = pipeline.args

        def sampler(name: str, default: SamplerConfig) -> SamplerConfig:
            return sampler_from_json(settings[name]) if name in settings else default

        normalization = settings.get("shape_slat_normalization")
        return cls(
            structure_flow=networks["sparse_structure_flow_model"],
            structure_decoder=networks["sparse_structure_decoder"],
            shape_flow=networks.get("shape_slat_flow_model_512"),
            shape_decoder=networks.get("shape_slat_decoder"),
            structure_sampler=sampler("sparse_structure_sampler", STRUCTURE_SAMPLER),
            shape_sampler=sampler("shape_slat_sampler", SHAPE_SAMPLER),
            shape_statistics=SHAPE_STATISTICS if normalization is None else LatentStatistics.from_json(normalization),
        )


@dataclass(frozen=True)
class StudyRow:
    """One row of the table: means over the objects.

    Attributes:
        share: fraction of each axis's pairs that is kept, α.
        pairs: number of pairs kept per axis.
        chamfer: chamfer distance without alignment: the sum of the mean distances in both directions, in units of the
            cube.
        overlap: intersection over union of the generated tokens.
        objects: number of objects averaged; objects with an empty output are excluded.
    """

    share: float
    pairs: int
    chamfer: float
    overlap: float
    objects: int


def study_rope(
    networks: StudyNetworks,
    cond: Tensor,
    shares: Sequence[float] = SHARES,
    seed: int = 0,
    progress: Callable[[str], None] | None = None,
) -> list[StudyRow]:
    """Generate every object for every share and compare it with the output for share 1.

    Args:
        networks: networks of any checkpoint.
        cond: [B, M, C], image tokens of B objects.
        shares: values of α.
        seed: seed of the noise, together with the object's index.
        progress: function called with a line of text before each share.
    """
    references = [_generate(networks, cond[i : i + 1], 1.0, seed, i) for i in range(len(cond))]
    rows = []
    for share in shares:
        if progress is not None:
            progress(f"share {share:g}: generating {len(cond)} objects")
        distances, overlaps = [], []
        for i, (reference_tokens, reference_points) in enumerate(references):
            tokens, points = _generate(networks, cond[i : i + 1], share, seed, i)
            if len(reference_points) and len(points):
                distances.append(chamfer_distance(points, reference_points))
                overlaps.append(_overlap(tokens, reference_tokens))
        head = networks.structure_flow.config.head_channels
        rows.append(StudyRow(share, kept_pairs(head, share), _mean(distances), _mean(overlaps), len(distances)))
    return rows


def chamfer_distance(a: Tensor, b: Tensor) -> float:
    """Return the sum of both mean nearest-neighbor distances between points [P, 3] and [Q, 3]."""
    return float(_nearest(a, b).mean()) + float(_nearest(b, a).mean())


def format_table(rows: Sequence[StudyRow], head_channels: int) -> str:
    """Format the rows as a text table next to the paper's values."""
    lines = [f"alpha  pairs of {axis_pairs(head_channels):2d}  chamfer  IoU     objects  paper's CD-3D (transcribed)"]
    for row in rows:
        paper = f"{PAPER[row.share]:.4f}" if row.share in PAPER else "-"
        lines.append(
            f"{row.share:5.2f}  {row.pairs:11d}  {row.chamfer:.4f}  {row.overlap:.4f}  {row.objects:7d}  {paper}"
        )
    return "\n".join(lines)


@torch.no_grad()
def _generate(
    networks: StudyNetworks, cond: Tensor, share: float, seed: int, index: int
) -> tuple[SparseLayout, Tensor]:
    """Generate one object: its tokens and points [P, 3] in the unit cube."""
    video = replace(BASE, kept=share)
    flow = networks.structure_flow
    shape = (1, flow.config.in_channels, *(flow.config.resolution,) * 3)
    noise = named_noise(shape, "rope study", seed, index, "structure", device=cond.device)
    with _Rotary(flow, video):
        latent = sample_structure(flow, cond, noise, networks.structure_sampler)
    layout = decode_structure(networks.structure_decoder, latent, networks.token_grid)
    if networks.shape_flow is None or networks.shape_decoder is None or len(layout) == 0:
        return layout, (layout.coords[:, 1:].float() + 0.5) / networks.token_grid
    noise = _token_noise(layout, networks.token_grid, networks.shape_flow.config.in_channels, seed, index)
    with _Rotary(networks.shape_flow, video):
        z = sample_shape(networks.shape_flow, layout, cond, noise, networks.shape_sampler, networks.shape_statistics)
    fields = networks.shape_decoder(z).fields
    scale = 2 ** (len(networks.shape_decoder.config.model_channels) - 1) * networks.token_grid
    vertices = fields.coords[:, 1:] + decode_shape_fields(fields.feats).dual_vertices
    return layout, vertices / scale


class _Rotary:
    """Context manager that temporarily replaces a network's `VideoConfig`."""

    def __init__(self, network: FlowTransformer, video: VideoConfig) -> None:
        self.network, self.video, self.original = network, video, network.video

    def __enter__(self) -> None:
        self.network.video = self.video

    def __exit__(self, *_: object) -> None:
        self.network.video = self.original


def _token_noise(layout: SparseLayout, grid: int, channels: int, seed: int, index: int) -> Tensor:
    """Draw noise for the grid_noise grid and select [L, C], so that a voxel's noise does not depend on other voxels."""
    grid_noise = named_noise((grid, grid, grid, channels), "rope study", seed, index, "shape")
    x, y, z = layout.coords[:, 1:].long().cpu().unbind(1)
    return grid_noise[x, y, z].to(layout.coords.device)


def _nearest(a: Tensor, b: Tensor) -> Tensor:
    """Return the distance from each point of a to the nearest point of b, [P]."""
    # Matrix products would round distances of equal points to more than the study's smallest values.
    exact = "donot_use_mm_for_euclid_dist"
    rows = max(_CHUNK // max(len(b), 1), 1)
    return torch.cat([torch.cdist(part, b, compute_mode=exact).amin(dim=1) for part in a.split(rows)])


def _overlap(a: SparseLayout, b: SparseLayout) -> float:
    together = torch.unique(torch.cat([a.coords, b.coords]), dim=0)
    return (len(a) + len(b) - len(together)) / len(together)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else float("nan")

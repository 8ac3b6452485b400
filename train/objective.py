"""Flow-matching loss of a microbatch of clips, as sums that are divided by the number of elements of the whole step.

Frame 0 is the clean anchor, at timestep 0 and without loss. The loss of a step is the mean over all tokens and channels
of the other frames, over all ranks and microbatches, so it does not depend on how the batch is split.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from helix4d.core import ConfigError
from helix4d.model.networks.flow import DenseFlow, FlowTransformer, SparseFlow
from helix4d.model.networks.flow_matching import noisy, velocity
from helix4d.model.networks.frames import FrameLayout
from helix4d.model.networks.sparse import SparseLayout, SparseTensor
from helix4d.train.data.dataset import TrainingClip

TIME_BINS = 10


@dataclass(frozen=True)
class Batch:
    """Clips packed into the inputs of the networks.

    Attributes:
        keys: key of each clip.
        frames: number of frames of each clip.
        clean, noise: [F, C, r, r, r] in stage 1, [L, C] in stages 2 and 3.
        voxels: tokens of the F frames; None in stage 1.
        side: [L, C'], side input of the material stage, or None.
        images: [F, 3, S, S].
        t: float32 [clips], time of each clip.
        dropped: bool [clips], whether the condition is zeroed.
    """

    keys: tuple[str, ...]
    frames: tuple[int, ...]
    clean: Tensor
    noise: Tensor
    voxels: SparseLayout | None
    side: Tensor | None
    images: Tensor
    t: Tensor
    dropped: Tensor


def collate(clips: Sequence[TrainingClip], device: torch.device) -> Batch:
    """Pack clips one after another, without padding."""
    latents = [clip.latent for clip in clips]
    voxels = None
    if all(latent.coords is not None for latent in latents):
        lengths = torch.tensor([n for latent in latents for n in latent.lengths])
        frames = torch.repeat_interleave(torch.arange(len(lengths), dtype=torch.int32), lengths)
        coords = torch.cat([latent.coords for latent in latents if latent.coords is not None])
        voxels = SparseLayout.from_coords(torch.cat([frames[:, None], coords], dim=1).to(device), len(lengths))
    sides = [latent.side for latent in latents if latent.side is not None]
    return Batch(
        keys=tuple(clip.key for clip in clips),
        frames=tuple(len(latent.lengths) for latent in latents),
        clean=torch.cat([latent.clean for latent in latents]).to(device),
        noise=torch.cat([clip.noise for clip in clips]).to(device),
        voxels=voxels,
        side=torch.cat(sides).to(device) if sides else None,
        images=torch.cat([clip.images for clip in clips]).to(device),
        t=torch.tensor([clip.t for clip in clips], dtype=torch.float32, device=device),
        dropped=torch.tensor([clip.dropped for clip in clips], device=device),
    )


def elements(clips: Sequence[TrainingClip], first_frame: bool) -> int:
    """Count the elements over which the loss of these clips is averaged."""
    count = 0
    for clip in clips:
        tokens = sum(clip.latent.lengths[1:] if first_frame else clip.latent.lengths)
        channels = clip.latent.clean.shape[1]
        count += tokens * channels
    return count


def squared_errors(network: FlowTransformer, batch: Batch, cond: Tensor, first_frame: bool) -> Tensor:
    """Compute the summed squared error of each clip, float32 [clips].

    Args:
        network: `DenseFlow` for grids or `SparseFlow` for voxels.
        batch: packed clips.
        cond: image tokens before dropout, [F, M, C'].
        first_frame: whether frame 0 is the clean anchor.
    """
    device = batch.t.device
    layout = FrameLayout(tuple((1,) * frames for frames in batch.frames))
    frame_clips = layout_clips(layout, device)
    anchors = layout.frame_numbers(device) == 0 if first_frame else torch.zeros_like(frame_clips, dtype=torch.bool)
    times = batch.t[frame_clips].masked_fill(anchors, 0)
    cond = cond.masked_fill(batch.dropped[frame_clips][:, None, None], 0)
    if isinstance(network, DenseFlow):
        rows = torch.arange(layout.frames, device=device)
        x = _noisy(batch, times, anchors, rows)
        predicted = network(x, 1000 * times, cond, clips=batch.frames)
    elif isinstance(network, SparseFlow) and batch.voxels is not None:
        rows = batch.voxels.coords[:, 0].long()
        packed = SparseTensor(_noisy(batch, times, anchors, rows), batch.voxels)
        predicted = network(packed, 1000 * times, cond, clips=batch.frames, side=batch.side).feats
    else:
        raise ConfigError(
            f"{type(network).__name__} cannot train on a batch {'without' if batch.voxels is None else 'with'} voxels"
        )
    error = (predicted.float() - velocity(batch.clean, batch.noise)).square().flatten(1).sum(1)
    error = error.masked_fill(anchors[rows], 0)
    return error.new_zeros(len(batch.frames)).index_add(0, frame_clips[rows], error)


def time_bins(t: Tensor) -> Tensor:
    """Return the index of the tenth of [0, 1] that contains each t, int64 [clips]."""
    return (t * TIME_BINS).long().clamp(0, TIME_BINS - 1)


def layout_clips(layout: FrameLayout, device: torch.device) -> Tensor:
    """Return the clip of each frame, int64 [F]."""
    numbers = [clip for clip, _, _, _ in layout.numbered()]
    return torch.tensor(numbers, dtype=torch.int64, device=device)


def _noisy(batch: Batch, times: Tensor, anchors: Tensor, rows: Tensor) -> Tensor:
    """Compute x_t of each row (a grid or a token) of frame `rows`. Anchors are exactly clean."""
    shape = (-1, *[1] * (batch.clean.ndim - 1))
    moved = noisy(batch.clean, batch.noise, times[rows].view(shape))
    return torch.where(anchors[rows].view(shape), batch.clean, moved)

"""Flow-matching loss of a microbatch of clips, as sums that are divided by the number of elements of the whole step.

Frame 0 is the clean anchor, at timestep 0 and without loss. A clip of one frame has no anchor: its frame is noisy and
has a loss, as in TRELLIS.2's training. The loss of a step is the mean over all tokens and channels of the
frames with a loss, over all ranks and microbatches, so it does not depend on how the batch is split.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from helix4d.core import ConfigError
from helix4d.model.device import upload
from helix4d.model.networks.flow import DenseFlow, FlowTransformer, SparseFlow
from helix4d.model.networks.flow_matching import noisy, velocity
from helix4d.model.networks.frames import FrameLayout
from helix4d.model.networks.sparse import SparseTensor
from helix4d.train.data.batch import Batch
from helix4d.train.data.dataset import TrainingClip

TIME_BINS = 10


def elements(clips: Sequence[TrainingClip], first_frame: bool) -> int:
    """Count the elements over which the loss of these clips is averaged."""
    count = 0
    for clip in clips:
        lengths = clip.latent.lengths
        tokens = sum(lengths[1:] if first_frame and len(lengths) > 1 else lengths)
        channels = clip.latent.clean.shape[1]
        count += tokens * channels
    return count


def squared_errors(network: FlowTransformer, batch: Batch, cond: Tensor, first_frame: bool) -> Tensor:
    """Compute the summed squared error of each clip, float32 [clips].

    Args:
        network: `DenseFlow` for grids or `SparseFlow` for voxels.
        batch: packed clips.
        cond: image tokens before dropout, [F, M, C'].
        first_frame: whether frame 0 is the clean anchor, in clips of several frames.
    """
    device = batch.t.device
    layout = FrameLayout(tuple((1,) * frames for frames in batch.frames))
    frame_clips = layout_clips(layout, device)
    anchored = upload([first_frame and frames > 1 for frames in batch.frames], torch.bool, device)
    anchors = anchored[frame_clips] & (layout.frame_numbers(device) == 0)
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
    return upload([clip for clip, _, _, _ in layout.numbered()], torch.int64, device)


def _noisy(batch: Batch, times: Tensor, anchors: Tensor, rows: Tensor) -> Tensor:
    """Compute x_t of each row (a grid or a token) of frame `rows`. Anchors are exactly clean."""
    shape = (-1, *[1] * (batch.clean.ndim - 1))
    moved = noisy(batch.clean, batch.noise, times[rows].view(shape))
    return torch.where(anchors[rows].view(shape), batch.clean, moved)

"""Layout of a batch of videos in one packed sequence of tokens, and which frames attend to which.

Tokens are packed clip by clip and frame by frame, without padding; a frame may have any number of tokens, even zero.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from helix4d.core import ConfigError
from helix4d.model.device import upload
from helix4d.model.networks.config import AnchorQueries, AttentionPattern, VideoConfig


@dataclass(frozen=True)
class FrameLayout:
    """Number of tokens of each frame of each clip.

    Attributes:
        lengths: `lengths[clip][frame]`, number of tokens.
        first_frame: number of the first frame in the layout: 1 if the anchor is in a cache, else 0.
    """

    lengths: tuple[tuple[int, ...], ...]
    first_frame: int = 0

    @classmethod
    def from_frames(cls, lengths: Sequence[int], clips: Sequence[int], first_frame: int = 0) -> FrameLayout:
        """Build from the lengths of all frames, clip by clip, and the number of frames of each clip."""
        if sum(clips) != len(lengths):
            raise ConfigError(f"clips {list(clips)} have {sum(clips)} frames in total, but {len(lengths)} were passed")
        rest = iter(lengths)
        return cls(tuple(tuple(next(rest) for _ in range(count)) for count in clips), first_frame)

    @cached_property
    def frames(self) -> int:
        """Total number of frames, F."""
        return sum(len(clip) for clip in self.lengths)

    @cached_property
    def offsets(self) -> tuple[int, ...]:
        """F + 1 offsets: frame f of the packed sequence has the tokens `offsets[f]:offsets[f + 1]`."""
        offsets = [0]
        for clip in self.lengths:
            for count in clip:
                offsets.append(offsets[-1] + count)
        return tuple(offsets)

    @property
    def tokens(self) -> int:
        """Total number of tokens, L."""
        return self.offsets[-1]

    def numbered(self) -> Iterator[tuple[int, int, int, int]]:
        """Yield (clip, frame number, first token, end) of every frame in packed order."""
        row = 0
        for clip, lengths in enumerate(self.lengths):
            for number in range(self.first_frame, self.first_frame + len(lengths)):
                yield clip, number, self.offsets[row], self.offsets[row + 1]
                row += 1

    def frame_numbers(self, device: torch.device | None = None) -> Tensor:
        """Return the frame number of each frame within its clip, int64 [F]."""
        return upload([number for _, number, _, _ in self.numbered()], torch.int64, device)

    def token_frames(self, device: torch.device | None = None) -> Tensor:
        """Return the row, 0 to F − 1, of each token's frame, int64 [L]."""
        counts = upload([n for clip in self.lengths for n in clip], torch.int64, device)
        rows = torch.arange(self.frames, device=device)
        return torch.repeat_interleave(rows, counts, output_size=self.tokens)


def frame_timesteps(timesteps: Tensor, layout: FrameLayout) -> Tensor:
    """Expand one timestep per clip [clips] to one per frame [F]; frame 0, the clean anchor, has timestep 0."""
    if len(timesteps) != len(layout.lengths):
        raise ConfigError(f"{len(timesteps)} timesteps for {len(layout.lengths)} clips: expected one per clip")
    counts = upload([len(clip) for clip in layout.lengths], torch.int64, timesteps.device)
    spread = torch.repeat_interleave(timesteps, counts, output_size=layout.frames)
    return torch.where(layout.frame_numbers(timesteps.device) == 0, torch.zeros_like(spread), spread)


def sees(query: int, key: int, video: VideoConfig) -> bool:
    """Return whether tokens of frame `query` attend to tokens of frame `key` of the same clip."""
    match video.pattern:
        case AttentionPattern.FULL:
            return True
        case AttentionPattern.SPATIAL:
            return query == key
        case AttentionPattern.CAUSAL:
            return key <= query
        case AttentionPattern.WINDOW:
            return abs(query - key) <= video.window
        case AttentionPattern.WINDOW_ANCHOR:
            if query == 0 and video.anchor_queries is AnchorQueries.ITSELF:
                return key == 0
            return key == 0 or abs(query - key) <= video.window


@dataclass(frozen=True)
class Segment:
    """Queries `query[0]:query[1]`, which attend to exactly the keys in the ranges `keys`."""

    query: tuple[int, int]
    keys: tuple[tuple[int, int], ...]

    @property
    def key_tokens(self) -> int:
        """Number of keys that each query of the segment attends to."""
        return sum(end - start for start, end in self.keys)


def plan_segments(queries: FrameLayout, keys: FrameLayout, video: VideoConfig) -> tuple[Segment, ...]:
    """Express the mask as ranges, merging neighboring frames into ranges and frames with equal keys into segments.

    The two layouts differ if the anchor is cached: it is then in `keys` but not in `queries`.
    """
    segments: list[Segment] = []
    key_frames: dict[int, list[tuple[int, int, int]]] = {}
    for clip, number, start, end in keys.numbered():
        if end > start:
            key_frames.setdefault(clip, []).append((number, start, end))
    for clip, number, start, end in queries.numbered():
        if start == end:
            continue
        ranges: list[tuple[int, int]] = []
        for key_number, key_start, key_end in key_frames.get(clip, ()):
            if not sees(number, key_number, video):
                continue
            if ranges and ranges[-1][1] == key_start:
                ranges[-1] = (ranges[-1][0], key_end)
            else:
                ranges.append((key_start, key_end))
        visible = tuple(ranges)
        if segments and segments[-1].keys == visible and segments[-1].query[1] == start:
            segments[-1] = Segment((segments[-1].query[0], end), visible)
        else:
            segments.append(Segment((start, end), visible))
    return tuple(segments)


def plan_conditioning(layout: FrameLayout, tokens: int) -> tuple[Segment, ...]:
    """Plan cross-attention from each frame to the `tokens` of its own image; images are packed in frame order."""
    rows = enumerate(layout.numbered())
    return tuple(
        Segment((start, end), ((row * tokens, (row + 1) * tokens),)) for row, (_, _, start, end) in rows if end > start
    )


def dense_mask(queries: FrameLayout, keys: FrameLayout, video: VideoConfig) -> Tensor:
    """Materialize the mask, bool [L, S]: a reference for tests and small examples, not used by the networks."""
    mask = torch.zeros(queries.tokens, keys.tokens, dtype=torch.bool)
    for clip, number, start, end in queries.numbered():
        for key_clip, key_number, key_start, key_end in keys.numbered():
            if clip == key_clip:
                mask[start:end, key_start:key_end] = sees(number, key_number, video)
    return mask

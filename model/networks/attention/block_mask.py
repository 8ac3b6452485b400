"""Build FlexAttention's block-sparse mask from frame boundaries, in O(blocks²) instead of O(tokens²) time.

A block of tokens spans consecutive frames. A summed-area table over the small frame-by-frame mask counts the visible
frame pairs of each block, which classifies the block as empty, full or partial without visiting its tokens.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from helix4d.model.device import upload
from helix4d.model.networks.config import VideoConfig
from helix4d.model.networks.frames import FrameLayout, sees

BLOCK = 128


def block_mask(
    queries: FrameLayout, keys: FrameLayout, video: VideoConfig, device: torch.device, block: int = BLOCK
) -> Any:
    """Build the `torch.nn.attention.flex_attention.BlockMask` of queries [L] and keys [S]."""
    from torch.nn.attention.flex_attention import BlockMask

    visible, query_rows, key_rows = _token_rows(queries, keys, video, device)
    partial, full = classify_blocks(visible, query_rows, key_rows, block)

    def mask_mod(_batch: Tensor, _head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return visible[query_rows[query], key_rows[key]]

    partial_counts, partial_indices = _as_lists(partial)
    full_counts, full_indices = _as_lists(full)
    return BlockMask.from_kv_blocks(
        partial_counts,
        partial_indices,
        full_counts,
        full_indices,
        BLOCK_SIZE=block,
        mask_mod=mask_mod,
        seq_lengths=(queries.tokens, keys.tokens),
    )


def classify_blocks(visible: Tensor, query_rows: Tensor, key_rows: Tensor, block: int) -> tuple[Tensor, Tensor]:
    """Return which blocks are partially visible and which are fully visible: two bool [L/block, S/block].

    Args:
        visible: bool [R, R'], mask between rows (non-empty frames).
        query_rows, key_rows: int64 [L] and [S], ascending, row of each query and key.
        block: tokens per block. The last block of a sequence may be shorter and never counts as full.
    """
    table = torch.zeros(visible.shape[0] + 1, visible.shape[1] + 1, dtype=torch.int64, device=visible.device)
    table[1:, 1:] = visible.long().cumsum(0).cumsum(1)
    first_q, last_q, whole_q = _spans(query_rows, block)
    first_k, last_k, whole_k = _spans(key_rows, block)
    low_q, high_q = first_q[:, None], last_q[:, None] + 1
    low_k, high_k = first_k[None], last_k[None] + 1
    count = table[high_q, high_k] - table[low_q, high_k] - table[high_q, low_k] + table[low_q, low_k]
    area = (high_q - low_q) * (high_k - low_k)
    full = (count == area) & whole_q[:, None] & whole_k[None]
    return (count > 0) & ~full, full


def _token_rows(
    queries: FrameLayout, keys: FrameLayout, video: VideoConfig, device: torch.device
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the frame mask without empty frames, bool [R, R'], and the row of each query [L] and key [S] in it."""
    query_frames = [frame for frame in queries.numbered() if frame[3] > frame[2]]
    key_frames = [frame for frame in keys.numbered() if frame[3] > frame[2]]
    visible = upload(
        [[q[0] == k[0] and sees(q[1], k[1], video) for k in key_frames] for q in query_frames],
        torch.bool,
        device,
    ).reshape(len(query_frames), len(key_frames))
    return visible, _rows(query_frames, queries.tokens, device), _rows(key_frames, keys.tokens, device)


def _rows(frames: list[tuple[int, int, int, int]], tokens: int, device: torch.device) -> Tensor:
    counts = upload([end - start for _, _, start, end in frames], torch.int64, device)
    return torch.repeat_interleave(torch.arange(len(frames), device=device), counts, output_size=tokens)


def _spans(rows: Tensor, block: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the first and last row of each block of tokens, int64 [blocks], and whether the block is complete."""
    starts = torch.arange(0, len(rows), block, device=rows.device)
    ends = (starts + block).clamp(max=len(rows))
    return rows[starts], rows[ends - 1], ends - starts == block


def _as_lists(blocks: Tensor) -> tuple[Tensor, Tensor]:
    """Convert bool [Q, K] to counts int32 [1, 1, Q] and column indices, true columns first, int32 [1, 1, Q, K]."""
    order = torch.argsort(blocks.int(), dim=1, descending=True, stable=True)
    return blocks.sum(1, dtype=torch.int32)[None, None], order.to(torch.int32)[None, None].contiguous()

"""Attention that reads its keys in place equals the dense masked reference: its plan, and its kernels with Triton."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from helix4d.model.networks.attention.window_attention import plan_window
from helix4d.model.networks.config import AnchorQueries, AttentionPattern, VideoConfig
from helix4d.model.networks.frames import FrameLayout, dense_mask, plan_segments
from tests.triton_interpreter import needs_triton, run_interpreted

clips = st.lists(st.lists(st.sampled_from([0, 1, 5, 40, 300]), min_size=1, max_size=7), min_size=1, max_size=2)
videos = st.builds(
    VideoConfig,
    pattern=st.sampled_from(AttentionPattern),
    window=st.integers(0, 3),
    anchor_queries=st.sampled_from(AnchorQueries),
)


def layouts(lengths: list[list[int]], video: VideoConfig, cached: bool) -> tuple[FrameLayout, FrameLayout]:
    """Layouts of queries and keys; frame 0 is only among the keys if it is cached."""
    keys = FrameLayout(tuple(map(tuple, lengths)))
    if not (cached and video.anchor_sees_only_itself):
        return keys, keys
    return FrameLayout(tuple(tuple(clip[1:]) for clip in lengths), first_frame=1), keys


def anchor_rows(keys: FrameLayout) -> Tensor:
    """bool [S]: which keys are in the cache."""
    rows = torch.zeros(keys.tokens, dtype=torch.bool)
    for _, number, start, end in keys.numbered():
        rows[start:end] = number == 0
    return rows


def seen(tiles: Tensor, tokens: int, first: int, second: int) -> tuple[Tensor, Tensor]:
    """The tiles written out: bool [tokens, first] for the ranges `a` and [tokens, second] for `b`."""
    a, b = torch.zeros(tokens, first, dtype=torch.bool), torch.zeros(tokens, second, dtype=torch.bool)
    covered = torch.zeros(tokens, dtype=torch.int64)
    for start, end, a0, a1, b0, b1 in tiles.tolist():
        covered[start:end] += 1
        a[start:end, a0:a1] = True
        b[start:end, b0:b1] = True
    assert bool((covered == 1).all()), "each token is in exactly one tile"
    return a, b


@settings(max_examples=150, deadline=None)
@given(clips, videos, st.booleans())
def test_tiles_are_the_mask_and_its_transpose(lengths: list[list[int]], video: VideoConfig, cached: bool) -> None:
    queries, keys = layouts(lengths, video, cached)
    mask = dense_mask(queries, keys, video)
    plan = plan_window(plan_segments(queries, keys, video), queries, keys, torch.device("cpu"))
    if queries is keys:
        for tiles in (plan.forward, plan.query):
            a, b = seen(tiles, queries.tokens, keys.tokens, keys.tokens)
            assert not bool((a & b).any())
            assert torch.equal(a | b, mask)
        a, b = seen(plan.own, keys.tokens, queries.tokens, queries.tokens)
        assert torch.equal(a | b, mask.T)
        assert len(plan.cached) == 0
        return
    cache = anchor_rows(keys)
    for tiles in (plan.forward, plan.query):
        a, b = seen(tiles, queries.tokens, int(cache.sum()), queries.tokens)
        assert torch.equal(a, mask[:, cache])
        assert torch.equal(b, mask[:, ~cache])
    a, b = seen(plan.own, queries.tokens, queries.tokens, queries.tokens)
    assert torch.equal(a | b, mask[:, ~cache].T)
    a, b = seen(plan.cached, int(cache.sum()), queries.tokens, queries.tokens)
    assert torch.equal(a | b, mask[:, cache].T)


@pytest.mark.slow
@needs_triton
def test_kernels_equal_the_reference_in_tritons_interpreter() -> None:
    """float32 and bfloat16, gradients too; in a separate process, because the interpreter is chosen at import."""
    run_interpreted("tests.model.interpret_window_attention")

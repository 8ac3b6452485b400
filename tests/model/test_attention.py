"""Cross-frame attention equals masked dense attention for every pattern, layout and backend."""

from __future__ import annotations

from unittest import mock

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from helix4d.core import ConfigError
from helix4d.model.networks.attention.block_mask import _token_rows, block_mask, classify_blocks
from helix4d.model.networks.attention.plan import (
    AttentionBackend,
    per_frame_attend,
    plan_cross_attention,
    plan_self_attention,
)
from helix4d.model.networks.config import AnchorQueries, AttentionPattern, VideoConfig
from helix4d.model.networks.frames import FrameLayout, dense_mask, frame_timesteps, plan_segments, sees

lengths = st.lists(st.lists(st.integers(0, 6), min_size=1, max_size=7), min_size=1, max_size=2)
videos = st.builds(
    VideoConfig,
    pattern=st.sampled_from(AttentionPattern),
    window=st.integers(0, 3),
    anchor_queries=st.sampled_from(AnchorQueries),
)


@st.composite
def layouts(draw: st.DrawFn) -> tuple[FrameLayout, FrameLayout, VideoConfig]:
    """Layouts of queries (at least one token) and keys, and a pattern; the anchor may be cached."""
    clips, video = draw(lengths), draw(videos)
    keys = queries = FrameLayout(tuple(tuple(clip) for clip in clips))
    if draw(st.booleans()) and video.anchor_sees_only_itself:
        queries = FrameLayout(tuple(tuple(clip[1:]) for clip in clips), first_frame=1)
    assume(queries.tokens > 0)
    return queries, keys, video


def _dense(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    """Straightforward softmax(q kᵀ / √d + mask) v: [L, H, d]."""
    logits = torch.einsum("lhd,shd->hls", q, k) / q.shape[-1] ** 0.5
    weights = logits.masked_fill(~mask, float("-inf")).softmax(-1)
    return torch.einsum("hls,shd->lhd", weights, v)


def _tensors(queries: int, keys: int, seed: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    sizes = (queries, keys, keys, queries)
    q, k, v, up = (torch.randn(n, 2, 8, generator=generator) for n in sizes)
    return q.requires_grad_(), k.requires_grad_(), v.requires_grad_(), up


@settings(max_examples=150, deadline=None)
@given(layouts(), st.integers(0, 1000))
def test_attention_equals_the_dense_masked_reference(case, seed):
    queries, keys, video = case
    q, k, v, up = _tensors(queries.tokens, keys.tokens, seed)
    mask = dense_mask(queries, keys, video)
    visible = mask.any(1)  # every query attends at least to its own frame
    assert bool(visible.all())
    plan = plan_self_attention(queries, keys, video, AttentionBackend.PER_FRAME)
    expected, actual = _dense(q, k, v, mask), plan.attend(q, k, v)
    torch.testing.assert_close(actual, expected, atol=1e-5, rtol=1e-5)
    expected_gradients = torch.autograd.grad(expected, (q, k, v), up)
    actual_gradients = torch.autograd.grad(actual, (q, k, v), up)
    for a, b in zip(actual_gradients, expected_gradients, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)


@settings(max_examples=15, deadline=None)
@given(layouts(), st.integers(0, 1000))
def test_flex_attention_with_our_block_mask_equals_the_dense_masked_reference(case, seed):
    """Runs FlexAttention eagerly (forward only on a CPU), with the block mask and formula that CUDA compiles."""
    queries, keys, video = case
    q, k, v = (x.detach() for x in _tensors(queries.tokens, keys.tokens, seed)[:3])
    expected = _dense(q, k, v, dense_mask(queries, keys, video))
    actual = plan_self_attention(queries, keys, video, AttentionBackend.FLEX).attend(q, k, v)
    torch.testing.assert_close(actual, expected, atol=1e-5, rtol=1e-5)


@settings(max_examples=200, deadline=None)
@given(layouts(), st.integers(1, 5))
def test_block_classification_matches_the_dense_mask(case, block):
    queries, keys, video = case
    mask = dense_mask(queries, keys, video)
    visible, query_rows, key_rows = _token_rows(queries, keys, video, torch.device("cpu"))
    assert torch.equal(visible[query_rows][:, key_rows], mask)
    partial, full = classify_blocks(visible, query_rows, key_rows, block)
    for i in range(partial.shape[0]):
        for j in range(partial.shape[1]):
            tile = mask[i * block : (i + 1) * block, j * block : (j + 1) * block]
            whole = tile.shape == (block, block)
            assert bool(full[i, j]) == (whole and bool(tile.all()))
            assert bool(partial[i, j]) == (bool(tile.any()) and not bool(full[i, j]))


def test_block_mask_lists_each_block_once():
    layout = FrameLayout(((300, 40, 0, 200, 500),))
    mask = block_mask(layout, layout, VideoConfig(window=1), torch.device("cpu"))
    dense = dense_mask(layout, layout, VideoConfig(window=1))
    blocks = mask.to_dense()[0, 0].bool()
    for i in range(blocks.shape[0]):
        for j in range(blocks.shape[1]):
            tile = dense[128 * i : 128 * (i + 1), 128 * j : 128 * (j + 1)]
            assert bool(blocks[i, j]) == bool(tile.any())


def _varlen_reference(q, k, v, cu_queries, cu_keys, max_queries, max_keys):
    """Reference for `torch.nn.attention.varlen.varlen_attn`, which has no CPU kernel."""
    parts = []
    for i in range(len(cu_queries) - 1):
        a, b, c, d = cu_queries[i], cu_queries[i + 1], cu_keys[i], cu_keys[i + 1]
        assert b - a <= max_queries
        assert d - c <= max_keys
        parts.append(_dense(q[a:b], k[c:d], v[c:d], torch.ones(b - a, d - c, dtype=torch.bool)))
    return torch.cat(parts)


@settings(max_examples=50, deadline=None)
@given(layouts(), st.integers(0, 1000))
def test_varlen_gathers_the_right_keys(case, seed):
    queries, keys, video = case
    q, k, v, up = _tensors(queries.tokens, keys.tokens, seed)
    plan = plan_self_attention(queries, keys, video, AttentionBackend.VARLEN)
    with mock.patch("torch.nn.attention.varlen.varlen_attn", _varlen_reference):
        actual = plan.attend(q, k, v)
    expected = _dense(q, k, v, dense_mask(queries, keys, video))
    torch.testing.assert_close(actual, expected, atol=1e-5, rtol=1e-5)
    expected_gradients = torch.autograd.grad(expected, (q, k, v), up)
    for a, b in zip(torch.autograd.grad(actual, (q, k, v), up), expected_gradients, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)


def test_number_of_visible_frames_of_each_pattern():
    frames = range(16)

    def pairs(**settings) -> int:
        video = VideoConfig(**settings)
        return sum(sees(q, k, video) for q in frames for k in frames)

    ours = pairs()
    counts = {pattern: pairs(pattern=pattern) / ours for pattern in AttentionPattern}
    assert ours == 85
    assert counts[AttentionPattern.FULL] == pytest.approx(3.0, abs=0.02)
    assert counts[AttentionPattern.CAUSAL] == pytest.approx(1.6, abs=0.02)
    assert counts[AttentionPattern.WINDOW] == pytest.approx(0.87, abs=0.01)
    assert counts[AttentionPattern.SPATIAL] == pytest.approx(0.19, abs=0.01)
    assert pairs(anchor_queries=AnchorQueries.PAPER_LITERAL) == 87


def test_mask_matches_the_papers_equation():
    literal = VideoConfig(window=2, anchor_queries=AnchorQueries.PAPER_LITERAL)
    for q in range(20):
        for k in range(20):
            assert sees(q, k, literal) == (abs(q - k) <= 2 or k == 0)


def test_neighboring_frames_are_merged_into_one_range():
    layout = FrameLayout(((4, 5, 6, 7, 8, 9),))
    segments = plan_segments(layout, layout, VideoConfig(window=1))
    assert segments[1].keys == ((0, 15),)  # frames 0, 1, 2 are one view
    assert segments[4].keys == ((0, 4), (15, 39))  # the anchor is separate from frames 3, 4, 5
    full = plan_segments(layout, layout, VideoConfig(pattern=AttentionPattern.FULL))
    assert len(full) == 1


def test_cross_attention_sees_only_the_image_of_the_frame():
    layout = FrameLayout(((3, 0, 2), (1,)))
    q, k, v, _ = _tensors(layout.tokens, 4 * 5, 0)
    mask = torch.zeros(layout.tokens, 20, dtype=torch.bool)
    for row, frame in enumerate(layout.token_frames().tolist()):
        mask[row, 5 * frame : 5 * frame + 5] = True
    actual = plan_cross_attention(layout, 5).attend(q, k, v)
    torch.testing.assert_close(actual, _dense(q, k, v, mask), atol=1e-5, rtol=1e-5)


def test_attention_without_tokens():
    empty = torch.zeros(0, 2, 8)
    assert per_frame_attend(empty, empty, empty, ()).shape == (0, 2, 8)


def test_frame_zero_has_timestep_zero():
    layout = FrameLayout(((3, 2, 2), (1, 4)))
    assert frame_timesteps(torch.tensor([500.0, 700.0]), layout).tolist() == [0, 500, 500, 0, 700]
    later = FrameLayout(((2, 2),), first_frame=1)
    assert frame_timesteps(torch.tensor([500.0]), later).tolist() == [500, 500]
    with pytest.raises(ConfigError, match="3 timesteps for 2 clips"):
        frame_timesteps(torch.zeros(3), layout)


def test_clip_lengths_must_match_the_number_of_frames():
    with pytest.raises(ConfigError, match="5 frames in total, but 4 were passed"):
        FrameLayout.from_frames([1, 2, 3, 4], (2, 3))


@pytest.mark.gpu
@pytest.mark.parametrize("backend", [b for b in AttentionBackend if b is not AttentionBackend.AUTO])
@pytest.mark.parametrize("pattern", list(AttentionPattern))
def test_gpu_backends_equal_the_dense_masked_reference(backend, pattern):
    video, layout = VideoConfig(pattern=pattern), FrameLayout(((300, 170, 0, 421, 64, 33), (90, 250)))
    generator = torch.Generator("cuda").manual_seed(0)
    q, k, v, up = (torch.randn(layout.tokens, 2, 128, device="cuda", generator=generator) for _ in range(4))
    exact = [x.clone().requires_grad_() for x in (q, k, v)]
    expected = _dense(*exact, dense_mask(layout, layout, video).cuda())
    half = [x.bfloat16().requires_grad_() for x in (q, k, v)]
    actual = plan_self_attention(layout, layout, video, backend).attend(*half)
    torch.testing.assert_close(actual.float(), expected, atol=3e-2, rtol=3e-2)
    expected_gradients = torch.autograd.grad(expected, exact, up)
    for a, b in zip(torch.autograd.grad(actual, half, up.bfloat16()), expected_gradients, strict=True):
        torch.testing.assert_close(a.float(), b, atol=6e-2, rtol=6e-2)

"""Compare the window kernels with the dense masked reference; run with TRITON_INTERPRET=1."""

from __future__ import annotations

import random

import torch
from torch import Tensor

from helix4d.model.networks import window_attention
from helix4d.model.networks.config import AnchorQueries, AttentionPattern, VideoConfig
from helix4d.model.networks.frames import FrameLayout, dense_mask, plan_segments
from helix4d.model.networks.window_attention import Tiling, plan_window, window_attend
from tests.model.test_window_attention import anchor_rows, layouts
from tests.triton_interpreter import patch_scalars

CASES = 24


def reference(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    """softmax(q kᵀ / √d + mask) v in the plainest way: [L, H, d]."""
    logits = torch.einsum("lhd,shd->hls", q, k) / q.shape[-1] ** 0.5
    return torch.einsum("hls,shd->lhd", logits.masked_fill(~mask, float("-inf")).softmax(-1), v)


def check(case: int) -> None:
    """One random layout, pattern and head size: output and all gradients within 1e-5."""
    draw = random.Random(case)
    lengths = [[draw.choice([0, 1, 5, 16, 17, 33, 40]) for _ in range(draw.randint(1, 6))] for _ in range(2)]
    video = VideoConfig(
        pattern=draw.choice(list(AttentionPattern)),
        window=draw.randint(0, 3),
        anchor_queries=draw.choice(list(AnchorQueries)),
    )
    queries, keys = layouts(lengths, video, cached=draw.random() < 0.5)
    if queries.tokens == 0:
        return
    size, generator = draw.choice([8, 16, 24]), torch.Generator().manual_seed(case)
    q, k, v, up = (
        torch.randn(layout.tokens, 2, size, generator=generator) for layout in (queries, keys, keys, queries)
    )
    exact = [x.clone().requires_grad_() for x in (q, k, v)]
    expected = reference(*exact, dense_mask(queries, keys, video))
    q_grad, k_grad, v_grad = torch.autograd.grad(expected, exact, up)
    plan = plan_window(plan_segments(queries, keys, video), queries, keys, torch.device("cpu"))
    if queries is keys:
        inputs, wanted = [q, k, v], [q_grad, k_grad, v_grad]
    else:
        cache = anchor_rows(keys)
        inputs = [q, k[~cache], v[~cache], k[cache], v[cache]]
        wanted = [q_grad, k_grad[~cache], v_grad[~cache], k_grad[cache], v_grad[cache]]
    inputs = [x.requires_grad_() for x in inputs]
    out = window_attend(inputs[0], inputs[1], inputs[2], plan, (inputs[3], inputs[4]) if len(inputs) == 5 else None)
    torch.testing.assert_close(out, expected, atol=1e-5, rtol=1e-5)
    for found, gradient in zip(torch.autograd.grad(out, inputs, up), wanted, strict=True):
        torch.testing.assert_close(found, gradient, atol=1e-5, rtol=1e-5)


if __name__ == "__main__":
    patch_scalars()
    # Small tiles, so that small layouts have whole tiles and partial ones.
    small = Tiling(tall=16, step=16, warps=4, stages=2)
    window_attention.FORWARD = window_attention.QUERY_GRADIENT = window_attention.KEY_GRADIENT = small
    layout = FrameLayout(((1,),))
    assert len(plan_window(plan_segments(layout, layout, VideoConfig()), layout, layout, torch.device("cpu")).own) == 1
    for number in range(CASES):
        check(number)

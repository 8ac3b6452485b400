"""Compare the window kernels with the dense masked reference; run with TRITON_INTERPRET=1."""

from __future__ import annotations

import random

import torch
from torch import Tensor

from helix4d.model.networks.attention import window_attention
from helix4d.model.networks.attention.window_attention import Tiling, Tilings, plan_window, window_attend
from helix4d.model.networks.config import AnchorQueries, AttentionPattern, VideoConfig
from helix4d.model.networks.frames import FrameLayout, dense_mask, plan_segments
from tests.model.test_window_attention import anchor_rows, layouts
from tests.triton_bfloat16 import patch_bfloat16
from tests.triton_interpreter import patch_scalars

CASES = 20
# Absolute and relative error allowed: half a unit in the last place of a bfloat16 is 2^-9, the rounding of the result.
BOUNDS = {torch.float32: (1e-5, 1e-5), torch.bfloat16: (1e-3, 2**-9)}
SPREAD = {torch.float32: 1.0, torch.bfloat16: 0.125}
"""Standard deviation of values and of the gradient of the output."""


def reference(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    """softmax(q kᵀ / √d + mask) v in the plainest way: [L, H, d]."""
    logits = torch.einsum("lhd,shd->hls", q, k) / q.shape[-1] ** 0.5
    return torch.einsum("hls,shd->lhd", logits.masked_fill(~mask, float("-inf")).softmax(-1), v)


def check(case: int, dtype: torch.dtype) -> None:
    """One random layout, pattern and head size: output and all gradients against the reference in float64."""
    draw = random.Random(case)
    lengths = [[draw.choice([0, 1, 5, 16, 17, 33]) for _ in range(frames)] for frames in (draw.randint(2, 4), 1)]
    video = VideoConfig(
        pattern=list(AttentionPattern)[case % 5],
        window=draw.randint(0, 3),
        anchor_queries=draw.choice(list(AnchorQueries)),
    )
    queries, keys = layouts(lengths, video, cached=case < CASES // 2)
    if queries.tokens == 0:
        return
    size, generator = draw.choice([8, 16, 24]), torch.Generator().manual_seed(case)
    q, k, v, up = (
        (spread * torch.randn(layout.tokens, 2, size, generator=generator)).to(dtype)
        for layout, spread in ((queries, 1.0), (keys, 1.0), (keys, SPREAD[dtype]), (queries, SPREAD[dtype]))
    )
    exact = [x.double().requires_grad_() for x in (q, k, v)]
    expected = reference(*exact, dense_mask(queries, keys, video))
    q_grad, k_grad, v_grad = torch.autograd.grad(expected, exact, up.double())
    plan = plan_window(plan_segments(queries, keys, video), queries, keys, torch.device("cpu"))
    if queries is keys:
        inputs, wanted = [q, k, v], [q_grad, k_grad, v_grad]
    else:
        cache = anchor_rows(keys)
        inputs = [q, k[~cache], v[~cache], k[cache], v[cache]]
        wanted = [q_grad, k_grad[~cache], v_grad[~cache], k_grad[cache], v_grad[cache]]
    inputs = [x.requires_grad_() for x in inputs]
    out = window_attend(inputs[0], inputs[1], inputs[2], plan, (inputs[3], inputs[4]) if len(inputs) == 5 else None)
    atol, rtol = BOUNDS[dtype]
    found = [out, *torch.autograd.grad(out, inputs, up)]
    for one, other in zip(found, [expected, *wanted], strict=True):
        assert one.dtype == dtype
        torch.testing.assert_close(one.double(), other, atol=atol, rtol=rtol)


if __name__ == "__main__":
    patch_scalars()
    patch_bfloat16()
    # Small tiles, so that small layouts have whole tiles and partial ones.
    small = Tiling(tall=16, step=16, warps=4, stages=2)
    window_attention.AMPERE = Tilings(small, small, small)
    layout = FrameLayout(((1,),))
    assert len(plan_window(plan_segments(layout, layout, VideoConfig()), layout, layout, torch.device("cpu")).own) == 1
    for number in range(CASES):
        check(number, torch.float32 if number % 2 else torch.bfloat16)

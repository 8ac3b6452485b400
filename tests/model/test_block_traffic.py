"""The counter of operations and bytes of a block agrees with counts by hand."""

from __future__ import annotations

import pytest

from benchmarks.block_traffic import CONFIG, Costs, count
from helix4d.model.networks.attention.plan import plan_self_attention
from helix4d.model.networks.config import VideoConfig
from helix4d.model.networks.frames import FrameLayout

FRAMES, TOKENS, IMAGES = 16, 8192, 1029


def test_counts_of_a_full_size_block() -> None:
    before, after = (count(FRAMES, TOKENS, kernels) for kernels in (False, True))
    tokens, width = FRAMES * TOKENS, CONFIG.model_channels
    whole, image = 2.0 * tokens * width, 2.0 * FRAMES * IMAGES * width  # bytes of one tensor of tokens, of image tokens
    read_and_written = {
        "norm1, norm3 and modulation": 2 * 2 * whole,
        "norm2": 2 * whole,
        "norm and rotary": 3 * 2 * whole + 2 * image,
        "self-attention": 4 * whole,
        "residuals": 3 * 3 * whole,
        "mlp: GELU": 2 * 2.0 * tokens * CONFIG.mlp_channels,
    }
    for part, expected in read_and_written.items():
        assert after[part, "forward"].bytes == pytest.approx(expected, rel=0.06), part
    gradients = {"norm2": 3 * whole + 3 * whole, "norm and rotary": 3 * 3 * whole, "self-attention": 8 * whole}
    for part, expected in gradients.items():
        assert after[part, "backward"].bytes == pytest.approx(expected, rel=0.06), part
    layout = FrameLayout(((TOKENS,) * FRAMES,))
    pairs = sum(
        (s.query[1] - s.query[0]) * s.key_tokens for s in plan_self_attention(layout, layout, VideoConfig()).segments
    )
    for costs, products in ((before, 5), (after, 7)):
        assert costs["qkv", "forward"].flops == 2.0 * tokens * 3 * width**2
        assert costs["mlp: linear", "backward"].flops == costs["mlp: linear", "forward"].flops  # frozen: inputs only
        assert costs["out", "backward"].flops == 2 * costs["out", "forward"].flops
        assert costs["self-attention", "forward"].flops == 2 * 2.0 * pairs * width
        assert costs["self-attention", "backward"].flops == products * 2.0 * pairs * width

    def total(costs: Costs, direction: str) -> float:
        return sum(cost.bytes for (_, way), cost in costs.items() if way == direction)

    assert total(before, "forward") == pytest.approx(104.8e9, rel=0.01)  # docs/performance.md
    assert total(after, "forward") == pytest.approx(25.1e9, rel=0.01)
    assert total(before, "backward") == pytest.approx(190.3e9, rel=0.01)
    assert total(after, "backward") == pytest.approx(39.8e9, rel=0.01)

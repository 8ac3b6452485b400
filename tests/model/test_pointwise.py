"""The pointwise parts of a block: tables of tiles, plain versions against formulas, kernels against plain versions."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from helix4d.model.networks.frames import FrameLayout
from helix4d.model.networks.pointwise import functions as pointwise
from helix4d.model.networks.pointwise.functions import TokenFrames
from helix4d.model.networks.pointwise.ops import TILE
from tests.triton_interpreter import needs_triton, run_interpreted

CPU = torch.device("cpu")
lengths = st.lists(st.lists(st.sampled_from([0, 1, 15, 16, 17, 40]), min_size=1, max_size=5), min_size=1, max_size=2)


@settings(max_examples=100, deadline=None)
@given(lengths)
def test_tiles_cover_each_token_once_and_stay_within_a_frame(lengths: list[list[int]]) -> None:
    layout = FrameLayout(tuple(map(tuple, lengths)))
    frames = TokenFrames.from_layout(layout, CPU)
    rows = torch.full((layout.tokens,), -1)
    for first, end, frame in frames.tiles.tolist():
        assert 0 < end - first <= TILE
        assert bool((rows[first:end] == -1).all())
        rows[first:end] = frame
    assert torch.equal(rows, frames.rows)
    assert torch.equal(torch.bincount(frames.tiles[:, 2], minlength=layout.frames), frames.counts)


def test_plain_versions_equal_their_formulas() -> None:
    frames = TokenFrames.from_layout(FrameLayout(((3, 0, 2),)), CPU)
    generator = torch.Generator().manual_seed(0)
    x, h, table = (torch.randn(n, 8, dtype=torch.float64, generator=generator) for n in (5, 5, 3))
    normal = (x - x.mean(1, keepdim=True)) / (x.var(1, keepdim=True, correction=0) + 1e-6).sqrt()
    own = table[torch.tensor([0, 0, 0, 2, 2])]
    found = pointwise.modulated_norm(x, table, -table, frames, 1e-6)
    torch.testing.assert_close(found, normal * (1 + own) - own)
    torch.testing.assert_close(pointwise.affine_norm(x, table[1], table[2], frames, 1e-6), normal * table[1] + table[2])
    torch.testing.assert_close(pointwise.gated_residual(x, h, table, frames), x + h * own)
    heads, gamma = x.unflatten(1, (2, 4)), table[:2, :4]
    expected = heads / heads.norm(dim=-1, keepdim=True) * gamma * 2
    torch.testing.assert_close(pointwise.rms_norm_rotary(heads, gamma), expected)
    quarter = (torch.zeros(5, 2, dtype=torch.float64), torch.ones(5, 2, dtype=torch.float64))
    turned = torch.stack([-expected[..., 1::2], expected[..., ::2]], dim=-1).flatten(-2)
    torch.testing.assert_close(pointwise.rms_norm_rotary(heads, gamma, quarter), turned)


@pytest.mark.slow
@needs_triton
def test_kernels_equal_plain_versions_in_tritons_interpreter() -> None:
    """Results and gradients, also those of a compiled block with checkpointing."""
    assert run_interpreted("tests.model.interpret_pointwise") == "equal\n"


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_gpu_kernels_equal_plain_versions(dtype: torch.dtype) -> None:
    """The checks of the interpreter at the full width, on the GPU."""
    from tests.model.interpret_pointwise import compare

    device = torch.device("cuda")
    layout = FrameLayout(((300, 0, 17), (1, 90)))
    frames = TokenFrames.from_layout(layout, device)
    generator = torch.Generator(device).manual_seed(0)
    x, h, up = (torch.randn(layout.tokens, 1536, generator=generator, device=device).to(dtype) for _ in range(3))
    table = torch.randn(layout.frames, 1536, generator=generator, device=device)
    qkv = torch.randn(layout.tokens, 3 * 1536, generator=generator, device=device).to(dtype)
    angles = 20 * torch.randn(layout.tokens, 64, generator=generator, device=device)
    compare(lambda x, y: pointwise.modulated_norm(x, y, y, frames, 1e-6), (x, table), up, dtype)
    compare(lambda x, y: pointwise.affine_norm(x, y, y, frames, 1e-6), (x, table[0]), up, dtype)
    compare(lambda x, h, y: pointwise.gated_residual(x, h, y, frames), (x, h, table), up, dtype)
    for rotary in (None, (angles.cos(), angles.sin())):
        compare(
            lambda x, gamma: pointwise.rms_norm_rotary(x.unflatten(1, (3, 12, 128))[:, 1], gamma, rotary),  # noqa: B023
            (qkv, torch.randn(12, 128, generator=generator, device=device)),
            up.unflatten(1, (12, 128)),
            dtype,
        )

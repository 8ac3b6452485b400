"""Properties of the 4D rotary embedding: relative, unchanged spatial part, one coordinate per pair."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from helix4d.core import ConfigError
from helix4d.model.networks.config import BASE, TemporalRotary, VideoConfig
from helix4d.model.networks.rope import (
    apply_rotary,
    axis_pairs,
    dense_coordinates,
    freed_pairs,
    kept_pairs,
    require_pairs_for_time,
    rotary_angles,
)

HEAD = 128


def _angles(coords, frames, video, head=HEAD, resolution=32):
    return rotary_angles(torch.tensor(coords), torch.tensor(frames), head, resolution, video)


def test_layout_at_full_size():
    assert axis_pairs(HEAD) == 21
    assert kept_pairs(HEAD, 0.75) == 16
    freed = [*range(16, 21), *range(37, 42), *range(58, 63), 63]
    assert freed_pairs(HEAD, 0.75) == freed
    assert freed_pairs(HEAD, 1.0) == [63]
    assert [kept_pairs(HEAD, a) for a in (0, 0.2, 0.4, 0.6, 0.8, 1)] == [0, 4, 8, 13, 17, 21]


def test_angles_match_the_formula():
    video, (x, y, z), frame = VideoConfig(), (7, 11, 30), 5
    angles = _angles([[x, y, z]], [frame], video)[0]
    frequency = [10000 ** (-i / 21) for i in range(21)]
    expected = [0.0] * 64
    for axis, position in enumerate((x, y, z)):
        for i in range(16):
            expected[21 * axis + i] = position * frequency[i]
    for k, pair in enumerate(freed_pairs(HEAD, 0.75)):
        expected[pair] = frame * (32 / 16) * frequency[k]
    torch.testing.assert_close(angles, torch.tensor(expected), rtol=1e-5, atol=1e-6)


def test_time_covers_the_phase_range_of_a_spatial_axis():
    """Frame f of 16 is rotated like voxel f · N/16 of N, which is the reason for the scale."""
    video = VideoConfig()
    time = _angles([[0, 0, 0]] * 16, list(range(16)), video)[:, freed_pairs(HEAD, 0.75)]
    space = _angles([[2 * f, 0, 0] for f in range(16)], [0] * 16, video)[:, :16]
    torch.testing.assert_close(time, space)


def test_scale_option_and_longer_videos():
    halved = _angles([[0, 0, 0]], [4], VideoConfig(time_scale=1.0))
    torch.testing.assert_close(2 * halved, _angles([[0, 0, 0]], [4], VideoConfig()))
    # Longer videos than in training extrapolate, here to frame 40.
    torch.testing.assert_close(
        _angles([[0, 0, 0]], [40], VideoConfig()), 10 * _angles([[0, 0, 0]], [4], VideoConfig()), rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize("temporal", list(TemporalRotary))
@settings(max_examples=30, deadline=None)
@given(
    st.tuples(*[st.integers(0, 15)] * 4),
    st.tuples(*[st.integers(0, 15)] * 4),
    st.tuples(*[st.integers(0, 16)] * 4),
    st.integers(0, 99),
)
def test_logits_depend_only_on_differences(temporal, a, b, shift, seed):
    video = VideoConfig(temporal=temporal)
    generator = torch.Generator().manual_seed(seed)
    q, k = (torch.randn(1, 1, HEAD, generator=generator, dtype=torch.float64) for _ in range(2))

    def logit(p, r) -> float:
        rotated = []
        for x, point in ((q, p), (k, r)):
            angles = _angles([point[:3]], [point[3]], video)
            rotated.append(apply_rotary(x, angles.double().cos(), angles.double().sin()))
        return float((rotated[0] * rotated[1]).sum())

    moved = [tuple(u + s for u, s in zip(p, shift, strict=True)) for p in (a, b)]
    assert logit(a, b) == pytest.approx(logit(*moved), abs=2e-3 * HEAD**0.5 / 10)


def test_spatial_part_is_unchanged():
    coords = dense_coordinates(6)
    frames = torch.arange(len(coords)) % 16
    base = rotary_angles(coords, torch.zeros_like(frames), HEAD, 16, BASE)
    video = rotary_angles(coords, frames, HEAD, 16, VideoConfig())
    kept = [21 * axis + i for axis in range(3) for i in range(16)]
    assert torch.equal(base[:, kept], video[:, kept])
    # Each pair encodes one coordinate: with constant time, the freed pairs are constant.
    still = rotary_angles(coords, torch.full_like(frames, 3), HEAD, 16, VideoConfig())[:, freed_pairs(HEAD, 0.75)]
    assert torch.equal(still, still[:1].expand_as(still))


def test_frame_zero_with_all_pairs_is_the_base():
    coords = dense_coordinates(4)
    frames = torch.zeros(len(coords), dtype=torch.long)
    base = rotary_angles(coords, frames, HEAD, 16, BASE)
    for temporal in TemporalRotary:
        assert torch.equal(base, rotary_angles(coords, frames, HEAD, 16, VideoConfig(kept=1.0, temporal=temporal)))


def test_ss4d_adds_a_rotation_over_all_pairs():
    extra = _angles([[3, 4, 5]], [7], VideoConfig(temporal=TemporalRotary.SS4D, kept=1.0)) - _angles(
        [[3, 4, 5]], [7], BASE
    )
    expected = torch.tensor([7 * 10000 ** (-i / 64) for i in range(64)])
    torch.testing.assert_close(extra[0], expected, rtol=1e-4, atol=1e-5)


def test_truncation_is_the_identity_on_low_frequency_pairs():
    truncated = _angles([[9, 9, 9]], [3], VideoConfig(temporal=TemporalRotary.NONE, kept=0.4))[0]
    assert torch.count_nonzero(truncated) == 3 * 8


def test_rotation_preserves_norms_and_rotates_adjacent_channels():
    x = torch.tensor([[[1.0, 0.0, 0.0, 2.0]]])
    angle = torch.tensor([[math.pi / 2, math.pi]])
    torch.testing.assert_close(
        apply_rotary(x, angle.cos(), angle.sin()), torch.tensor([[[0.0, 1.0, 0.0, -2.0]]]), atol=1e-6, rtol=0
    )


def test_videos_without_pairs_for_time_are_rejected():
    with pytest.raises(ConfigError, match="leaves none of the 6 pairs for time"):
        require_pairs_for_time(12, VideoConfig(kept=1.0))
    require_pairs_for_time(HEAD, VideoConfig(kept=1.0))  # the unused pair is available

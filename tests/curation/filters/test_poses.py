"""Distinct poses and the jump after frame 0, of clips with known answers."""

from __future__ import annotations

import numpy as np
import pytest

from helix4d.assets import Clip, normalize
from helix4d.core import ReasonCode
from helix4d.curation.filters.measures import measure
from helix4d.curation.filters.poses import distinct_poses, start_jump
from helix4d.curation.filters.thresholds import FilterConfig, judge
from tests.curation.clips import NOTHING, Mesh, box, clip_of, join, moved, sphere


def poses(clip: Clip) -> int:
    return distinct_poses(normalize(clip)[0])


def jump(clip: Clip) -> float:
    return start_jump(normalize(clip)[0])


def swinging(angles: np.ndarray) -> list[Mesh]:
    """A body with an arm at these angles in radians, one mesh per frame."""
    body, arm = box(1.0), moved(box(0.2, cuts=2), (1.0, 0, 0))
    turns = [np.array([[np.cos(a), 0, np.sin(a)], [0, 1, 0], [-np.sin(a), 0, np.cos(a)]]) for a in angles]
    return [join(body, (arm[0] @ turn.T, arm[1])) for turn in turns]


# Distinct poses.


def test_a_steady_motion_has_a_pose_per_frame() -> None:
    assert poses(clip_of([moved(box(), (0.1 * t, 0, 0)) for t in range(16)])) == 16


def test_a_loop_returns_to_its_start() -> None:
    once_around = swinging(np.linspace(0, 2 * np.pi, 16))
    assert poses(clip_of(once_around)) == 15
    assert poses(clip_of(swinging(np.linspace(0, 6 * np.pi, 16)))) == 5  # three times around: every fifth is equal


def test_a_motion_forward_and_backward_has_half_the_poses() -> None:
    assert poses(clip_of(swinging(np.minimum(np.arange(16), 15 - np.arange(16)) / 8))) == 8


def test_held_and_still_poses_count_once() -> None:
    assert poses(clip_of([box()] * 16)) == 1
    assert poses(clip_of([box()])) == 1
    assert poses(clip_of(swinging(np.array([0.0, 0, 0, 1, 1, 1, 2, 2])))) == 3


def test_the_tolerance_is_a_thousandth_of_the_box_around_all_frames() -> None:
    for step, expected in ((0.9e-3, 1), (1.1e-3, 2)):
        shake = [join(box(1.0), moved(box(0.1), (step * (t % 2), 0, 0))) for t in range(6)]
        assert poses(clip_of(shake)) == expected
    drift = [join(box(1.0), moved(box(0.1), (0.6e-3 * t, 0, 0))) for t in range(6)]
    assert poses(clip_of(drift)) == 3  # each is compared with all that were counted: 0, 1.2 and 2.4 thousandths


def test_a_single_moving_triangle_among_thousands_is_seen() -> None:
    big = sphere(cuts=30)
    vertices, faces = join(big, (np.array([[0, 0, 0.6], [0.05, 0, 0.6], [0, 0.05, 0.6]]), np.array([[0, 1, 2]])))
    moving = (np.arange(len(vertices)) >= len(big[0]))[:, None]
    frames = [(vertices + moving * [0.01 * t, 0, 0], faces) for t in range(8)]
    assert poses(clip_of(frames)) == 8


def test_only_visible_triangles_count() -> None:
    collapsed = [join(box(), (np.full((3, 3), 0.4 - 0.1 * t), np.array([[0, 1, 2]]))) for t in range(4)]
    assert poses(clip_of(collapsed)) == 1
    appearing = [join(box(), (box(0.3)[0] * (t > 1) + 0.5, box()[1])) for t in range(4)]
    assert poses(clip_of(appearing)) == 2


def test_clips_of_other_meshes_in_each_frame() -> None:
    two = [box(cuts=1 + t % 2) for t in range(8)]
    assert poses(clip_of(two, shared=False)) == 2
    equal = [(v, f.copy()) for v, f in [box()] * 4]
    assert poses(clip_of(equal, shared=False)) == 1
    blinking = [box() if t % 2 == 0 else NOTHING for t in range(8)]
    assert poses(clip_of(blinking, shared=False)) == 2


# The jump after frame 0.


def test_a_bind_pose_as_the_first_frame_jumps() -> None:
    angles = np.concatenate([[np.pi / 2], 0.1 * np.sin(np.linspace(0, 4, 15))])
    walking = clip_of(swinging(angles))
    assert jump(walking) > 15
    assert jump(clip_of(swinging(angles[1:]))) < 1.1
    refusal = judge(measure(walking, "0_0"), FilterConfig(max_start_jump=3))
    assert refusal is not None
    assert refusal.code is ReasonCode.START_JUMP


def test_the_jump_is_a_ratio_of_distances() -> None:
    places = np.array([0.0, 2.0, 2.5, 2.75, 3.0])
    assert jump(clip_of([moved(box(), (x, 0, 0)) for x in places])) == pytest.approx(4, rel=1e-4)
    # A part of a third of the surface that moves alone: both steps shrink alike.
    part = [join(box(1.0), moved(box(1.0), (0, 0, 3)), moved(box(1.0), (x, 0, 6))) for x in places]
    assert jump(clip_of(part)) == pytest.approx(4, rel=1e-4)


def test_steady_motions_loops_and_still_clips_do_not_jump() -> None:
    assert jump(clip_of([moved(box(), (0.1 * t, 0, 0)) for t in range(16)])) == pytest.approx(1, rel=1e-3)
    assert jump(clip_of(swinging(np.linspace(0, 2 * np.pi, 16)))) == pytest.approx(1, rel=1e-3)
    assert jump(clip_of([box()] * 16)) == 0
    assert jump(clip_of([box(), box(2.0)])) == 0  # there is no later step
    assert jump(clip_of([box()])) == 0
    slowing = clip_of([moved(box(), (1 - 0.7**t, 0, 0)) for t in range(16)])
    assert jump(slowing) == pytest.approx(1 / 0.7, rel=1e-3)


def test_a_clip_that_moves_only_after_its_first_frame_jumps() -> None:
    held = [box()] + [moved(box(), (1.0, 0, 0))] * 7
    assert jump(clip_of(held)) == pytest.approx(500, rel=0.01)  # half the box's edge, against a thousandth


def test_what_appears_has_not_moved() -> None:
    appearing = [join(box(), (box(0.3)[0] * (t > 0) + np.array([0.5 + 0.01 * t, 0, 0]), box()[1])) for t in range(8)]
    assert jump(clip_of(appearing)) < 1.1
    assert jump(clip_of([box(), NOTHING, box(), box()], shared=False)) == 0


def test_meshes_that_do_not_correspond_are_compared_by_their_boxes() -> None:
    places = np.array([0.0, 2.0, 2.5, 3.0])
    frames = [moved(box(cuts=1 + t % 2), (x, 0, 0)) for t, x in enumerate(places)]
    assert jump(clip_of(frames, shared=False)) == pytest.approx(4, rel=1e-4)


def test_clips_with_few_poses_are_refused() -> None:
    clip = measure(clip_of(swinging(np.array([0.0, 0, 0, 1, 1, 1, 2, 2]))), "0_0")
    assert judge(clip, FilterConfig(min_distinct_poses=3)) is None
    refusal = judge(clip, FilterConfig(min_distinct_poses=4))
    assert refusal is not None
    assert refusal.code is ReasonCode.FEW_POSES
    assert "distinct_poses 3 is below the minimum of 4" in refusal.message

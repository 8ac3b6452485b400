from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from helix4d.core import FormatError
from helix4d.evaluation import AlignmentSettings, Protocol, Surface, measure_geometry, sample_surface, sample_tracked
from tests.evaluation.shapes import join, moved, tripod

SMALL = Protocol(points=600, alignment_points=200, alignment=AlignmentSettings(steps=40, refined=2, coarse_steps=10))
STILL = [tripod()] * 3


def _sampled(frames: list[Surface]) -> Tensor:
    """Ground truth that consists of exactly the points at which the prediction is sampled."""
    return torch.stack([sample_surface(s, SMALL.points, SMALL.seed + frame) for frame, s in enumerate(frames)])


def _bending(amount: float) -> list[Surface]:
    """The long arm is bent by f × amount in frame f, which no pose can undo."""
    vertices = tripod().vertices
    bend = np.zeros_like(vertices)
    bend[:, 1] = np.maximum(vertices[:, 0], 0) ** 2
    return [Surface(vertices + np.float32(amount * frame) * bend, tripod().faces) for frame in range(3)]


def test_identical_meshes_are_at_distance_0() -> None:
    frames = _bending(0.5)
    scores = measure_geometry(frames, _sampled(frames), SMALL)
    assert (scores.cd_3d, scores.cd_4d) == (0, 0)


def test_identical_motion_is_at_distance_0() -> None:
    frames = _bending(0.5)
    truth = sample_tracked(frames, SMALL.points, SMALL.seed)
    # With one step the best pose is the start itself, the identity.
    unmoved = Protocol(points=SMALL.points, alignment=AlignmentSettings(steps=1))
    assert measure_geometry(frames, truth, unmoved).cd_m == 0
    # The descent fits the sampling noise of frame 0, which is about the distance between neighbors.
    scores = measure_geometry(frames, truth, SMALL)
    assert scores.cd_m is not None
    assert scores.cd_m < 0.05
    assert not scores.reasons


def test_a_drifting_prediction_has_a_larger_cd_4d() -> None:
    drifting = [moved(surface, (0.1 * frame, 0, 0)) for frame, surface in enumerate(STILL)]
    scores = measure_geometry(drifting, _sampled(STILL), SMALL)
    assert scores.cd_3d is not None
    assert scores.cd_4d is not None
    assert scores.cd_m is not None
    assert scores.cd_3d < 0.03 < scores.cd_4d
    assert scores.cd_m > 2 * (0 + 0.1 + 0.2) / 3 - 0.02


def test_changing_topology_affects_only_cd_m() -> None:
    frames = _bending(0.5)
    changed = [frames[0], frames[1], Surface(frames[2].vertices, frames[2].faces[::-1])]
    whole, scores = (measure_geometry(f, _sampled(frames), SMALL) for f in (frames, changed))
    assert whole.cd_m is not None
    assert scores.cd_m is None
    assert scores.reasons == {"cd_m": "the topology of the mesh changes, so its points cannot be tracked"}
    assert scores.cd_3d == pytest.approx(whole.cd_3d, abs=0.03)
    assert scores.cd_4d == pytest.approx(whole.cd_4d, abs=0.03)


def test_a_missing_frame_affects_all_three() -> None:
    scores = measure_geometry(STILL[:2], _sampled(STILL), SMALL)
    assert (scores.cd_3d, scores.cd_4d, scores.cd_m) == (None, None, None)
    assert set(scores.reasons.values()) == {"the prediction has only 2 of 3 frames"}


def test_frames_beyond_the_truth_are_ignored() -> None:
    assert measure_geometry([*STILL, join(*STILL)], _sampled(STILL), SMALL) == measure_geometry(
        STILL, _sampled(STILL), SMALL
    )


def test_an_empty_frame_is_named() -> None:
    empty = Surface(np.zeros((0, 3), np.float32), np.zeros((0, 3), np.int32))
    scores = measure_geometry([STILL[0], empty, STILL[2]], _sampled(STILL), SMALL)
    assert scores.cd_3d is None
    assert scores.reasons["cd_4d"] == "frame 1: the mesh has no triangles [empty_geometry]"


@pytest.mark.parametrize(
    "truth",
    [torch.zeros(3, 0, 3), torch.zeros(3, 5, 6), torch.full((3, 5, 3), torch.nan), torch.zeros(3, 5, 3).double()],
)
def test_invalid_truths_are_rejected(truth: Tensor) -> None:
    with pytest.raises(FormatError):
        measure_geometry(STILL, truth, SMALL)

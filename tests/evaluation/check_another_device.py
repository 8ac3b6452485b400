"""ActionBench's geometry on another device: alignment and distances leave no tensor on the CPU."""

from __future__ import annotations

import pytest
import torch

from helix4d.evaluation import AlignmentSettings, Pose, align, chamfer_distance, motion_chamfer_distance, sample_surface
from helix4d.evaluation.geometry.alignment import axis_rotations
from tests.another_device import another_device
from tests.evaluation.shapes import tripod

TRUTH = sample_surface(tripod(), 400, 7)
PREDICTION = (sample_surface(tripod(), 300, 8) * torch.tensor([1.1, 0.9, 1.0]) + 0.05) @ axis_rotations()[13]
EXACT = AlignmentSettings(steps=20)
PRUNED = AlignmentSettings(steps=20, refined=4, coarse_points=100, coarse_steps=20)


def judged(settings: AlignmentSettings, device: torch.device) -> tuple[Pose, float, float]:
    truth, prediction = TRUTH.to(device), PREDICTION.to(device)
    pose = align(prediction, truth, settings)
    moved = pose.apply(prediction)
    return pose, chamfer_distance(moved, truth), motion_chamfer_distance(moved[None], truth[None])


@pytest.mark.parametrize("settings", [EXACT, PRUNED], ids=["exact", "pruned"])
def test_pose_and_distances_equal_the_cpus(settings: AlignmentSettings) -> None:
    expected, *distances = judged(settings, torch.device("cpu"))
    with another_device() as device:
        found, *others = judged(settings, device)
        assert found.start == expected.start
        assert found.loss == pytest.approx(expected.loss, rel=1e-5)
        for name in ("rotation", "scale", "translation"):
            torch.testing.assert_close(getattr(found, name).cpu(), getattr(expected, name), atol=1e-5, rtol=1e-5)
    assert others == pytest.approx(distances, rel=1e-5)

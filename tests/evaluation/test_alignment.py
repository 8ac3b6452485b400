from __future__ import annotations

import pytest
import torch

from helix4d.core import ConfigError
from helix4d.evaluation import EXACT, PRUNED, AlignmentSettings, Pose, align, chamfer_distance, sample_surface
from helix4d.evaluation.geometry.alignment import _losses, _move, axis_rotations
from helix4d.evaluation.geometry.nearest import Neighbors
from tests.evaluation.shapes import tripod

POINTS = sample_surface(tripod(), 400, 7)
SHORT = AlignmentSettings(steps=3)


def _distance(pose: Pose, points: torch.Tensor) -> float:
    return chamfer_distance(pose.apply(points), POINTS)


def test_starts_are_all_24_rotations() -> None:
    rotations = axis_rotations()
    assert rotations.shape == (24, 3, 3)
    assert torch.equal(rotations[0], torch.eye(3))
    assert torch.equal(rotations @ rotations.transpose(1, 2), torch.eye(3).expand(24, 3, 3))
    assert torch.equal(torch.linalg.det(rotations), torch.ones(24))
    assert len({tuple(r.flatten().int().tolist()) for r in rotations}) == 24


@pytest.mark.parametrize("index", range(24))
def test_any_of_the_24_rotations_is_undone(index: int) -> None:
    rotation = axis_rotations()[index]
    pose = align(POINTS @ rotation, POINTS, SHORT)
    assert _distance(pose, POINTS @ rotation) == 0
    assert torch.equal(pose.rotation, rotation.T)


def test_identical_clouds_are_not_moved() -> None:
    pose = align(POINTS, POINTS, SHORT)
    assert (pose.loss, pose.start) == (0, 0)
    assert torch.equal(pose.apply(POINTS), POINTS)


def test_gradients_contain_no_unordered_sums() -> None:
    """Gradients of gathering and indexing are atomic sums on a GPU, whose rounding errors the descent amplifies."""
    state = torch.tensor([1.0, 0, 0, 0, 1, 0] + [0.0] * 3 + [1.0] * 3).repeat(24, 1).requires_grad_()
    losses = _losses(POINTS, POINTS[:50], state, axis_rotations(), Neighbors(POINTS[:50]))
    seen, waiting = set(), [losses.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is not None and node not in seen:
            seen.add(node)
            waiting += [next_node for next_node, _ in node.next_functions]
    names = {type(node).__name__ for node in seen}
    assert "BmmBackward0" in names
    assert not [name for name in names if name.startswith(("Gather", "Index", "Scatter", "Take"))]


@pytest.mark.parametrize("settings", [EXACT, PRUNED], ids=["exact", "pruned"])
def test_a_general_pose_is_undone(settings: AlignmentSettings) -> None:
    rotation = axis_rotations()[13]
    scale, shift = torch.tensor([0.8, 1.25, 1.1]), torch.tensor([0.1, -0.06, 0.12])
    points = ((POINTS - shift) @ rotation.T) / scale
    before = min(chamfer_distance(points @ r, POINTS) for r in axis_rotations())
    pose = align(points, POINTS, settings)
    assert torch.allclose(pose.scale, scale, atol=0.01)
    assert torch.allclose(pose.translation, shift, atol=0.005)
    assert torch.allclose(pose.rotation, rotation, atol=0.005)
    assert _distance(pose, points) < 0.005 < 0.1 < before


def test_the_loss_is_the_squared_distance_at_the_pose() -> None:
    other = sample_surface(tripod(), 300, 8) * 1.1
    pose = align(other, POINTS, SHORT)
    pairs = torch.cdist(pose.apply(other), POINTS, compute_mode="donot_use_mm_for_euclid_dist") ** 2
    assert pose.loss == pytest.approx(float(pairs.min(0).values.mean() + pairs.min(1).values.mean()), rel=1e-5)


def test_more_steps_are_never_worse() -> None:
    other = sample_surface(tripod(), 300, 8) * 1.3
    losses = [align(other, POINTS, AlignmentSettings(steps=steps)).loss for steps in (1, 5, 20)]
    assert losses == sorted(losses, reverse=True)
    assert losses[2] < losses[0]


def test_refined_starts_descend_as_in_the_exact_alignment() -> None:
    other = sample_surface(tripod(), 300, 8) * torch.tensor([1.1, 0.9, 1.2]) + 0.05
    exact = align(other, POINTS, AlignmentSettings(steps=12))
    pruned = align(other, POINTS, AlignmentSettings(steps=12, refined=1, coarse_points=100, coarse_steps=12))
    assert pruned.start == exact.start
    assert torch.allclose(pruned.apply(other), exact.apply(other), atol=1e-6)


def test_adam_matches_torch() -> None:
    other, start = sample_surface(tripod(), 300, 8) * 1.1, axis_rotations()[:1]
    shift, scale = torch.zeros(3, requires_grad=True), torch.ones(3, requires_grad=True)
    turn = torch.tensor([1.0, 0, 0, 0, 1, 0], requires_grad=True)
    adam = torch.optim.Adam([turn, shift, scale], lr=0.01)
    for _ in range(8):
        adam.zero_grad()
        moved = _move(other, torch.cat([turn, shift, scale])[None], start)[0]
        pairs = torch.cdist(moved, POINTS, compute_mode="donot_use_mm_for_euclid_dist") ** 2
        (pairs.min(0).values.mean() + pairs.min(1).values.mean()).backward()
        adam.step()
    # The loss decreases in each of these steps, so the pose after eight steps is the best.
    pose = align(other, POINTS, AlignmentSettings(steps=9), start)
    assert torch.allclose(pose.scale, scale.detach(), atol=1e-5)
    assert torch.allclose(pose.translation, shift.detach(), atol=1e-5)


@pytest.mark.parametrize(
    "values", [{"steps": 0}, {"refined": 0}, {"refined": 1, "coarse_steps": 0}, {"refined": 1, "coarse_points": 0}]
)
def test_invalid_settings_are_rejected(values: dict[str, int]) -> None:
    with pytest.raises(ConfigError):
        AlignmentSettings(**values)


@pytest.mark.gpu
@pytest.mark.parametrize("settings", [EXACT, PRUNED], ids=["exact", "pruned"])
def test_a_gpu_aligns_like_the_cpu(settings: AlignmentSettings) -> None:
    other = (sample_surface(tripod(), 300, 8) * 1.1 + 0.05) @ axis_rotations()[13]
    expected, found = align(other, POINTS, settings), align(other.cuda(), POINTS.cuda(), settings)
    assert found.start == expected.start
    assert found.loss == pytest.approx(expected.loss, rel=0.01)
    again = align(other.cuda(), POINTS.cuda(), settings)
    assert torch.equal(again.rotation, found.rotation)

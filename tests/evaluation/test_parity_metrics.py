"""Parity with the official evaluation on small tracked clouds, on its aligned points and after our own alignment."""

from __future__ import annotations

from pathlib import Path
from statistics import fmean

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from helix4d.evaluation import (
    PRUNED,
    AlignmentSettings,
    Clouds,
    Pose,
    Protocol,
    align,
    chamfer_distance,
    motion_chamfer_distance,
    score_clouds,
)
from helix4d.evaluation.geometry.alignment import axis_rotations
from tests.conftest import NO_PARITY, PARITY, files

FIXTURES = files(PARITY / "metrics", "*.safetensors")
NEEDED = {"gt", "pred", "icp_indices", "aligned_per_frame", "aligned_first", "cd_3d", "cd_4d", "cd_m"}
METRICS = ("cd_3d", "cd_4d", "cd_m")


def _load(path: Path) -> dict[str, Tensor]:
    tensors = load_file(path)
    if NEEDED - tensors.keys():
        pytest.skip(f"{path.name} is a fixture of something else: it lacks {sorted(NEEDED - tensors.keys())}")
    return tensors


@pytest.mark.skipif(not FIXTURES, reason=NO_PARITY)
def test_fixtures_exist() -> None:
    """Reports why nothing is compared."""


@pytest.mark.parametrize("path", FIXTURES, ids=lambda path: path.stem)
def test_distances_on_the_given_aligned_points(path: Path) -> None:
    given = _load(path)
    truth = given["gt"]
    for name, metric in (("aligned_per_frame", "cd_3d"), ("aligned_first", "cd_4d")):
        distances = [chamfer_distance(points, true) for points, true in zip(given[name], truth, strict=True)]
        assert fmean(distances) == pytest.approx(float(given[metric]), rel=1e-5)
    motion = motion_chamfer_distance(given["aligned_first"], truth)
    assert motion == pytest.approx(float(given["cd_m"]), rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("pruned", [False, True], ids=["exact", "pruned"])
@pytest.mark.parametrize("path", FIXTURES, ids=lambda path: path.stem)
def test_distances_after_our_alignment(path: Path, pruned: bool) -> None:
    given = _load(path)
    indices = given["icp_indices"]
    protocol = Protocol(alignment=PRUNED) if pruned else Protocol()
    scores = score_clouds(
        Clouds(given["pred"], given["gt"], given["pred"][:, indices], given["gt"][:, indices], given["pred"]), protocol
    )
    for metric in METRICS:
        ours, theirs = getattr(scores, metric), float(given[metric])
        print(f"{path.stem} {'pruned' if pruned else 'exact'} {metric}: {ours:.6f}, official {theirs:.6f}")
        assert ours == pytest.approx(theirs, rel=0.02)


@pytest.mark.parametrize("path", FIXTURES, ids=lambda path: path.stem)
def test_the_two_added_starts_do_not_change_these_results(path: Path) -> None:
    given = _load(path)
    indices = given["icp_indices"]
    clouds = given["pred"][0, indices], given["gt"][0, indices]
    ours, theirs = (_pose(*clouds, starts) for starts in (axis_rotations(), _published_rotations()))
    assert torch.allclose(ours.apply(given["pred"][0]), theirs.apply(given["pred"][0]), atol=1e-4)


def _pose(points: Tensor, truth: Tensor, starts: Tensor) -> Pose:
    return align(points, truth, AlignmentSettings(refined=2), starts)


def _published_rotations() -> Tensor:
    """The official rotations (24, 3, 3), 22 of them distinct: about x (azimuth), y (elevation), z (roll)."""
    x, y, z = (axis_rotations()[i] for i in (4, 16, 1))
    flat = [(a, 0, r) for a in range(4) for r in range(4)]
    upright = [(a, e, r) for a, e in ((0, 1), (0, 3), (1, 1), (1, 3)) for r in range(2)]
    power = torch.linalg.matrix_power
    return torch.stack([power(x, a) @ power(y, e) @ power(z, r) for a, e, r in flat + upright])

"""Tracked points of our shards as the truth of CD-M: a clip's own mesh is as near as sampling allows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from helix4d.assets import Clip, bake, normalize
from helix4d.assets.samples import SAMPLES
from helix4d.assets.tracks import track_points
from helix4d.evaluation.geometry.chamfer import motion_chamfer_distance
from helix4d.evaluation.geometry.sampling import sample_tracked
from helix4d.evaluation.metrics.geometry import clip_surfaces
from tests.conftest import ASSETS, NO_ASSETS, files

_POINTS = 4096
_REAL = files(ASSETS / "animated", "*.glb")


@pytest.mark.parametrize("name", ["ladybug", "flag"])
def test_the_own_mesh_is_within_the_noise_of_sampling(name: str, tmp_path: Path) -> None:
    """That noise: the distance of two independent draws of tracked points, about √(area / points) for each frame."""
    (tmp_path / "asset.glb").write_bytes(SAMPLES[name]())
    shown, _ = normalize(bake(tmp_path / "asset.glb", frames=4))
    own, noise = check_own_mesh(shown)
    area = np.mean([frame.areas.sum() for frame in shown.frames])
    assert noise == pytest.approx(np.sqrt(area / _POINTS), rel=0.15)
    moved = own + torch.tensor([0.0, 0.0, 0.02]) * torch.arange(4)[:, None, None]
    assert motion_chamfer_distance(moved, _draws(shown)[0]) > 1.5 * noise


@pytest.mark.acceptance
@pytest.mark.skipif(not _REAL, reason=NO_ASSETS)
@pytest.mark.parametrize("path", _REAL, ids=lambda path: path.stem)
def test_the_own_mesh_of_real_assets(path: Path) -> None:
    shown, _ = normalize(bake(path, frames=4))
    if not track_points(shown, _POINTS, np.random.default_rng(0)).present.all():
        pytest.skip("a part vanishes, so the bench does not use the tracks")
    check_own_mesh(shown)


def check_own_mesh(shown: Clip) -> tuple[Tensor, float]:
    """Check that CD-M of a clip's own mesh is within the noise, and return points on the mesh, and the noise."""
    draws = _draws(shown)
    noise = motion_chamfer_distance(draws[0], draws[1])
    own: Tensor = sample_tracked(clip_surfaces(shown), _POINTS, 44)
    assert motion_chamfer_distance(own, draws[0]) < 1.05 * noise * _unevenness(shown)
    return own, noise


def _unevenness(shown: Clip) -> float:
    """Return how much larger the mean distance from predictions to tracks is than that of two samples of tracks.

    The protocol samples predictions on frame 0 and tracks on the frame with the largest area. The distance of a point
    to the nearest one of the other sample is proportional to the root of that sample's area per point, which differs
    where parts grow at different rates. The result is 1 if all parts grow equally.
    """
    areas = np.array([frame.areas for frame in shown.frames])
    areas = areas[:, (areas > 0).all(axis=0)]
    first, largest = (row / row.sum() for row in (areas[0], areas[areas.sum(axis=1).argmax()]))
    mixed = largest * np.sqrt(areas / first) + first * np.sqrt(areas / largest)
    return float(mixed.sum() / (2 * np.sqrt(areas * largest)).sum())


def _draws(shown: Clip) -> list[Tensor]:
    return [
        torch.from_numpy(track_points(shown, _POINTS, np.random.default_rng(seed)).positions.copy())
        for seed in range(2)
    ]

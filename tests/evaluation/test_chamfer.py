from __future__ import annotations

import pytest
import torch

from helix4d.core import ConfigError
from helix4d.evaluation import chamfer_distance, motion_chamfer_distance
from helix4d.evaluation.geometry.nearest import Neighbors, nearest_in_chunks, nearest_of_each
from tests.triton_interpreter import needs_triton, run_interpreted

GRID = torch.cartesian_prod(*[torch.arange(6.0)] * 3)


def _cloud(count: int, seed: int) -> torch.Tensor:
    return torch.rand(count, 3, generator=torch.Generator().manual_seed(seed))


def test_the_distance_of_a_cloud_to_itself_is_zero() -> None:
    assert chamfer_distance(GRID, GRID) == 0


def test_the_distance_of_a_known_displacement() -> None:
    assert chamfer_distance(GRID + torch.tensor([0.0, 0.25, 0.0]), GRID) == 0.5
    assert chamfer_distance(GRID + torch.tensor([0.03, 0.0, 0.04]), GRID) == pytest.approx(0.1, rel=1e-5)


def test_both_directions_count() -> None:
    far = torch.cat([GRID, torch.tensor([[0.0, 0.0, 7.0]])])
    assert chamfer_distance(far, GRID) == chamfer_distance(GRID, far) == pytest.approx(2 / 217)


def test_queries_are_subsampled_but_trees_are_not() -> None:
    assert chamfer_distance(GRID, GRID[:200], queries=10) > 0
    cloud = _cloud(500, 1)
    assert chamfer_distance(cloud, cloud, queries=50) == 0


def test_it_equals_the_brute_force_distance() -> None:
    a, b = _cloud(300, 1), _cloud(200, 2)
    pairs = torch.cdist(a.double(), b.double(), compute_mode="donot_use_mm_for_euclid_dist")
    expected = pairs.min(0).values.mean() + pairs.min(1).values.mean()
    assert chamfer_distance(a, b) == pytest.approx(float(expected), rel=1e-6)


def test_motion_keeps_the_pairs_of_frame_0() -> None:
    still = torch.stack([GRID, GRID])
    swapped = torch.stack([GRID, GRID.flip(0)])
    assert chamfer_distance(swapped[1], GRID) == 0
    expected = 2 * float((GRID.flip(0) - GRID).norm(dim=-1).mean()) / 2
    assert motion_chamfer_distance(swapped, still) == pytest.approx(expected, rel=1e-6)
    assert motion_chamfer_distance(still, still) == 0


def test_motion_averages_over_all_frames() -> None:
    still = torch.stack([GRID] * 4)
    assert motion_chamfer_distance(still + torch.tensor([0.0, 0.0, 0.1]), still) == pytest.approx(0.2, rel=1e-4)
    late = still.clone()
    late[3, :, 0] += 10
    assert motion_chamfer_distance(late, still) == pytest.approx(2 * 10 / 4, rel=1e-6)


def test_motions_of_different_lengths_are_rejected() -> None:
    with pytest.raises(ConfigError, match="2 frames"):
        motion_chamfer_distance(torch.stack([GRID] * 2), torch.stack([GRID] * 3))


def test_brute_force_in_chunks_equals_the_tree(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("helix4d.evaluation.geometry.nearest._PAIRS", 4096)
    points, queries = _cloud(300, 3), _cloud(240, 4).reshape(2, 120, 3)
    distances, indices = Neighbors(points).query(queries)
    chunked, chosen = nearest_in_chunks(queries, points)
    assert torch.equal(indices, chosen)
    assert torch.allclose(distances.float(), chunked, rtol=1e-5)
    assert nearest_in_chunks(points, points)[0].max() == 0


@pytest.mark.parametrize("count", [1, 50])
def test_each_of_several_clouds_is_searched(count: int) -> None:
    queries, clouds = _cloud(40, 5), torch.stack([_cloud(count, seed) for seed in (6, 7, 8)])
    distances, indices = nearest_of_each(queries, clouds)
    for cloud, found, chosen in zip(clouds, distances, indices, strict=True):
        expected = nearest_in_chunks(queries, cloud)
        assert torch.equal(chosen, expected[1])
        assert torch.allclose(found.float(), expected[0], rtol=1e-5)


@needs_triton
def test_the_kernel_equals_brute_force_in_tritons_interpreter() -> None:
    """Bit for bit, with the first of equal distances."""
    run_interpreted("tests.evaluation.interpret_nearest")


@pytest.mark.gpu
def test_the_kernel_equals_brute_force_on_a_gpu() -> None:
    queries, clouds = _cloud(1000, 9).cuda(), torch.stack([_cloud(3001, seed) for seed in (1, 2, 3)]).cuda()
    distances, indices = nearest_of_each(queries, clouds)
    for cloud, found, chosen in zip(clouds, distances, indices, strict=True):
        expected, _ = nearest_in_chunks(queries, cloud)
        assert torch.allclose(found, expected, rtol=1e-6, atol=0)
        assert torch.allclose((queries - cloud[chosen]).norm(dim=1), expected, rtol=1e-6, atol=0)
    points = clouds[0]
    assert Neighbors(points).query(points)[0].max() == 0

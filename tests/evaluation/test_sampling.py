from __future__ import annotations

import numpy as np
import pytest
import torch

from helix4d.core import AssetError, ConfigError, ReasonCode
from helix4d.evaluation import Surface, sample_surface, sample_tracked, subsample
from helix4d.evaluation.geometry.sampling import same_topology
from tests.evaluation.shapes import box, join, moved, tripod
from tests.packages import needs

CORNERS = np.eye(3, dtype=np.float32)
TRIANGLE = np.array([[0, 1, 2]], np.int32)


@needs("trimesh")
def test_points_equal_those_of_trimesh() -> None:
    import trimesh

    surface = tripod()
    mesh = trimesh.Trimesh(surface.vertices, surface.faces, process=False)
    expected, _ = trimesh.sample.sample_surface(mesh, 1000, seed=47)
    assert np.allclose(sample_surface(surface, 1000, 47).numpy(), expected, atol=1e-7)


def test_points_lie_on_the_surface_in_proportion_to_area() -> None:
    small, large = box((0, 0, 0), (1, 1, 1)), box((5, 0, 0), (7, 2, 2))
    points = sample_surface(join(small, large), 20_000, 44)
    assert points.dtype == torch.float32
    assert float((points[:, 0] < 2).float().mean()) == pytest.approx(1 / 5, abs=0.01)
    inside = points[points[:, 0] < 2]
    assert float(torch.minimum(inside, 1 - inside).amin(dim=1).abs().max()) < 1e-6
    assert torch.allclose(inside.mean(dim=0), torch.full((3,), 0.5), atol=0.02)


def test_the_seed_determines_the_points() -> None:
    assert torch.equal(sample_surface(tripod(), 50, 44), sample_surface(tripod(), 50, 44))
    assert not torch.equal(sample_surface(tripod(), 50, 44), sample_surface(tripod(), 50, 45))


def test_tracked_points_follow_their_triangles() -> None:
    first = tripod()
    turned = Surface(first.vertices[:, [1, 2, 0]] + np.float32(0.5), first.faces)
    points = sample_tracked([first, turned, moved(first, (0, 0, 1))], 500, 44)
    assert points.shape == (3, 500, 3)
    assert torch.allclose(points[1], points[0][:, [1, 2, 0]] + 0.5, atol=1e-6)
    assert torch.allclose(points[2], points[0] + torch.tensor([0.0, 0.0, 1.0]), atol=1e-6)


def test_tracked_points_are_uniform_over_frame_0() -> None:
    points = sample_tracked([join(box((0, 0, 0), (1, 1, 1)), box((5, 0, 0), (7, 2, 2)))], 20_000, 44)[0]
    assert float((points[:, 0] < 2).float().mean()) == pytest.approx(1 / 5, abs=0.01)
    assert torch.allclose(points[points[:, 0] < 2].mean(dim=0), torch.full((3,), 0.5), atol=0.02)


def test_tiny_surfaces_are_not_tracked() -> None:
    with pytest.raises(AssetError, match="no area in float32"):
        sample_tracked([Surface(CORNERS * np.float32(1e-30), TRIANGLE)], 10, 44)


def test_topology() -> None:
    first = tripod()
    other = Surface(first.vertices, first.faces[::-1])
    longer = Surface(np.concatenate([first.vertices, CORNERS]), first.faces)
    assert same_topology([first, moved(first, (1, 0, 0))])
    assert not same_topology([first, other])
    assert not same_topology([first, longer])
    with pytest.raises(ConfigError, match="topology"):
        sample_tracked([first, other], 10, 44)


def test_a_subsample_is_the_same_in_all_frames() -> None:
    points = torch.arange(2 * 100 * 3.0).reshape(2, 100, 3)
    few = subsample(points, 10, 44)
    assert few.shape == (2, 10, 3)
    assert torch.equal(few[1] - few[0], torch.full((10, 3), 300.0))
    assert len(few[0].unique(dim=0)) == 10
    assert torch.equal(subsample(points, 100, 44), points)


@pytest.mark.parametrize(
    ("surface", "code"),
    [
        (Surface(CORNERS, TRIANGLE[:0]), ReasonCode.EMPTY_GEOMETRY),
        (Surface(CORNERS * 0, TRIANGLE), ReasonCode.DEGENERATE_GEOMETRY),
        (Surface(CORNERS * np.float32(np.nan), TRIANGLE), ReasonCode.NON_FINITE_GEOMETRY),
        (Surface(CORNERS * np.float32(1e10), TRIANGLE), ReasonCode.NON_FINITE_GEOMETRY),
        (Surface(CORNERS, TRIANGLE + 1), ReasonCode.INVALID_ACCESSOR),
    ],
    ids=["empty", "degenerate", "not finite", "far away", "out of range"],
)
def test_surfaces_that_cannot_be_sampled_have_a_reason(surface: Surface, code: ReasonCode) -> None:
    with pytest.raises(AssetError) as caught:
        sample_surface(surface, 10, 44)
    assert caught.value.code == code


def test_arrays_of_wrong_shape_are_rejected() -> None:
    with pytest.raises(ConfigError, match=r"faces .*\(1, 4\)"):
        Surface(CORNERS, np.zeros((1, 4), np.int32))

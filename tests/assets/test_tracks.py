"""Tracked points lie on the surface, move exactly as it does, and are spread evenly over it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from helix4d.assets import Clip, bake, normalize
from helix4d.assets.samples import SAMPLES
from helix4d.assets.tracks import Tracks, track_points
from tests.conftest import ASSETS, NO_ASSETS, files
from tests.render.clips import box, clip, quad

_SOME = files(ASSETS / "animated", "*.glb")


def _moving() -> Clip:
    """Three frames: a box and a distant quad of the same area as one of its sides, turned, sheared and lifted."""
    shown = clip([box(), quad(0.9)], [])
    first = shown.frames[0]
    shear = np.array([[0.0, -1.0, 0.3], [1.0, 0.0, 0.0], [0.0, 0.0, 2.0]], np.float32)
    moved = replace(first, vertices=first.vertices @ shear.T + np.float32([0.0, 0.0, 0.5]))
    return replace(shown, frames=(first, moved, first), times=np.arange(3.0))


def _on_surface(tracks: Tracks, shown: Clip, number: int) -> float:
    """Largest distance of a present point from the nearest plane of a triangle that contains its projection."""
    points = tracks.positions[number][tracks.present[number]].astype(np.float64)
    triangles = shown.frames[number].triangles().astype(np.float64)
    triangles = triangles[shown.frames[number].areas > 0]
    best = np.full(len(points), np.inf)
    for start in range(0, len(triangles), 2000):
        a, b, c = (triangles[start : start + 2000, corner] for corner in range(3))
        normal = np.cross(b - a, c - a)
        normal /= np.linalg.norm(normal, axis=1, keepdims=True)
        height = points @ normal.T - (a * normal).sum(axis=1)
        inside = np.ones(height.shape, bool)
        for p, q in ((a, b), (b, c), (c, a)):
            edge = np.cross(normal, q - p)
            edge /= np.maximum(np.linalg.norm(edge, axis=1, keepdims=True), 1e-30)
            inside &= points @ edge.T - (p * edge).sum(axis=1) >= -1e-6
        best = np.minimum(best, np.where(inside, np.abs(height), np.inf).min(axis=1))
    return float(best.max(initial=0.0))


def _off_its_triangle(tracks: Tracks, shown: Clip, points: int = 64) -> float:
    """Return the largest distance of a point, in any frame, from its position in the triangle that it was sampled on.

    If several triangles contain the point in the frame of sampling, the one that it follows most closely counts.
    """
    drawn = tracks.positions[tracks.frame, :points].astype(np.float64)
    source = shown.frames[tracks.frame]
    triangles = source.triangles().astype(np.float64)
    found = np.full(points, np.inf)
    for start in range(0, len(triangles), 2000):
        a, b, c = (triangles[start : start + 2000, corner] for corner in range(3))
        normal = np.cross(b - a, c - a)
        with np.errstate(invalid="ignore", divide="ignore"):  # triangles without area contain no point
            scaled = normal / (normal**2).sum(axis=1, keepdims=True)
            weights = np.stack([(drawn @ np.cross(scaled, q - p).T) - (p * np.cross(scaled, q - p)).sum(axis=1)
                                for p, q in ((b, c), (c, a), (a, b))], axis=-1)  # fmt: skip
            near = np.abs((drawn @ normal.T) - (a * normal).sum(axis=1)) < 1e-6 * np.linalg.norm(normal, axis=1)
            pairs = np.argwhere((weights > -1e-3).all(axis=-1) & near)
        off = np.zeros(len(pairs))
        for number, frame in enumerate(shown.frames):
            here = tracks.present[number, pairs[:, 0]]
            corners = frame.vertices[source.faces[start + pairs[here, 1]]].astype(np.float64)
            places = np.einsum("pc,pcd->pd", weights[tuple(pairs[here].T)], corners)
            off[here] = np.maximum(off[here], np.linalg.norm(places - tracks.positions[number, pairs[here, 0]], axis=1))
        np.minimum.at(found, pairs[:, 0], off)
    return float(found.max())


def test_points_move_as_their_triangles() -> None:
    shown = _moving()
    tracks = track_points(shown, 500, np.random.default_rng(0))
    assert tracks.frame == 1, "the frame with the largest area"
    assert tracks.present.all()
    assert tracks.positions.dtype == np.float32
    assert tracks.normals.dtype == np.float16
    for number in range(3):
        assert _on_surface(tracks, shown, number) < 1e-6
    assert _off_its_triangle(tracks, shown) < 1e-6
    swapped = tracks.positions.copy()
    swapped[0, :2] = swapped[0, 1::-1]
    assert _off_its_triangle(replace(tracks, positions=swapped), shown) > 1e-2
    shear = np.array([[0.0, -1.0, 0.3], [1.0, 0.0, 0.0], [0.0, 0.0, 2.0]])
    expected = tracks.positions[0] @ shear.T + [0.0, 0.0, 0.5]
    np.testing.assert_allclose(tracks.positions[1], expected, atol=2e-6)
    np.testing.assert_array_equal(tracks.positions[2], tracks.positions[0])
    np.testing.assert_allclose(np.linalg.norm(tracks.normals.astype(np.float64), axis=-1), 1.0, atol=1e-3)


def test_points_are_uniform_over_the_area_and_depend_on_the_draw_alone() -> None:
    shown = replace(_moving(), frames=_moving().frames[:1], times=np.zeros(1))
    tracks = track_points(shown, 70_000, np.random.default_rng(0))
    far = tracks.positions[0, :, 1] > 0.8  # the quad: a seventh of the area
    assert far.mean() == pytest.approx(1 / 7, abs=0.005)
    quadrants = np.histogram2d(*tracks.positions[0][far][:, [0, 2]].T, bins=[[-0.5, 0.0, 0.5]] * 2)[0]
    np.testing.assert_allclose(quadrants / far.sum(), 0.25, atol=0.015)
    again = track_points(shown, 70_000, np.random.default_rng(0))
    np.testing.assert_array_equal(again.positions, tracks.positions)
    assert not np.array_equal(track_points(shown, 70_000, np.random.default_rng(1)).positions, tracks.positions)


def test_collapsed_triangles_and_other_topologies_are_not_present() -> None:
    shown = _moving()
    first = shown.frames[0]
    collapsed = replace(first, vertices=np.where(first.vertices[:, 1:2] > 0.8, 0.0, first.vertices).astype(np.float32))
    other = clip([quad()], []).frames[0]
    same_faces = replace(first, topology=replace(first.topology))
    shown = replace(shown, frames=(first, collapsed, other, same_faces), times=np.arange(4.0))
    tracks = track_points(shown, 2000, np.random.default_rng(0))
    far = tracks.positions[0, :, 1] > 0.8
    assert tracks.frame == 0
    np.testing.assert_array_equal(tracks.present[1], ~far)
    assert not tracks.present[2].any()
    assert not tracks.positions[2].any()
    assert tracks.present[3].all()


def test_a_clip_without_surface_is_refused() -> None:
    shown = _moving()
    flat = tuple(replace(frame, vertices=np.zeros_like(frame.vertices)) for frame in shown.frames)
    with pytest.raises(ValueError, match="no frame of the clip has a surface"):
        track_points(replace(shown, frames=flat), 10, np.random.default_rng(0))


@pytest.mark.parametrize("name", ["ladybug", "sprout", "fishbowl"])
def test_tracks_of_the_samples(name: str, tmp_path: Path) -> None:
    (tmp_path / "asset.glb").write_bytes(SAMPLES[name]())
    check_tracks(normalize(bake(tmp_path / "asset.glb", frames=4))[0])


@pytest.mark.acceptance
@pytest.mark.skipif(not _SOME, reason=NO_ASSETS)
@pytest.mark.parametrize("path", _SOME, ids=lambda path: path.stem)
def test_tracks_of_real_assets(path: Path) -> None:
    check_tracks(normalize(bake(path))[0])


def check_tracks(shown: Clip) -> None:
    """Check that the points lie on the surface of every frame within 1e-5 of the cube, and move as its vertices do."""
    tracks = track_points(shown, 1024, np.random.default_rng(0))
    assert tracks.present[tracks.frame].all()
    for number in range(len(shown.frames)):
        assert _on_surface(tracks, shown, number) < 1e-5, number
    assert _off_its_triangle(tracks, shown) < 1e-5

"""The compiled measures agree, bit for bit, with plain NumPy, which computes every sample, pixel and corner."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest

from helix4d.assets import Clip, normalize
from helix4d.assets.triangles import areas, face_areas
from helix4d.curation.filters import measures, visibility
from helix4d.curation.filters.surface_kernels import count_samples, project, sample_points, visible_samples
from helix4d.curation.filters.visibility import frame_visibility, view_axes
from helix4d.render.depth_kernels import draw_faces
from tests.curation.clips import box, clip_of, join

SIDE = 96
EXTENT = np.sqrt(3)


def soup(count: int, seed: int, size: float = 0.4) -> tuple[np.ndarray, np.ndarray]:
    """Return `count` random triangles, of which every fourth is a sliver."""
    rng = np.random.default_rng(seed)
    corners = rng.uniform(-0.5, 0.5, (count, 1, 3)) + rng.normal(0, size / 3, (count, 3, 3))
    corners[::4, 2] = corners[::4, 1] + rng.normal(0, 1e-6, (len(corners[::4]), 3))
    return np.clip(corners, -0.5, 0.5).reshape(-1, 3).astype(np.float32), np.arange(3 * count, dtype=np.int32).reshape(
        -1, 3
    )


def barycentrics(points: np.ndarray, corners: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the weights of (..., 3, 2) corners at (..., 2) points, with the operations of the kernels."""
    (ax, ay), (bx, by), (cx, cy) = (np.moveaxis(corners[..., n, :2], -1, 0) for n in range(3))
    px, py = points[..., 0], points[..., 1]
    area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
    u = ((bx - px) * (cy - py) - (by - py) * (cx - px)) / area
    v = ((cx - px) * (ay - py) - (cy - py) * (ax - px)) / area
    return u, v, 1.0 - u - v


def drawn(pixels: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the winners and depths of a `SIDE`² image, testing every pixel against every face."""
    rows, columns = np.mgrid[:SIDE, :SIDE] + 0.5
    points = np.stack([columns, rows], axis=-1)
    depth, winner = np.full((SIDE, SIDE), np.inf), np.full((SIDE, SIDE), -1, np.int32)
    for number, corners in enumerate(pixels[faces]):
        edges = corners[1:, :2] - corners[0, :2]
        if not abs(edges[0, 0] * edges[1, 1] - edges[0, 1] * edges[1, 0]) >= 1e-12:
            continue
        u, v, w = barycentrics(points, corners)
        z = u * corners[0, 2] + v * corners[1, 2] + w * corners[2, 2]
        wins = (u >= 0) & (v >= 0) & (w >= 0) & (z < depth)
        depth[wins], winner[wins] = z[wins], number
    return winner, depth


@pytest.mark.parametrize("stretch", [1.0, 5.0, 1e9])
def test_rows_that_are_cut_at_edges_show_the_same_faces(stretch: float) -> None:
    corners, faces = soup(150, seed=3, size=2.0)
    pixels = (corners.astype(np.float64) * [stretch, stretch, 1.0] + [0.5, 0.5, 0.0]) * [SIDE, SIDE, 1.0]
    depth, winner = np.full((SIDE, SIDE), np.inf), np.full((SIDE, SIDE), -1, np.int32)
    draw_faces(pixels, faces, np.ones(len(faces), bool), None, depth, winner, None)
    expected = drawn(pixels, faces)
    assert (winner >= 0).any()
    assert np.array_equal(winner, expected[0])
    assert np.array_equal(depth, expected[1])


def seen(vertices: np.ndarray, faces: np.ndarray, axes: np.ndarray, winners: np.ndarray, parts: np.ndarray) -> Any:
    """Return the samples visible from any direction, computing the plane in front of each in each direction."""
    points, owners = sample_points(vertices, faces, parts)
    found = np.zeros(len(points), bool)
    for axis, winner in zip(axes, winners, strict=True):
        pixels, places = np.empty((len(vertices), 3)), np.empty((len(points), 3))
        project(vertices, axis, SIDE, EXTENT, pixels)
        project(points, axis, SIDE, EXTENT, places)
        columns, rows = np.clip(np.floor(places[:, :2]).astype(int), 0, SIDE - 1).T
        front = winner[rows, columns]
        padded = np.pad(winner, 1, constant_values=-1)
        around = np.stack([padded[rows + dy, columns + dx] for dy in range(3) for dx in range(3)])
        alone = ((around < 0) | (around == owners)).all(axis=0)
        corners = pixels[faces[front]]
        with np.errstate(invalid="ignore", divide="ignore"):
            u, v, w = barycentrics(places, corners)
        depths = corners[..., 2]
        plane = u * depths[:, 0] + v * depths[:, 1] + w * depths[:, 2]
        plane = np.minimum(np.maximum(plane, depths.min(axis=1)), depths.max(axis=1))
        found |= np.where(front < 0, alone, (front == owners) | (places[:, 2] <= plane + 1e-3))
    return found


@pytest.mark.parametrize(("count", "size"), [(2000, 0.15), (60, 1.0)])
def test_bounds_on_the_front_hide_no_other_samples(count: int, size: float) -> None:
    vertices, faces = soup(count, seed=5, size=size)
    axes = view_axes(6)
    winners = np.full((len(axes), SIDE, SIDE), -1, np.int32)
    for axis, winner in zip(axes, winners, strict=True):
        pixels = np.empty((len(vertices), 3))
        project(vertices, axis, SIDE, EXTENT, pixels)
        draw_faces(pixels, faces, np.ones(count, bool), None, np.full((SIDE, SIDE), np.inf), winner, None)
    parts = count_samples(vertices, faces, 1 / 32, 64)
    found = visible_samples(vertices, faces, parts, axes, winners, EXTENT, 1e-3)
    assert 100 < np.count_nonzero(~found) < len(found) / 2
    assert np.array_equal(found, seen(vertices, faces, axes, winners, parts))


def test_large_triangles_that_repeat_are_drawn_once(monkeypatch: pytest.MonkeyPatch) -> None:
    counts: list[int] = []

    def counted(pixels: Any, faces: np.ndarray, *rest: Any) -> None:
        counts.append(len(faces))
        draw_faces(pixels, faces, *rest)

    monkeypatch.setattr(visibility, "draw_faces", counted)
    mesh = join(box(1.0), box(0.3, cuts=2))
    (vertices, faces), small = mesh, len(box(cuts=2)[1])
    once = frame_visibility(normalize(clip_of([mesh]))[0], 0)
    repeated = frame_visibility(normalize(clip_of([(vertices, np.concatenate([faces[:12]] * 50 + [faces]))]))[0], 0)
    assert set(counts) == {12 + small}
    assert repeated.foreground == once.foreground
    assert once.visible == pytest.approx(1 / (1 + 0.3**2))
    assert repeated.visible == pytest.approx(51 / (51 + 0.3**2))


def test_equal_triangles_of_which_one_is_glass_are_both_drawn() -> None:
    vertices, faces = box(1.0)
    opaque = np.arange(2 * len(faces)) >= len(faces)
    doubled = np.concatenate([faces, faces]).astype(np.int32)
    parts = np.full(len(doubled), 32)
    kept = visibility._without_repeats(vertices.astype(np.float32), doubled, opaque, parts)
    assert kept.tolist() == list(range(len(doubled)))


def test_areas_are_the_same_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    vertices, faces = soup(1000, seed=7)
    whole = areas(vertices[faces])
    monkeypatch.setattr("helix4d.assets.triangles._BLOCK", 7)
    assert np.array_equal(areas(vertices[faces]), whole)
    assert np.array_equal(face_areas(vertices, faces), whole)


def excursion(clip: Clip) -> float:
    """Return `scale_excursion` from all corners and weights at once."""
    corners = np.concatenate([frame.triangles().reshape(-1, 3) for frame in clip.frames]).astype(np.float64)
    weights = np.repeat(np.concatenate([frame.areas for frame in clip.frames]), 3)
    corners, weights = corners[weights > 0], weights[weights > 0]
    sides = []
    for axis in range(3):
        order = np.argsort(corners[:, axis], kind="stable")
        share = np.cumsum(weights[order]) / weights.sum()
        low, high = np.searchsorted(share, [(1 - 0.98) / 2, 1 - (1 - 0.98) / 2])
        sides.append(corners[order[min(high, len(order) - 1)], axis] - corners[order[low], axis])
    whole = (corners.max(axis=0) - corners.min(axis=0)).max()
    return float(whole / max(max(sides), 1e-6 * whole))


def test_scale_excursion_needs_little_memory_and_keeps_its_value() -> None:
    vertices, faces = soup(20_000, seed=11, size=0.05)
    vertices[:300] *= 0.9
    clip = normalize(clip_of([(vertices * scale, faces) for scale in (1.0, 0.9, 0.8, 0.7, 0.6, 0.5)]))[0]
    area = [frame.areas for frame in clip.frames]
    tracemalloc.start()
    found = measures._scale_excursion(clip, area)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found == excursion(clip) > 1.01
    assert peak < 90 * len(faces) * len(clip.frames)  # all corners and weights in float64 took 195 bytes

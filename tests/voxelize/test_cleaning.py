from __future__ import annotations

import numpy as np
import pytest
import trimesh
from hypothesis import given, settings
from hypothesis import strategies as st

from core import ConfigError
from tests.voxelize.meshes import icosphere
from voxelize.cleaning import fill_holes, remove_small_components


@settings(max_examples=25, deadline=None)
@given(st.sets(st.integers(0, 319), max_size=6))
def test_holes_of_a_sphere_are_closed_and_turned_outwards(removed: set[int]) -> None:
    vertices, faces = icosphere(2)
    left = np.delete(faces, sorted(removed), axis=0)
    mesh = trimesh.Trimesh(*fill_holes(vertices.astype(np.float32), left, 10.0), process=False)
    # Holes that touch in a point are left open; every other one is closed.
    touching = any(
        set(faces[a]) & set(faces[b]) and len(set(faces[a]) & set(faces[b])) == 1
        for a in removed
        for b in removed
        if a < b
    )
    assert touching or mesh.is_watertight
    assert mesh.is_winding_consistent
    assert mesh.volume == pytest.approx(trimesh.Trimesh(vertices, faces).volume, rel=0.15)


def test_large_holes_stay_open() -> None:
    vertices, faces = icosphere(3)
    vertices = vertices.astype(np.float32)
    half = faces[vertices[faces].mean(axis=1)[:, 2] > 0]
    filled = fill_holes(vertices, half, 0.5)
    assert len(filled[1]) == len(half)
    assert len(fill_holes(vertices, half, 10.0)[1]) > len(half)
    assert fill_holes(vertices, faces[:0], 1.0)[1].shape == (0, 3)


@settings(deadline=None)
@given(st.floats(0, 1))
def test_small_pieces_go_and_the_largest_stays(share: float) -> None:
    pieces = [icosphere(n)[1] for n in (2, 1, 0)]  # 320, 80 and 20 faces
    offsets = np.cumsum([0] + [int(p.max()) + 1 for p in pieces])
    faces = np.concatenate([p + o for p, o in zip(pieces, offsets, strict=False)]).astype(np.int32)
    kept = remove_small_components(faces, share)
    wanted = 320 + sum(n for n in (80, 20) if n >= share * 420)
    assert len(kept) == wanted
    assert np.array_equal(kept[:320], faces[:320])


def test_a_share_is_between_0_and_1() -> None:
    with pytest.raises(ConfigError, match="between 0 and 1"):
        remove_small_components(icosphere(0)[1], 2.0)

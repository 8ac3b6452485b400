"""One mesh for all frames: followed where it can, refused with the reason where it cannot."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from helix4d.assets import bake
from helix4d.voxelize import dual_grid
from helix4d.voxelize.mesh.baking import BakedMesh, bake_mesh
from helix4d.voxelize.mesh.glb import encode_textures, morph_glb
from helix4d.voxelize.mesh.morph import TopologyChangeError, follow_clip
from helix4d.voxelize.ovoxel import OVoxel
from tests.packages import skip_without
from tests.voxelize.meshes import icosphere, surface

skip_without("xatlas")


def mesh_of(vertices: np.ndarray, faces: np.ndarray, red: int = 200) -> BakedMesh:
    """The surface of an O-Voxel of these triangles, of one color: each has a topology of its own."""
    grid = dual_grid(np.float32(vertices), faces, 32)
    paint = [np.full((len(grid.coords), n), value, np.uint8) for n, value in ((3, red), (1, 0), (1, 128), (1, 255))]
    ovoxel = OVoxel(32, grid.coords, grid.dual_vertices, grid.intersected, *paint)
    return bake_mesh(*surface(ovoxel), ovoxel, 32)


@pytest.fixture(scope="module")
def bending() -> list[BakedMesh]:
    """A ball that grows, is stretched and moves."""
    ball, faces = icosphere(3, 0.3)
    return [
        mesh_of(ball * scale + shift, faces) for scale, shift in ((1, 0), ([1, 1.1, 1.2], 0.03), ([1, 1.3, 1.1], 0.06))
    ]


def test_the_mesh_of_frame_0_follows_other_topologies(bending: list[BakedMesh], tmp_path: Path) -> None:
    assert len({len(mesh.vertices) for mesh in bending}) == 3
    clip = follow_clip(bending)
    assert clip.positions.shape == clip.normals.shape == (3, len(bending[0].vertices), 3)
    assert np.array_equal(clip.positions[0], bending[0].vertices)
    for points, mesh in zip(clip.positions, bending, strict=True):
        assert points.min(axis=0) == pytest.approx(mesh.vertices.min(axis=0), abs=0.01)
        assert points.max(axis=0) == pytest.approx(mesh.vertices.max(axis=0), abs=0.01)
    for meshopt in (False, True):
        path = tmp_path / f"{meshopt}.glb"
        path.write_bytes(morph_glb(clip, encode_textures(clip.mesh), 8.0, meshopt))
        read = bake(path, 4)
        assert read.times[-1] == pytest.approx(3 / 8)
        for number, points in enumerate([*clip.positions, clip.positions[-1]]):
            frame = read.frames[number]
            assert len(frame.vertices) == len(points)
            corners = frame.vertices[frame.faces]
            assert np.sort(corners.mean(axis=1), axis=0) == pytest.approx(
                np.sort(points[clip.mesh.faces].mean(axis=1), axis=0), abs=1e-4
            )
    sizes = [(tmp_path / f"{meshopt}.glb").stat().st_size for meshopt in (False, True)]
    assert sizes[1] < 0.6 * sizes[0]


def test_a_clip_that_one_mesh_cannot_be_is_refused(bending: list[BakedMesh]) -> None:
    ball, faces = icosphere(3, 0.15)
    one = mesh_of(ball, faces)
    pair = np.concatenate([ball - np.float32([0.2, 0, 0]), ball + np.float32([0.2, 0, 0])])
    two = mesh_of(pair, np.concatenate([faces, faces + len(ball)]))
    with pytest.raises(TopologyChangeError, match=r"frame 1: the .* away in the mean .* the limits are 0\.0020"):
        follow_clip([one, two])
    with pytest.raises(TopologyChangeError, match=re.escape("frames [1] have no surface")):
        follow_clip([one, None])
    painted = replace(one, base_color=np.full_like(one.base_color, 90))
    with pytest.raises(TopologyChangeError, match=r"frame 1: its colors differ from those of frame 0 by 110\.0 of 255"):
        follow_clip([one, painted])
    assert isinstance(io.BytesIO(morph_glb(follow_clip([one]), encode_textures(one), 8.0)).read(), bytes)

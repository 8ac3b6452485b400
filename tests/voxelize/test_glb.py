from __future__ import annotations

import io
import json
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helix4d.assets import AlphaMode, bake
from helix4d.core import ConfigError
from helix4d.voxelize.mesh.baking import bake_mesh, sample_attributes
from helix4d.voxelize.mesh.cleaning import vertex_normals
from helix4d.voxelize.mesh.glb import TextureFormat, clip_glb, encode_textures, frame_glb
from helix4d.voxelize.mesh.nearest import Surface
from tests.packages import needs, skip_without
from tests.voxelize.meshes import icosphere, painted_sphere, surface

skip_without("xatlas")


def read_json(data: bytes) -> dict:
    (length,) = struct.unpack("<I", data[12:16])
    document: dict = json.loads(data[20 : 20 + length])
    return document


def test_texels_match_the_voxels_under_them() -> None:
    ovoxel = painted_sphere()
    vertices, faces = surface(ovoxel)
    mesh = bake_mesh(vertices, faces, ovoxel, 256)
    assert len(mesh.faces) == len(faces)
    rng = np.random.default_rng(0)
    chosen = mesh.faces[rng.integers(0, len(faces), 500)]
    weights = rng.dirichlet([1, 1, 1], 500)
    points = np.einsum("fc,fcx->fx", weights, mesh.vertices[chosen].astype(np.float64))
    uvs = np.einsum("fc,fcx->fx", weights, mesh.uvs[chosen].astype(np.float64))
    column, row = (np.clip(uvs * 256, 0, 255).astype(int)).T
    seen = mesh.base_color[row, column, :3] / 255
    assert np.abs(seen - (points + 0.5)).max() < 0.06
    assert (mesh.base_color[..., 3] == 255).all()
    assert mesh.alpha.mode is AlphaMode.OPAQUE
    assert set(np.unique(mesh.metallic_roughness[row, column, 1])) == {127}
    assert set(np.unique(mesh.metallic_roughness[row, column, 2])) == {51}


@pytest.mark.parametrize("size", [32, 100, 512])
def test_no_texel_is_left_black_at_any_size(size: int) -> None:
    """Charts smaller than a texel, space between charts, and sizes that are not powers of two."""
    ovoxel = painted_sphere()
    mesh = bake_mesh(*surface(ovoxel), ovoxel, size)
    assert set(np.unique(mesh.metallic_roughness[..., 1])) == {127}
    assert set(np.unique(mesh.metallic_roughness[..., 2])) == {51}
    column, row = np.clip(mesh.uvs * size, 0, size - 1).astype(int).T
    error = np.abs(mesh.base_color[row, column, :3] / 255 - (mesh.vertices + 0.5)).max(axis=1)
    # A texture too small for its charts shows neighbors, but never nothing.
    assert np.median(error) < {32: 0.1, 100: 0.04, 512: 0.02}[size]
    assert mesh.base_color[..., :3].max(axis=2).min() > 60


@needs("trimesh")
def test_other_readers_agree_on_the_file(tmp_path: Path) -> None:
    import trimesh

    ovoxel = painted_sphere()
    vertices, faces = surface(ovoxel)
    data = frame_glb(encode_textures(bake_mesh(vertices, faces, ovoxel, 128)))
    scene = trimesh.load(io.BytesIO(data), file_type="glb")
    (mesh,) = scene.geometry.values()
    assert mesh.area == pytest.approx(trimesh.Trimesh(vertices, faces).area, rel=1e-4)
    assert mesh.visual.material.baseColorTexture.size == (128, 128)
    path = tmp_path / "frame.glb"
    path.write_bytes(data)
    again = frame_glb(encode_textures(bake_mesh(vertices, faces, ovoxel, 128)))
    assert data == again, "the same call must produce the same file"


def test_a_clip_shows_one_frame_at_a_time(tmp_path: Path) -> None:
    """Our own reader, in the middle of every frame: one frame's surface, with the others shrunk to a point."""
    meshes = []
    for radius in (0.2, 0.3, 0.4):
        vertices, faces = icosphere(2, radius)
        ovoxel = painted_sphere(radius=radius)
        meshes.append(bake_mesh(vertices.astype(np.float32), faces, ovoxel, 32))
    path = tmp_path / "clip.glb"
    one, two, three = (encode_textures(mesh) for mesh in meshes)
    path.write_bytes(clip_glb([one, None, two, three], fps=8))
    document = read_json(path.read_bytes())
    assert len(document["meshes"]) == 3
    assert {s["interpolation"] for s in document["animations"][0]["samplers"]} == {"STEP"}
    clip = bake(path, frames=9)
    assert clip.times[-1] == pytest.approx(0.5)
    for moment, radius in ((1, 0.2), (3, 0.0), (5, 0.3), (7, 0.4), (8, 0.4)):
        positions = clip.frames[moment].vertices
        assert np.linalg.norm(positions, axis=1).max(initial=0) == pytest.approx(radius, abs=0.01)


@needs("meshoptimizer")
def test_compressed_files_are_smaller_and_say_the_same(tmp_path: Path) -> None:
    """Geometry by meshopt, textures as WebP: our reader gets the same surface and nearly the same colors."""
    ovoxel = painted_sphere()
    mesh = bake_mesh(*surface(ovoxel), ovoxel, 256)
    clips, sizes = [], []
    for kind, meshopt in ((TextureFormat.PNG, False), (TextureFormat.PNG, True), (TextureFormat.WEBP, True)):
        path = tmp_path / f"{kind}_{meshopt}.glb"
        path.write_bytes(clip_glb([encode_textures(mesh, None, kind)], 8.0, meshopt))
        clips.append(bake(path, 2))
        sizes.append(len(path.read_bytes()))
    assert sizes[1] < 0.6 * sizes[0]
    assert sizes[2] < sizes[1]
    plain, packed, lossy = (clip.frames[0].vertices[clip.frames[0].faces] for clip in clips)
    assert len(plain) == len(packed)
    near = Surface.build(clips[0].frames[0].vertices, clips[0].frames[0].faces)
    assert np.abs(near.nearest(packed.reshape(-1, 3))[0] - packed.reshape(-1, 3)).max() < 5e-5
    assert np.array_equal(packed, lossy)
    color, surface_image = (np.abs(a.astype(int) - b) for a, b in zip(clips[0].images, clips[2].images, strict=True))
    assert color.mean() < 4
    assert surface_image.max() == 0


def test_invalid_arguments_are_refused() -> None:
    with pytest.raises(ConfigError, match="expected a mesh and a positive rate"):
        clip_glb([None, None], 8)
    ovoxel = painted_sphere(16)
    with pytest.raises(ConfigError, match="have no voxel within 8 voxels"):
        bake_mesh(*icosphere(2, 0.1), painted_sphere(64), 64)
    with pytest.raises(ConfigError, match="cannot bake"):
        bake_mesh(np.zeros((0, 3), np.float32), np.zeros((0, 3), np.int32), ovoxel, 64)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31))
def test_sampling_stays_between_the_voxels_values_and_hits_them_at_their_centers(seed: int) -> None:
    ovoxel = painted_sphere(16)
    values = np.random.default_rng(seed).uniform(0, 255, (len(ovoxel), 2)).astype(np.float32)
    centers = ((ovoxel.coords + 0.5) / 16 - 0.5).astype(np.float32)
    assert np.allclose(sample_attributes(centers, ovoxel, values), values, atol=1e-2)
    moved = centers + np.random.default_rng(seed).uniform(-0.5, 0.5, centers.shape).astype(np.float32) / 16
    sampled = sample_attributes(moved, ovoxel, values)
    assert sampled.min() >= values.min() - 1e-3
    assert sampled.max() <= values.max() + 1e-3


def test_normals_of_a_sphere_point_outwards() -> None:
    vertices, faces = icosphere(3)
    normals = vertex_normals(vertices, faces)
    assert (np.einsum("vx,vx->v", normals, vertices / np.linalg.norm(vertices, axis=1, keepdims=True)) > 0.99).all()
    assert np.allclose(np.linalg.norm(normals, axis=1), 1, atol=1e-5)

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save

from helix4d.assets import AlphaMode, Clip, Frame, Material, Texture, Topology, Wrap
from helix4d.core import FormatError


def make_clip() -> Clip:
    rng = np.random.default_rng(0)
    topology = Topology(
        faces=np.array([[0, 1, 2], [2, 1, 3]], np.int32),
        uvs=rng.random((1, 2, 3, 2), np.float32),
        material_ids=np.array([0, 1], np.int32),
        colors=rng.random((2, 3, 4), np.float32),
    )
    frames = tuple(
        Frame(rng.random((4, 3), np.float32), np.tile(np.float32([0, 0, 1]), (4, 1)), topology) for _ in range(3)
    )
    texture = Texture(0, wrap_u=Wrap.CLAMP, offset=(0.25, 0.5), rotation=0.3, scale=(2.0, 3.0))
    materials = (Material(), Material(name="glass", base_color_texture=texture, alpha_mode=AlphaMode.BLEND))
    images = (rng.integers(0, 255, (4, 8, 4), np.uint8),)
    return Clip("walk", 2, np.array([0.0, 0.5, 1.0]), frames, materials, images, {"author": "é"}, ("a warning",))


def test_a_clip_survives_saving_and_loading(tmp_path: Path) -> None:
    clip = make_clip()
    clip.save(tmp_path / "clip.safetensors")
    again = Clip.load(tmp_path / "clip.safetensors")
    assert (again.name, again.index, again.extras, again.warnings) == ("walk", 2, {"author": "é"}, ("a warning",))
    assert again.materials == clip.materials
    np.testing.assert_array_equal(again.times, clip.times)
    np.testing.assert_array_equal(again.images[0], clip.images[0])
    for ours, theirs in zip(clip.frames, again.frames, strict=True):
        np.testing.assert_array_equal(ours.vertices, theirs.vertices)
        np.testing.assert_array_equal(ours.topology.colors, theirs.topology.colors)
    assert again.frames[0].topology is again.frames[2].topology


def test_saving_is_deterministic(tmp_path: Path) -> None:
    make_clip().save(tmp_path / "a")
    make_clip().save(tmp_path / "b")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_loading_another_file_raises_a_format_error(tmp_path: Path) -> None:
    path = tmp_path / "clip.safetensors"
    path.write_bytes(b"not a clip")
    with pytest.raises(FormatError, match="not a Helix4D clip"):
        Clip.load(path)


@pytest.mark.parametrize("missing", ["topology_0.uvs", "frame_0001.normals", "materials", "frame_topologies"])
def test_loading_an_incomplete_clip_raises_a_format_error(tmp_path: Path, missing: str) -> None:
    path = tmp_path / "clip.safetensors"
    make_clip().save(path)
    with safe_open(str(path), "numpy") as reader:
        header = json.loads(reader.metadata()["helix4d_clip"])
        tensors = {name: reader.get_tensor(name) for name in reader.keys() if name != missing}  # noqa: SIM118
    if missing in header:
        del header[missing]
    path.write_bytes(save(tensors, {"helix4d_clip": json.dumps(header)}))
    with pytest.raises(FormatError, match="damaged"):
        Clip.load(path)


def test_bounds_ignore_vertices_that_no_triangle_uses() -> None:
    clip = make_clip()
    stray = [np.concatenate([f.vertices, np.float32([[100, 100, 100]])]) for f in clip.frames]
    normals = np.tile(np.float32([0, 0, 1]), (5, 1))
    frames = tuple(replace(f, vertices=v, normals=normals) for f, v in zip(clip.frames, stray, strict=True))
    np.testing.assert_array_equal(replace(clip, frames=frames).bounds(), clip.bounds())


def test_texture_matrix_follows_the_specification() -> None:
    # KHR_texture_transform: scale first, then rotate, then offset.
    matrix = Texture(0, offset=(0.1, 0.2), rotation=np.pi / 2, scale=(2.0, 3.0)).matrix()
    np.testing.assert_allclose(matrix @ [1.0, 0.0, 1.0], [0.1, 0.2 - 2.0], atol=1e-12)
    np.testing.assert_allclose(matrix @ [0.0, 1.0, 1.0], [0.1 + 3.0, 0.2], atol=1e-12)


def test_arrays_of_the_wrong_type_are_refused() -> None:
    topology = make_clip().frames[0].topology
    with pytest.raises(ValueError, match="vertices: expected float32"):
        Frame(np.zeros((4, 3)), np.zeros((4, 3), np.float32), topology)  # float64

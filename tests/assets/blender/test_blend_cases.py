"""Blender files of others that were once read wrongly: each gives the right answer of their index."""

from __future__ import annotations

import numpy as np
import pytest

from helix4d.assets import Clip, check_clip
from helix4d.core import AssetError, ReasonCode
from tests.assets.in_process import bake
from tests.conftest import CASES, NO_CASES

pytestmark = pytest.mark.skipif(not (CASES / "files").is_dir(), reason=NO_CASES)


def bake_case(name: str, frames: int = 3) -> Clip:
    clip = bake(CASES / "files" / name, frames)
    check_clip(clip)
    return clip


def test_a_uv_map_node_names_the_layer() -> None:
    clip = bake_case("blend_uvnode.blend")
    texture = clip.materials[0].base_color_texture
    assert texture is not None
    np.testing.assert_allclose(clip.frames[0].topology.uvs[texture.uv_set], 0.25, atol=1e-6)


def test_the_shader_that_drives_the_output_is_read() -> None:
    (material,) = bake_case("blend_diffuse.blend").materials
    assert material.base_color == (1, 0, 0)
    assert material.base_color_texture is None


def test_instances_of_a_collection_are_shown() -> None:
    clip = bake_case("blend_collinst.blend")
    assert [len(frame.faces) for frame in clip.frames] == [36, 36, 36]
    first, last = (frame.triangles().reshape(3, -1, 3) for frame in (clip.frames[0], clip.frames[-1]))
    rise = (last - first)[..., 2]
    np.testing.assert_allclose(rise, np.broadcast_to([[1], [2], [3]], rise.shape), atol=1e-6)


def test_levels_and_visibility_are_those_of_a_render() -> None:
    clip = bake_case("blend_render_levels.blend")
    assert [len(frame.faces) for frame in clip.frames] == [12 + 768 + 12] * 3
    corners = clip.frames[0].triangles().reshape(-1, 3)
    assert (np.abs(corners - [0, -4, 0]).max(axis=1) <= 0.5 + 1e-6).sum() == 36


def test_a_file_of_a_newer_blender_is_said_to_be_that() -> None:
    with pytest.raises(AssetError, match="was written by a newer Blender") as caught:
        bake_case("blend_newer_version_message.blend")
    assert caught.value.code is ReasonCode.UNSUPPORTED_VERSION
    assert "/" not in str(caught.value)
    assert str(caught.value).count("blend_newer_version_message") == 1

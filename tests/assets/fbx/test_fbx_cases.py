"""FBX files of others that were once read wrongly: each gives the right answer of their index."""

from __future__ import annotations

import numpy as np
import pytest

from helix4d.assets import AlphaMode, Clip, bake, check_clip, list_clips
from tests.conftest import CASES, NO_CASES

pytest.importorskip("ufbx", reason="ufbx is not installed (extra 'curate')")
pytestmark = pytest.mark.skipif(not (CASES / "files").is_dir(), reason=NO_CASES)


def bake_case(name: str, frames: int = 3) -> Clip:
    clip = bake(CASES / "files" / name, frames)
    check_clip(clip)
    return clip


def test_a_take_with_a_long_name_is_one_clip() -> None:
    assert len(list_clips(CASES / "files" / "fbx_long_take_name_two_objects.fbx")) == 1
    clip = bake_case("fbx_long_take_name_two_objects.fbx")
    moved = clip.frames[-1].vertices - clip.frames[0].vertices
    distinct = np.unique(np.round(moved, 3), axis=0)
    np.testing.assert_allclose(distinct, [[0, 0, 4], [2, 0, 0]], atol=1e-3)


def test_an_image_in_another_folder_of_the_archive_is_found() -> None:
    clip = bake_case("zip_fbx_sketchfab_layout.zip")
    assert len(clip.images) == 1
    assert clip.materials[0].base_color == (1, 1, 1)
    assert clip.materials[0].base_color_texture is not None
    assert not clip.warnings


def test_textures_are_tiled() -> None:
    texture = bake_case("fbx_texture_tiling.fbx").materials[0].base_color_texture
    assert texture is not None
    assert texture.scale == pytest.approx((4, 4))
    u, v = texture.matrix() @ [0.0, 1.0, 1.0]  # the origin, where v points up
    assert (u, 1.0 - v) == pytest.approx((0.25, 0.5))


def test_a_separate_opacity_map_hides_the_cube() -> None:
    clip = bake_case("fbx_separate_opacity_map.fbx")
    assert len(clip.frames[0].faces) == 12
    assert clip.frames[0].vertices[clip.frames[0].faces][..., 2].min() > 2  # only `solid` is left
    assert any("surfaces whose alpha makes them invisible everywhere" in warning for warning in clip.warnings)


def test_vertices_have_colors() -> None:
    colors = bake_case("fbx_vertex_colors.fbx").frames[0].topology.colors
    assert colors is not None
    np.testing.assert_array_equal(colors, np.broadcast_to([1, 0, 0, 1], colors.shape).astype(np.float32))


def test_a_transparent_color_without_a_factor_is_opaque() -> None:
    (material,) = bake_case("fbx_transparentcolor_invisible.fbx").materials
    assert material.alpha_mode is AlphaMode.OPAQUE
    assert material.alpha == 1
    assert material.base_color[2] > max(material.base_color[:2])

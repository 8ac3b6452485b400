"""Regression tests: third-party files that were once read incorrectly give the results that their index expects."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from helix4d.assets import Clip, bake, bake_still, check_clip, motion, normalize
from helix4d.core import AssetError, ReasonCode
from helix4d.render import Lights, PointLight, RenderSettings, sample_cameras
from helix4d.render.cycles.engine import render_views
from helix4d.voxelize import OVoxel, voxelize_clip
from tests.conftest import CASES, NO_CASES

pytestmark = pytest.mark.skipif(not (CASES / "files").is_dir(), reason=NO_CASES)


def _bake(name: str, frames: int = 2) -> Clip:
    return bake(CASES / "files" / name, frames)


def _voxels(clip: Clip) -> OVoxel:
    return voxelize_clip(normalize(clip)[0], 32, device="cpu")[0]


def _warning_with_memory_address() -> None:
    first, second = (_bake("warning_with_memory_address.glb").warnings for _ in range(2))
    assert first == second
    assert "0x" not in first[0]


def _draco_uv() -> None:
    clip = _bake("draco_uv_u16_normalized.glb")
    assert (clip.frames[0].topology.uvs.min(), clip.frames[0].topology.uvs.max()) == (0, 1)
    colors = {tuple(color) for color in (_voxels(clip).base_color // 128).tolist()}
    assert len(colors) >= 4


def _draco_position() -> None:
    clip = _bake("draco_position_i16_normalized.glb")
    ranges = [[frame.vertices[:, 0].min(), frame.vertices[:, 0].max()] for frame in clip.frames]
    np.testing.assert_allclose(ranges, [[1.5, 2.5], [4.5, 5.5]], atol=1e-4)
    assert motion(clip) == pytest.approx(0.70711, abs=1e-4)


def _pointer() -> None:
    assert _bake("pointer_one_weight.glb").frames[-1].vertices[:, 2].max() == pytest.approx(2.5)


def _jpeg() -> None:
    clip = _bake("jpeg_without_eoi.glb")
    assert not clip.warnings
    assert clip.images[0][..., :3].std() > 1


def _morph_color() -> None:
    colors = [frame.topology.colors for frame in _bake("morph_color_target.glb").frames]
    for found, expected in zip(colors, ([1, 0, 0], [0, 1, 0]), strict=True):
        assert found is not None
        np.testing.assert_allclose(found[..., :3], np.broadcast_to(expected, found[..., :3].shape), atol=1e-6)


def _nearest() -> None:
    clip = _bake("sampler_nearest.glb")
    texture = clip.materials[0].base_color_texture
    assert texture is not None
    assert texture.nearest
    texels = {tuple(color) for color in clip.images[0][..., :3].reshape(-1, 3).tolist()}
    colors = [tuple(color) for color in _voxels(clip).base_color.tolist()]
    assert np.mean([color in texels for color in colors]) > 0.5


def _only_invisible() -> None:
    with pytest.raises(AssetError) as caught:
        _bake("only_invisible_surface_moves.glb")
    assert caught.value.code is ReasonCode.NO_MOTION


def _invisible_dwarfs() -> None:
    clip = _bake("invisible_surface_dwarfs_object.glb")
    unit = normalize(clip)[0].frames[0].triangles()
    assert np.ptp(unit[..., 2]) == pytest.approx(0.5, abs=0.01)  # a cube of 1 that moves by 1


def _empty_node() -> None:
    times = _bake("empty_node_stretches_time.glb", 16).times
    assert (times[0], times[-1]) == (5, 7)


def _loop() -> None:
    check_clip(_bake("loop_aliases_to_no_motion.glb", 16))


def _empty_accessor() -> None:
    assert _bake("empty_accessor_unused.glb").warnings == ()


def _unlit() -> None:
    assert _voxels(_bake("unlit_is_metal_in_voxels.glb")).metallic.max() == 0


def _outline() -> None:
    """An orange cube: its black hull is a rim around the picture, and is not in the voxels."""
    clip = _bake("inverted_hull_outline.glb")
    assert [material.outline for material in clip.materials] == [False, True]
    assert np.abs(_voxels(clip).base_color - np.array([0.9, 0.6, 0.2]) * 255).max() <= 1
    (camera,) = sample_cameras(0, "outline", 1, 64)
    light = Lights((PointLight(tuple(map(float, camera.position)), 1.0),), 0.5)
    (image,) = render_views(normalize(clip)[0], [camera], [light], RenderSettings(64, samples=16, device="cpu"), [0])
    red, _, blue, _ = np.moveaxis(image.rgba[image.rgba[..., 3] == 255].astype(int), 1, 0)
    assert np.mean((red > 100) & (red > 1.5 * blue)) > 0.7
    assert np.mean(red < 60) > 0.02


def _unaligned() -> None:
    clip = bake_still(CASES / "files" / "glb_unaligned_json_chunk.glb")
    np.testing.assert_allclose(clip.bounds(), [[-1] * 3, [1] * 3], atol=1e-5)


CHECKS = (
    _warning_with_memory_address,
    _draco_uv,
    _draco_position,
    _pointer,
    _jpeg,
    _morph_color,
    _nearest,
    _only_invisible,
    _invisible_dwarfs,
    _empty_node,
    _loop,
    _empty_accessor,
    _unlit,
    _outline,
    _unaligned,
)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__.strip("_"))
def test_a_file_gives_the_expected_result(check: Callable[[], None]) -> None:
    check()

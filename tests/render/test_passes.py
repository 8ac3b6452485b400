"""Depth and normals of known geometry, and the conventions of their files."""

from __future__ import annotations

import errno
import io
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from helix4d.assets import Clip, Material
from helix4d.core import FormatError
from helix4d.render import Lights, RenderSettings, orbit_camera, project
from helix4d.render.cycles.engine import render_views
from helix4d.render.scene.images import RenderedImage
from helix4d.render.scene.passes import DEPTH_SCALE, decode_depth, decode_normal, encode_depth, encode_normal
from tests.mounts import mounted, needs_mounts
from tests.render.clips import box, clip, empty_frame, sphere

SIZE = 64
SETTINGS = RenderSettings(image_size=SIZE, samples=4, denoise=False, device="cpu", passes=True)
EVEN = Lights((), 1.5)


def picture(shape: Clip, azimuth: float = -90.0, elevation: float = 0.0, **changes: object) -> RenderedImage:
    camera = orbit_camera(azimuth, elevation, SIZE, 40.0, 2.5)
    (image,) = render_views(shape, [camera], [EVEN], replace(SETTINGS, **changes), [0])
    assert image.depth is not None
    assert image.normal is not None
    return image


def test_a_wall_has_one_depth_and_one_normal() -> None:
    """Depth is measured along the camera's axis, not along the ray, so the front of the box has one depth."""
    image = picture(clip([box()], [Material()]))
    inside = image.rgba[..., 3] == 255
    assert np.allclose(image.depth[inside], 2.0, atol=1e-4)
    assert np.allclose(image.normal[inside], (0, -1, 0), atol=1e-4)
    outside = image.rgba[..., 3] == 0
    assert (image.depth[outside] == 0).all()
    assert (image.normal[outside] == 0).all()


def test_points_come_back_from_depth_and_camera() -> None:
    """Unprojected pixels of a sphere are on it, and normals point away from its center."""
    camera = orbit_camera(35.0, 25.0, SIZE, 40.0, 2.5)
    image = picture(clip([sphere(0.45)], [Material()]), 35.0, 25.0)
    rows, columns = np.nonzero(image.rgba[..., 3] == 255)
    depth = image.depth[rows, columns]
    rays = np.linalg.inv(camera.intrinsics) @ np.stack([columns + 0.5, rows + 0.5, np.ones(len(rows))])
    points = (np.linalg.inv(camera.extrinsics) @ np.vstack([rays * depth, np.ones(len(rows))]))[:3].T
    # A pixel's depth is that of one of its own points: at grazing angles half a pixel is a long way.
    radius = np.linalg.norm(points, axis=1)
    assert np.median(np.abs(radius - 0.45)) < 0.005
    facing = np.einsum("nk,nk->n", image.normal[rows, columns], points / radius[:, None])
    assert np.median(facing) > 0.999
    pixels, depths = project(camera, points)
    assert np.allclose(pixels, np.stack([columns + 0.5, rows + 0.5], axis=1), atol=1e-3)
    assert np.allclose(depths, depth, atol=1e-4)


def test_passes_change_no_color() -> None:
    shape = clip([sphere(0.45)], [Material()])
    (plain,) = render_views(
        shape, [orbit_camera(-90, 0, SIZE, 40.0, 2.5)], [EVEN], RenderSettings(SIZE, 4, False, device="cpu"), [0]
    )
    assert plain.depth is None
    assert np.array_equal(picture(shape).rgba, plain.rgba)


def test_an_empty_frame_has_empty_passes() -> None:
    nothing = Clip("", 0, np.zeros(1), (empty_frame(),), (Material(),))
    (image,) = render_views(nothing, [orbit_camera(-90, 0, SIZE)], [EVEN], SETTINGS)
    assert not image.depth.any()  # type: ignore[union-attr]
    assert image.normal.shape == (SIZE, SIZE, 3)  # type: ignore[union-attr]


@given(st.integers(0, 2**31))
def test_files_keep_sixteen_bits(seed: int) -> None:
    rng = np.random.default_rng(seed)
    depth = rng.uniform(0, 15.9, (7, 9)).astype(np.float32)
    depth[0] = 0
    back = decode_depth(encode_depth(depth))
    assert np.abs(back - depth).max() <= 0.5 / DEPTH_SCALE + 1e-6
    assert (back[0] == 0).all()
    normal = rng.normal(size=(5, 4, 3))
    normal = (normal / np.linalg.norm(normal, axis=2, keepdims=True)).astype(np.float32)
    assert np.abs(decode_normal(encode_normal(normal)) - normal).max() < 5e-4
    assert encode_normal(normal) == encode_normal(normal)


def test_other_files_are_refused() -> None:
    stream = io.BytesIO()
    Image.new("RGB", (4, 4)).save(stream, "PNG")
    for data in (stream.getvalue(), b"nothing"):
        with pytest.raises(FormatError, match="not a depth image"):
            decode_depth(data)
        with pytest.raises(FormatError, match="not an OpenEXR file"):
            decode_normal(data)


def test_damaged_normals_are_refused_without_other_output(capfd: pytest.CaptureFixture[str]) -> None:
    """OpenEXR prints what it finds, with the name of the temporary file; that becomes part of the error."""
    whole = encode_normal(np.random.default_rng(0).normal(size=(40, 40, 3)))
    capfd.readouterr()
    damaged = [whole[:length] for length in (4, 50, 300, len(whole) // 2, len(whole) - 1)]
    for place in range(400, len(whole), len(whole) // 20):
        damaged.append(whole[:place] + bytes(64) + whole[place + 64 :])
    messages = []
    for data in damaged * 2:
        with pytest.raises(FormatError, match=r"not an OpenEXR file \(.") as caught:
            decode_normal(data)
        messages.append(str(caught.value))
    assert messages[: len(damaged)] == messages[len(damaged) :]
    assert not [message for message in messages if "/" in message or "helix4d-" in message]
    assert capfd.readouterr() == ("", "")


@needs_mounts
def test_a_full_temporary_folder_is_a_storage_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with mounted(tmp_path / "small", "-t", "tmpfs", "-o", "size=16k", "tmpfs"):
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "small"))
        with pytest.raises(OSError, match="No space left on device") as caught:
            encode_normal(np.random.default_rng(0).normal(size=(64, 64, 3)))
        assert caught.value.errno == errno.ENOSPC
        with pytest.raises(OSError, match="No space left on device"):
            decode_normal(bytes(100_000))

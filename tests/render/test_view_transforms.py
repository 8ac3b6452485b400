"""The transfer function of sRGB, and Blender's Filmic against what Blender itself stores."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from helix4d.core import ConfigError
from helix4d.render import RenderSettings
from helix4d.render.scene.view_transforms import ViewTransform, linear_to_srgb, to_display, white


def test_the_transfer_function_matches_the_standard() -> None:
    np.testing.assert_allclose(
        linear_to_srgb(np.array([-1.0, 0.0, 0.0031308, 0.214041, 1.0, 7.0])), [0, 0, 0.04045, 0.5, 1, 1], atol=1e-5
    )


@pytest.mark.parametrize(("name", "transform"), [("Filmic", "filmic"), ("Standard", "standard")])
def test_both_store_what_blender_stores(name: str, transform: str, tmp_path: Path) -> None:
    """4,096 colors from 2^-13 to 2^6, an eighth of them gray."""
    bpy = pytest.importorskip("bpy")
    linear = np.exp2(np.random.default_rng(0).uniform(-13, 6, (64, 64, 3)))
    linear[:8] = linear[:8, :, :1]
    linear[0, :2] = [[0.0] * 3, [1.0] * 3]
    bpy.ops.wm.read_factory_settings(use_empty=True)
    scene = bpy.context.scene
    scene.view_settings.view_transform, scene.view_settings.look = name, "None"
    settings = scene.render.image_settings
    settings.file_format, settings.color_depth, settings.color_mode = "PNG", "16", "RGB"
    image = bpy.data.images.new("colors", 64, 64, float_buffer=True)
    pixels = np.ones((64, 64, 4), np.float32)
    pixels[..., :3] = linear
    image.pixels.foreach_set(pixels.ravel())
    image.save_render(str(tmp_path / "stored.png"), scene=scene)
    stored = bpy.data.images.load(str(tmp_path / "stored.png"))
    stored.colorspace_settings.name = "Non-Color"
    found = np.empty(pixels.size, np.float32)
    stored.pixels.foreach_get(found)
    expected = found.reshape(pixels.shape)[..., :3]
    np.testing.assert_allclose(to_display(linear, transform), expected, atol=0.1 / 255)  # type: ignore[arg-type]


def test_filmic_white_is_sixteen_times_as_bright() -> None:
    assert white("standard") == 1.0
    assert white("filmic") == pytest.approx(16.2917, abs=1e-3)
    assert to_display(np.full((1, 3), white("filmic")), "filmic").min() > 0.99


@pytest.mark.parametrize("transform", ["standard", "filmic"])
def test_rounding_below_zero_is_black(transform: ViewTransform) -> None:
    found = to_display(np.array([[-1e-3, -1e-12, 0.5], [0.0, 0.0, 0.5]]), transform)
    np.testing.assert_array_equal(found[0], found[1])


def test_unknown_view_transforms_and_missing_tables_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="expected one of standard, filmic"):
        RenderSettings(view_transform="agx")  # type: ignore[arg-type]
    from helix4d.render.scene import view_transforms

    view_transforms._filmic_tables.cache_clear()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="curate"):
        RenderSettings(view_transform="filmic")

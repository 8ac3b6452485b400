"""What the settings `auto` choose for a clip, by its materials alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from helix4d.assets import Clip, Material
from helix4d.render import PRESETS, TRELLIS2, Lights, RenderSettings, orbit_camera
from helix4d.render.cycles import engine, materials
from tests.render.clips import box, clip, quad, sphere

MATTE = Material(metallic=0.0, roughness=1.0)
GLASS = Material(metallic=0.0, roughness=0.1, transmission=1.0, thickness=0.1)
UNLIT = Material(unlit=True, base_color=(0.2, 0.4, 0.8))
FRONT = orbit_camera(-90.0, 0.0, 48, fov_deg=40.0, radius=3.0)
QUICK = RenderSettings(image_size=48, samples=4, device="cpu")


def ball(*own: Material) -> Clip:
    """A ball of the first material and a box around its foot of each other one."""
    parts = [sphere(0.3, segments=16), *(box((-0.4, -0.4, -0.4), (0.4, 0.4, -0.3)) for _ in own[1:])]
    return clip(parts, own)


@pytest.mark.parametrize("name", ["draft", "train"])
def test_guides_are_filtered_for_clips_with_glass(name: str) -> None:
    settings = PRESETS[name]  # type: ignore[index]
    assert settings.for_clip(ball(MATTE)).denoise_prefilter == "none"
    assert settings.for_clip(ball(MATTE, GLASS)).denoise_prefilter == "fast"
    assert settings.for_clip(ball(MATTE, UNLIT)) == replace(settings, denoise_prefilter="none")


def test_clips_without_lit_materials_are_not_denoised() -> None:
    assert not QUICK.for_clip(ball(UNLIT)).denoise
    assert not QUICK.for_clip(ball(UNLIT, replace(UNLIT, base_color=(1.0, 0.0, 0.0)))).denoise
    assert QUICK.for_clip(ball(UNLIT, MATTE)).denoise
    assert not replace(QUICK, denoise=False).for_clip(ball(MATTE)).denoise


def test_materials_without_faces_do_not_count() -> None:
    assert QUICK.for_clip(clip([sphere()], [MATTE, GLASS], ids=[0])).denoise_prefilter == "none"
    assert not QUICK.for_clip(clip([sphere()], [UNLIT, MATTE], ids=[0])).denoise


def test_a_material_of_a_later_frame_counts() -> None:
    early, late = clip([sphere()], [MATTE, GLASS], ids=[0]), clip([sphere()], [MATTE, GLASS], ids=[1])
    both = replace(early, frames=(early.frames[0], late.frames[0]), times=np.arange(2.0))
    assert QUICK.for_clip(both).denoise_prefilter == "fast"


def test_explicit_settings_are_kept() -> None:
    for prefilter in ("none", "fast", "accurate"):
        settings = replace(QUICK, denoise_prefilter=prefilter)
        assert settings.for_clip(ball(MATTE, GLASS)) == settings
    assert TRELLIS2.for_clip(ball(GLASS)) == TRELLIS2


@pytest.mark.parametrize(
    ("own", "expected"),
    [
        ((MATTE,), {"denoise_prefilter": "none"}),
        ((MATTE, GLASS), {"denoise_prefilter": "fast"}),
        ((UNLIT,), {"denoise": False}),
    ],
)
def test_images_are_those_of_the_chosen_settings(own: tuple[Material, ...], expected: dict[str, object]) -> None:
    """They depend on clip and settings alone: they are the same on any number of threads, also after another clip."""
    shown, lights = ball(*own), Lights((), 1.5)

    def render(settings: RenderSettings) -> np.ndarray:
        return next(iter(engine.render_views(shown, [FRONT], [lights], settings))).rgba

    chosen = render(QUICK)
    np.testing.assert_array_equal(chosen, render(replace(QUICK, threads=1, **expected)))  # type: ignore[arg-type]
    other = {"denoise_prefilter": "none" if GLASS in own else "fast"}
    if UNLIT not in own:
        assert (chosen != render(replace(QUICK, **other))).any()  # type: ignore[arg-type]
    list(engine.render_views(ball(GLASS, MATTE), [FRONT], [lights], QUICK))
    np.testing.assert_array_equal(chosen, render(QUICK))


def test_glowing_surfaces_give_the_same_light_whether_or_not_they_are_lamps(monkeypatch: pytest.MonkeyPatch) -> None:
    """A glowing square above a matte floor, which nothing else lights."""
    glow = Material(base_color=(0.0, 0.0, 0.0), metallic=0.0, emissive=(5.0, 2.0, 0.5))
    square = quad(half=0.2)
    above = (square[0][:, [0, 2, 1]] + np.array([0.0, 0.0, 0.2]), square[1][:, [0, 2, 1]], *square[2:])
    shown = clip([box((-0.5, -0.5, -0.4), (0.5, 0.5, -0.3)), above], [MATTE, glow])
    settings = replace(QUICK, samples=256, denoise=False)
    camera = orbit_camera(-90.0, 30.0, 48, fov_deg=40.0, radius=2.5)

    def render() -> tuple[np.ndarray, bool]:
        images = engine.render_views(shown, [camera], [Lights((), 0.0)], settings)
        return next(images).rgba[..., :3].astype(float), materials.bpy.data.materials[
            1
        ].cycles.emission_sampling == "NONE"

    found, hit_only = render()
    monkeypatch.setattr(materials, "_DIM", 0.0)
    lamp, still_hit_only = render()
    assert (hit_only, still_hit_only) == (True, False)
    assert lamp.mean() > 20.0
    np.testing.assert_allclose(found.mean(axis=(0, 1)), lamp.mean(axis=(0, 1)), rtol=0.02)


def test_only_bright_surfaces_are_lamps() -> None:
    for strength, expected in ((0.0, "NONE"), (10.0, "NONE"), (11.0, "AUTO")):
        shown = ball(replace(MATTE, emissive=(0.0, strength, 0.0)))
        images = engine.render_views(shown, [FRONT], [Lights((), 1.5)], QUICK)
        next(iter(images))
        assert materials.bpy.data.materials[0].cycles.emission_sampling == expected

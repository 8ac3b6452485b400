"""`--engine auto`: which engine draws which clip, and why."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from helix4d.assets import Clip, Material
from helix4d.core import ConfigError
from helix4d.render import (
    Lights,
    RenderSettings,
    check_engine,
    choose_engine,
    engine_choice,
    sample_cameras,
    sample_lights,
)
from helix4d.render.engine_choice import BOUND_DB, EngineChoice, Probe
from helix4d.render.engines import _LIBRARIES
from helix4d.render.scene.images import RenderedImage
from tests.render.clips import box, clip, sphere
from tests.render.egl import needs_egl

SETTINGS = RenderSettings(image_size=32, device="cpu")
MATTE = Material(base_color=(0.6, 0.5, 0.3), metallic=0.0, roughness=1.0)
GLASS = Material(transmission=1.0, thickness=0.5, roughness=0.0, metallic=0.0)


def _choose(shown: Clip, key: str = "key") -> EngineChoice:
    cameras = sample_cameras(0, key, 3, SETTINGS.image_size)
    return choose_engine(shown, cameras, sample_lights(0, key, cameras, "even"), SETTINGS, 0, key)


@needs_egl
def test_the_rasterizer_draws_a_matte_ball_and_cycles_draws_glass() -> None:
    matte = _choose(clip([sphere()], [MATTE]))
    inside = clip([sphere(), box((-0.2, -0.2, -0.2), (0.2, 0.2, 0.2))], [GLASS, MATTE])  # refraction enlarges the box
    glass = _choose(inside)
    assert matte.engine == "raster"
    assert len({(probe.view, probe.frame) for probe in matte.probes}) == 2
    assert min(probe.psnr_db for probe in matte.probes) >= BOUND_DB
    assert glass.engine == "cycles"
    assert len(glass.probes) == 1, "the first probe decides"
    assert glass.probes[0].psnr_db < BOUND_DB
    assert _choose(inside) == glass


class _Engines:
    """Replaces both engines: images of one color, and a log of the calls."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, drawn: float, traced: tuple[float, float], seen: set[int]
    ) -> None:
        self.calls: list[tuple[str, int, RenderSettings]] = []
        self._colors, self._seen = {"raster": (drawn, drawn), "cycles": traced}, seen
        monkeypatch.setattr(engine_choice, "load_engine", lambda name: functools.partial(self._render, name))

    def _render(self, name: str, *arguments: Any) -> Iterator[RenderedImage]:
        _, _, _, settings, frames, _ = arguments
        self.calls.append((name, frames[0], settings))
        rgba = np.zeros((4, 4, 4), np.uint8)
        if frames[0] in self._seen:
            rgba[1:3, 1:3] = [round(self._colors[name][settings.seed])] * 3 + [255]
        yield RenderedImage(0, frames[0], rgba)


def _animated(frames: int) -> Clip:
    still = clip([sphere(segments=6)], [MATTE])
    return replace(still, times=np.arange(frames, dtype=float), frames=still.frames * frames)


def test_noise_of_the_truth_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    _Engines(monkeypatch, 100, (90, 110), {0})
    assert _choose(_animated(1)).engine == "raster", "the mean of the halves is the drawn color"
    _Engines(monkeypatch, 104, (96, 104), {0})
    assert _choose(_animated(1)).engine == "raster"
    _Engines(monkeypatch, 110, (100, 100), {0})
    choice = _choose(_animated(1))
    assert choice == EngineChoice("cycles", (Probe(choice.probes[0].view, 0, 28.13),))


def test_probes_show_something_and_depend_on_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    engines = _Engines(monkeypatch, 100, (100, 100), {5, 9})
    chosen = {key: _choose(_animated(10), key) for key in "abcdefgh"}
    assert {probe.frame for choice in chosen.values() for probe in choice.probes} == {5, 9}
    assert len({choice.probes for choice in chosen.values()}) > 1
    assert chosen["a"] == _choose(_animated(10), "a")
    halves = [settings for name, _, settings in engines.calls if name == "cycles"]
    assert {(half.samples, half.denoise, half.seed) for half in halves} == {(32, False, 0), (32, False, 1)}
    assert all(frame in (5, 9) for name, frame, _ in engines.calls if name == "cycles")


def test_a_clip_that_shows_nothing_is_not_traced(monkeypatch: pytest.MonkeyPatch) -> None:
    engines = _Engines(monkeypatch, 100, (100, 100), set())
    assert _choose(_animated(2)) == EngineChoice("raster", ())
    assert {name for name, _, _ in engines.calls} == {"raster"}


@pytest.mark.parametrize("failing", ["raster", "cycles"])
def test_a_probe_that_fails_is_not_a_choice(failing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def load(name: str) -> object:
        def render(*arguments: object) -> object:
            if name == failing:
                raise RuntimeError(f"{name} failed")
            return iter([RenderedImage(0, 0, np.full((4, 4, 4), 255, np.uint8))])

        return render

    monkeypatch.setattr(engine_choice, "load_engine", load)
    with pytest.raises(RuntimeError, match=f"{failing} failed"):
        _choose(_animated(1))


def test_auto_needs_both_engines(monkeypatch: pytest.MonkeyPatch) -> None:
    assert set(_LIBRARIES["auto"]) == {*_LIBRARIES["cycles"], *_LIBRARIES["raster"]}
    monkeypatch.setitem(_LIBRARIES, "auto", ("no_such_module",))
    with pytest.raises(ConfigError, match=r"engine auto: cannot import no_such_module.*'\.\[curate,raster\]'"):
        check_engine("auto")


def test_lights_of_a_view_are_those_of_its_camera(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[object, object]] = []

    def load(name: str) -> object:
        def render(clip: Clip, cameras: list[object], lights: list[object], *rest: object) -> object:
            asked.append((cameras[0], lights[0]))
            return iter([RenderedImage(0, 0, np.full((4, 4, 4), 255, np.uint8))])

        return render

    monkeypatch.setattr(engine_choice, "load_engine", load)
    cameras = sample_cameras(0, "key", 5, SETTINGS.image_size)
    lights = [Lights((), float(number)) for number in range(5)]
    choice = choose_engine(_animated(1), cameras, lights, SETTINGS, 0, "key")
    pairs = [(cameras[probe.view], lights[probe.view]) for probe in choice.probes for _ in range(3)]
    assert asked == pairs

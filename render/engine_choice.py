"""Chooses the engine of a clip: the rasterizer where its images are those of Cycles within a bound, else Cycles.

Two images of the clip are rendered with both engines. Cycles renders each in two halves with their own noise, and the
squared error is the mean product of the rasterizer's differences from the halves: the noise of independent halves
cancels, so that the rasterizer is not blamed for it. A squared difference from one image would contain it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from helix4d.assets import Clip
from helix4d.core import generator
from helix4d.render.engines import load_engine
from helix4d.render.scene.cameras import Camera
from helix4d.render.scene.environment import NO_MAPS, EnvironmentMap
from helix4d.render.scene.lighting import Lights
from helix4d.render.scene.settings import RenderSettings

BOUND_DB = 38.0
"""Least PSNR of the rasterizer's probes; Cycles' `train` has 37.7 dB on average (docs/evidence/rendering.md)."""

PROBES = 2
SAMPLES = 64
"""Samples per pixel of the truth, in two halves."""

_MOST_DB = 100.0


@dataclass(frozen=True)
class Probe:
    """An image that both engines rendered.

    Attributes:
        view: index of the camera.
        frame: index of the clip's frame.
        psnr_db: PSNR of the rasterizer over gray, inside the silhouette, at most 100.
    """

    view: int
    frame: int
    psnr_db: float


@dataclass(frozen=True)
class EngineChoice:
    """The engine of a clip, and the probes that decided: none for a clip that no view shows."""

    engine: Literal["cycles", "raster"]
    probes: tuple[Probe, ...]


def choose_engine(
    clip: Clip,
    cameras: Sequence[Camera],
    lights: Sequence[Lights],
    settings: RenderSettings,
    seed: int,
    key: str,
    maps: Mapping[str, EnvironmentMap] = NO_MAPS,
) -> EngineChoice:
    """Choose the engine that renders all views of all frames.

    Depends only on the arguments. The probes are the first images, in an order drawn from (seed, key), in which
    something is visible. The first probe below `BOUND_DB` ends the search.

    Args:
        clip: inside [-0.5, 0.5]³, Z up.
        cameras, lights: one per view.
        settings: those of the final images; samples and denoiser do not matter.
        seed: seed of the data set.
        key: key of the sample.
        maps: sha256 -> map, for the lights that name one.

    Raises:
        ConfigError, SetupError, RenderError: as the engines do.
    """
    probes: list[Probe] = []
    for view, frame, drawn in _visible(clip, cameras, lights, settings, seed, key, maps):
        traced = [_render("cycles", clip, cameras[view], lights[view], half, frame, maps) for half in _halves(settings)]
        probes.append(Probe(view, frame, round(_psnr(drawn, *traced), 2)))
        if probes[-1].psnr_db < BOUND_DB:
            return EngineChoice("cycles", tuple(probes))
        if len(probes) == PROBES:
            break
    return EngineChoice("raster", tuple(probes))


def for_engine(settings: RenderSettings, engine: str) -> RenderSettings:
    """Settings of the chosen engine: the rasterizer uses a GPU if OpenGL has one, as it does on its own."""
    if engine == "cycles" or settings.device == "cpu":
        return settings
    return replace(settings, device="auto")


def _visible(
    clip: Clip,
    cameras: Sequence[Camera],
    lights: Sequence[Lights],
    settings: RenderSettings,
    seed: int,
    key: str,
    maps: Mapping[str, EnvironmentMap],
) -> Iterator[tuple[int, int, np.ndarray]]:
    """Views, frames and the rasterizer's images of them that show something, in the order of the draw."""
    settings = replace(for_engine(settings, "raster"), passes=False)
    for place in generator(seed, key, "engine probes").permutation(len(cameras) * len(clip.frames)).tolist():
        view, frame = divmod(place, len(clip.frames))
        rgba = _render("raster", clip, cameras[view], lights[view], settings, frame, maps)
        if rgba[..., 3].any():
            yield view, frame, rgba


def _halves(settings: RenderSettings) -> list[RenderSettings]:
    half = replace(settings, samples=SAMPLES // 2, denoise=False, passes=False)
    return [replace(half, seed=seed) for seed in (0, 1)]


def _render(
    engine: Literal["cycles", "raster"],
    clip: Clip,
    camera: Camera,
    lights: Lights,
    settings: RenderSettings,
    frame: int,
    maps: Mapping[str, EnvironmentMap],
) -> np.ndarray:
    images: Any = load_engine(engine)(clip, [camera], [lights], settings, [frame], maps)
    return np.asarray(next(images).rgba)


def _psnr(drawn: np.ndarray, first: np.ndarray, second: np.ndarray) -> float:
    """PSNR of an image whose truth is known from two images with independent noise, all (H, W, 4) uint8."""
    inside = first[..., 3] > 0
    image, one, two = (_over_gray(picture[inside]) for picture in (drawn, first, second))
    return float(min(-10.0 * np.log10(max(np.mean((image - one) * (image - two)), 1e-12)), _MOST_DB))


def _over_gray(rgba: np.ndarray) -> np.ndarray:
    values = rgba.astype(np.float64) / 255.0
    return np.asarray(values[..., :3] * values[..., 3:] + 0.5 * (1.0 - values[..., 3:]))

"""Cost and quality of rendered images: `python benchmarks/render.py ASSET ... [--image-size 384] [--candidates]`.

Renders one view of the middle frame of every asset. Cost is processor seconds per image, after a first image that does
not count. Quality is PSNR against 256 samples, over gray, inside the silhouette. The baseline renders as TRELLIS.2
does, with its settings and a new process per asset. "0.3 train" is that version's preset, which traced whole images.
The rasterizer (`--engine raster`) has its own row, measured over four views, because it gathers the light of a frame
once for all of them. "engine auto" is the engine that `--engine auto` chooses from 16 views of all frames of the asset,
without the cost of its probes. `--lights even` uses those lights. `--sheet FILE` writes the images with the lowest PSNR
beside their references.
"""

from __future__ import annotations

import contextlib
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from unittest import mock

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import numpy as np
from PIL import Image

from benchmarks.results import Cell, Column, Report
from helix4d.assets import Clip, bake, normalize
from helix4d.core import AssetError
from helix4d.render import (
    PRESETS,
    Camera,
    EngineName,
    Lights,
    RenderSettings,
    choose_engine,
    frame_loop,
    load_engine,
    sample_cameras,
    sample_lights,
)
from helix4d.render.scene.boxes import whole_image
from helix4d.render.scene.lighting import LightDistribution

BASELINE, OLD, TRAIN, RASTER, AUTO = "TRELLIS.2", "0.3 train", "train", "engine raster", "engine auto"
_OLD_TRAIN = RenderSettings(samples=8, denoise_quality="fast", denoise_prefilter="none")
CANDIDATES = {
    **{f"{samples}, none": RenderSettings(samples=samples, denoise=False) for samples in (4, 8, 16, 32)},
    **{
        f"{samples}, {quality}": RenderSettings(samples=samples, denoise_quality=quality)
        for quality in ("fast", "balanced", "high")
        for samples in (4, 8, 16)
    },
    "24, balanced": RenderSettings(samples=24),
    **{
        f"16, balanced, guides {prefilter}": RenderSettings(denoise_prefilter=prefilter)
        for prefilter in ("none", "fast", "accurate")
    },
}
_RASTER_VIEWS, _AUTO_VIEWS = 4, 16
_WORST = 10
_ALONE = """
import sys
from pathlib import Path
import numpy as np
from helix4d.assets import Clip
from helix4d.render import TRELLIS2
from helix4d.render.scene.cameras import sample_cameras
from helix4d.render.scene.lighting import sample_lights
from helix4d.render.cycles.engine import render_views
from dataclasses import replace
path, key, frame, size = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
cameras = sample_cameras(0, key, 1, size)
settings = replace(TRELLIS2, image_size=size, device="cpu")
(image,) = render_views(Clip.load(path), cameras, sample_lights(0, key, cameras), settings, [frame])
np.save(path.with_suffix(".npy"), image.rgba)
"""


@dataclass(frozen=True, eq=False)
class Shot:
    """What is rendered of an asset: one view of one frame."""

    key: str
    clip: Clip
    frame: int
    camera: Camera
    lights: Lights

    @classmethod
    def of(cls, path: Path, size: int, distribution: LightDistribution) -> Shot:
        """The first view of the middle frame of an asset.

        Raises:
            AssetError: if the asset cannot be read.
        """
        clip, _ = normalize(bake(path))
        cameras = sample_cameras(0, path.stem, 1, size)
        return cls(
            path.stem, clip, len(clip.frames) // 2, cameras[0], sample_lights(0, path.stem, cameras, distribution)[0]
        )


def main() -> None:
    """Print a row per asset, and then one per setting."""
    report = Report("render", __doc__, quick="images of 96 pixels")
    parser = report.parser
    parser.add_argument("assets", nargs="+", type=Path)
    parser.add_argument("--image-size", type=int, default=384)
    parser.add_argument("--candidates", action="store_true", help="also measure settings that are no preset")
    parser.add_argument("--lights", choices=["trellis2", "even"], default="trellis2")
    parser.add_argument("--sheet", type=Path, help="image of the worst results of train, each beside its reference")
    arguments = report.parse()
    size = 96 if arguments.quick else arguments.image_size
    names = [BASELINE, OLD, TRAIN, RASTER, "draft", *(CANDIDATES if arguments.candidates else ()), AUTO]
    chosen: list[str] = []
    quality: dict[str, list[float]] = {name: [] for name in names}
    seconds: dict[str, list[float]] = {name: [] for name in names}
    pairs: list[tuple[float, np.ndarray]] = []
    shown = (BASELINE, OLD, TRAIN, RASTER)
    columns = [
        Column(f"{name}, {unit}", digits) for name in shown for unit, digits in (("dB", ".1f"), ("CPU s", ".3f"))
    ]
    table = report.table("assets", Column("asset"), *columns, Column("note"))
    for path in arguments.assets:
        try:
            shot = Shot.of(path, size, arguments.lights)
        except AssetError as error:
            table.add(path.stem, *[None] * len(columns), str(error.code))
            continue
        truth, _ = _render(shot, PRESETS["reference"], repeats=1)
        if not truth[..., 3].any():
            table.add(path.stem, *[None] * len(columns), "not visible")
            continue
        for name in names[:-1]:
            image, cost = _measure(name, shot)
            quality[name].append(_psnr(image, truth))
            seconds[name].append(cost)
            if name == TRAIN:
                pairs.append((quality[name][-1], np.concatenate([truth, image], axis=1)))
        chosen.append(_chosen(shot, arguments.lights))
        for values in (quality, seconds):
            values[AUTO].append(values[chosen[-1]][-1])
        row: list[Cell] = [found[name][-1] for name in shown for found in (quality, seconds)]
        table.add(path.stem, *row, f"auto: {chosen[-1]}")
    _summarize(report, size, quality, seconds)
    report.value("auto_rasterized", f"{chosen.count(RASTER)} of {len(chosen)} assets")
    report.save()
    if arguments.sheet is not None:
        _write_sheet(arguments.sheet, [pair for _, pair in sorted(pairs, key=lambda pair: pair[0])[:_WORST]])


def _summarize(report: Report, size: int, quality: dict[str, list[float]], seconds: dict[str, list[float]]) -> None:
    baseline = np.array(seconds[BASELINE])
    print(f"\n{len(baseline)} assets, {size} x {size}; the baseline has one process per image")
    titles = (("mean dB", ".1f"), ("worst dB", ".1f"), ("assets >= 36 dB", ""), ("CPU s per image", ".3f"))
    titles += (("times cheaper: mean cost", ".1f"), ("median of assets", ".1f"))
    table = report.table("settings", Column("setting"), *(Column(*title) for title in titles))
    for name, values in quality.items():
        cost = np.array(seconds[name])
        passed = f"{sum(value >= 36 for value in values)}/{len(values)}"
        ratios = (baseline.mean() / cost.mean(), np.median(baseline / cost))
        table.add(name, float(np.mean(values)), min(values), passed, float(cost.mean()), *map(float, ratios))


def _measure(name: str, shot: Shot) -> tuple[np.ndarray, float]:
    """The image of a setting, and its processor seconds."""
    if name == BASELINE:
        return _render_alone(shot)
    if name == OLD:
        with _whole_images():
            return _render(shot, _OLD_TRAIN)
    if name == RASTER:
        return _render(shot, RenderSettings(), _RASTER_VIEWS, "raster")
    return _render(shot, CANDIDATES[name] if name in CANDIDATES else PRESETS[name])  # type: ignore[index]


def _chosen(shot: Shot, distribution: LightDistribution) -> str:
    """The name of the row that `--engine auto` chooses."""
    size = shot.camera.image_size
    cameras = sample_cameras(0, shot.key, _AUTO_VIEWS, size)
    lights = sample_lights(0, shot.key, cameras, distribution)
    settings = RenderSettings(image_size=size, device="cpu")
    return {"cycles": TRAIN, "raster": RASTER}[choose_engine(shot.clip, cameras, lights, settings, 0, shot.key).engine]


def _render(
    shot: Shot, settings: RenderSettings, repeats: int = 2, engine: EngineName = "cycles"
) -> tuple[np.ndarray, float]:
    """Render the same image `repeats` times; returns it and the mean processor seconds after the first."""
    settings = replace(settings, image_size=shot.camera.image_size, device="cpu")
    images = load_engine(engine)(shot.clip, [shot.camera] * repeats, [shot.lights] * repeats, settings, [shot.frame])
    costs = []
    for _ in range(repeats):
        start = time.process_time()
        image = next(images)
        costs.append(time.process_time() - start)
    images.close()  # type: ignore[attr-defined]
    return image.rgba.astype(np.float64) / 255, float(np.mean(costs[1:] or costs))


@contextlib.contextmanager
def _whole_images() -> Iterator[None]:
    """Trace all pixels, as version 0.3 did."""
    with mock.patch.object(frame_loop, "silhouette_box", lambda alpha: whole_image(len(alpha))):
        yield


def _psnr(image: np.ndarray, truth: np.ndarray) -> float:
    inside = truth[..., 3] > 0
    a, b = (_over_gray(picture) for picture in (image, truth))
    return float(-10 * np.log10(max(np.square(a - b)[inside].mean(), 1e-10)))


def _over_gray(image: np.ndarray) -> np.ndarray:
    return np.asarray(image[..., :3] * image[..., 3:] + 0.5 * (1 - image[..., 3:]))


def _render_alone(shot: Shot) -> tuple[np.ndarray, float]:
    """The image, and the processor seconds of a new process that loads Blender and renders it as TRELLIS.2 does."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip.safetensors"
        shot.clip.save(path)
        command = [sys.executable, "-c", _ALONE, str(path), shot.key, str(shot.frame), str(shot.camera.image_size)]
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(command, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        image = np.load(path.with_suffix(".npy")).astype(np.float64) / 255
    return image, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _write_sheet(path: Path, pairs: list[np.ndarray]) -> None:
    """Pairs of reference (left) and result (right) in two columns, the worst first."""
    shown = [np.rint(255 * _over_gray(pair)).astype(np.uint8) for pair in pairs]
    if len(shown) % 2:
        shown.append(np.full_like(shown[0], 128))
    rows = [np.concatenate(shown[index : index + 2], axis=1) for index in range(0, len(shown), 2)]
    Image.fromarray(np.concatenate(rows)).save(path)


if __name__ == "__main__":
    main()

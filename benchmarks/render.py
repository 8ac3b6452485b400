"""Cost and quality of rendered images: `python benchmarks/render.py ASSET ... [--image-size 384]`.

Renders one view of the middle frame of every asset. Cost is processor seconds per image, after a first image that does
not count. Quality is PSNR against 256 samples, over gray, inside the silhouette. The baseline renders as TRELLIS.2
does, with its settings and a new process per asset. The rasterizer (`--engine raster`) has its own row, measured over
four views, because it computes the shadows of a frame once for all of them.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from helix4d.assets import Clip, bake, normalize
from helix4d.core import AssetError
from helix4d.render import (
    PRESETS,
    Camera,
    EngineName,
    Lights,
    RenderSettings,
    load_engine,
    sample_cameras,
    sample_lights,
)

CANDIDATES = {
    "4, none": RenderSettings(samples=4, denoise=False),
    "4, fast": RenderSettings(samples=4, denoise_quality="fast"),
    "6, fast": RenderSettings(samples=6, denoise_quality="fast"),
    "6, balanced": RenderSettings(samples=6, denoise_quality="balanced"),
    "8, none": RenderSettings(samples=8, denoise=False),
    "8, fast": RenderSettings(samples=8, denoise_quality="fast"),
    "8, balanced": RenderSettings(samples=8, denoise_quality="balanced"),
    "16, balanced": RenderSettings(samples=16, denoise_quality="balanced"),
}
RASTER = "engine raster"
_RASTER_VIEWS = 4
_ALONE = """
import pickle, sys
from pathlib import Path
from helix4d.assets import Clip
from helix4d.render import TRELLIS2
from helix4d.render.scene.cameras import sample_cameras
from helix4d.render.scene.lighting import sample_lights
from helix4d.render.cycles.engine import render_views
from dataclasses import replace
path, key, frame, size = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
cameras = sample_cameras(0, key, 1, size)
settings = replace(TRELLIS2, image_size=size, device="cpu")
list(render_views(Clip.load(Path(path)), cameras, sample_lights(0, key, cameras), settings, [frame]))
"""


def main() -> None:
    """Print one row per setting."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("assets", nargs="+", type=Path)
    parser.add_argument("--image-size", type=int, default=384)
    arguments = parser.parse_args()
    size = arguments.image_size
    rows = {**CANDIDATES, **{f"preset {name}": settings for name, settings in PRESETS.items() if name != "reference"}}
    rows[RASTER] = RenderSettings()
    quality: dict[str, list[float]] = {name: [] for name in rows}
    seconds: dict[str, list[float]] = {name: [] for name in rows}
    alone: list[float] = []
    for path in arguments.assets:
        try:
            clip, _ = normalize(bake(path))
        except AssetError as error:
            print(f"{path.stem}: {error.code}", flush=True)
            continue
        frame = len(clip.frames) // 2
        if not len(clip.frames[frame].faces):
            continue
        cameras = sample_cameras(0, path.stem, 1, size)
        lights = sample_lights(0, path.stem, cameras)
        truth, _ = _render(clip, cameras[0], lights[0], PRESETS["reference"], size, frame, repeats=1)
        for name, settings in rows.items():
            if name == RASTER:
                image, cost = _render(clip, cameras[0], lights[0], settings, size, frame, _RASTER_VIEWS, "raster")
            else:
                image, cost = _render(clip, cameras[0], lights[0], settings, size, frame)
            quality[name].append(_psnr(image, truth))
            seconds[name].append(cost)
        alone.append(_process_alone(clip, path.stem, frame, size))
        print(f"{path.stem:28} {quality['preset train'][-1]:6.1f} dB  {seconds['preset train'][-1]:.2f} s", flush=True)
    baseline = float(np.mean(alone))
    print(f"\n{len(alone)} assets, {size} x {size}; baseline {baseline:.2f} s per image, one process per image")
    print(f"{'setting':20} {'mean dB':>8} {'worst':>6} {'>= 36':>6} {'s/image':>8} {'ratio':>6}")
    for name in rows:
        cost = float(np.mean(seconds[name]))
        values = np.array(quality[name])
        passed = f"{(values >= 36).sum()}/{len(values)}"
        print(f"{name:20} {values.mean():8.1f} {values.min():6.1f} {passed:>6} {cost:8.3f} {baseline / cost:6.1f}")
    ratio = float(np.mean(seconds["preset train"])) / float(np.mean(seconds[RASTER]))
    print(f"engine raster is {ratio:.1f} times cheaper than preset train (target: 10)")


def _render(
    clip: Clip,
    camera: Camera,
    lights: Lights,
    settings: RenderSettings,
    size: int,
    frame: int,
    repeats: int = 2,
    engine: EngineName = "cycles",
) -> tuple[np.ndarray, float]:
    """Render the same image `repeats` times; returns it and the mean processor seconds after the first."""
    settings = replace(settings, image_size=size, device="cpu")
    images = load_engine(engine)(clip, [camera] * repeats, [lights] * repeats, settings, [frame])
    costs = []
    for _ in range(repeats):
        start = time.process_time()
        image = next(images)
        costs.append(time.process_time() - start)
    images.close()  # type: ignore[attr-defined]
    return image.rgba.astype(np.float64) / 255, float(np.mean(costs[1:] or costs))


def _psnr(image: np.ndarray, truth: np.ndarray) -> float:
    inside = truth[..., 3] > 0
    a, b = (picture[..., :3] * picture[..., 3:] + 0.5 * (1 - picture[..., 3:]) for picture in (image, truth))
    return float(-10 * np.log10(max(np.square(a - b)[inside].mean(), 1e-10))) if inside.any() else 100.0


def _process_alone(clip: Clip, key: str, frame: int, size: int) -> float:
    """Processor seconds of a new process that loads Blender and renders one image as TRELLIS.2 does."""
    import resource

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip.safetensors"
        clip.save(path)
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-c", _ALONE, str(path), key, str(frame), str(size)], check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


if __name__ == "__main__":
    main()

"""Measures how exact alpha is: `python benchmarks/alpha.py ASSET ... [--image-size 256] [--samples 1024]`.

Renders one view of the middle frame of every asset. The reference is a path tracer with many samples. Compared with it
are the alpha of the rasterizer, which every preset uses, and that of a path tracer with the default number of samples:
the share of pixels within 1/255, without edges. An edge is a pixel in whose 3 x 3 neighborhood the number of
overlapping surfaces changes, unless all of it is opaque.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import numpy as np

from benchmarks.results import Column, Report
from helix4d.assets import AlphaMode, Clip, bake, normalize
from helix4d.core import AssetError
from helix4d.render import Camera, Lights, RenderSettings, sample_cameras, sample_lights
from helix4d.render.alpha.coverage import Coverage

PATHS = RenderSettings(exact_alpha=False, denoise=False, diffuse_bounces=0, glossy_bounces=0, device="cpu")


def main() -> None:
    """Print one row per asset."""
    report = Report("alpha", __doc__, quick="64 samples, images of 128 pixels")
    report.parser.add_argument("assets", nargs="+", type=Path)
    report.parser.add_argument("--image-size", type=int, default=256)
    report.parser.add_argument("--samples", type=int, default=1024)
    options = report.parse()
    size, samples = (128, 64) if options.quick else (options.image_size, options.samples)
    columns = (Column("pixels", ","), Column("rasterizer", ".2%"), Column("paths", ".2%"), Column("note"))
    table = report.table("alpha", Column("asset"), Column("BLEND"), *columns)
    sums = np.zeros(3)
    for path in options.assets:
        try:
            clip, _ = normalize(bake(path))
        except AssetError as error:
            table.add(path.stem, "", None, None, None, str(error.code))
            continue
        frame = len(clip.frames) // 2
        cameras = sample_cameras(0, path.stem, 1, size)
        lights = sample_lights(0, path.stem, cameras)

        def alpha(settings: RenderSettings, clip: Clip = clip, camera: Camera = cameras[0], light: Lights = lights[0],
                  frame: int = frame) -> np.ndarray:  # fmt: skip
            from helix4d.render.cycles.engine import render_views

            settings = replace(settings, image_size=size)
            (image,) = render_views(clip, [camera], [light], settings, [frame])
            return image.rgba[..., 3].astype(int)

        truth = alpha(replace(PATHS, samples=samples))
        inside = (truth > 0) & (~_edges(clip, frame, cameras[0]) | (_neighborhoods(truth) == 255).all(axis=0))
        if not inside.any():
            table.add(path.stem, "", None, None, None, "nothing but edges")
            continue
        exact = np.abs(alpha(replace(PATHS, samples=1, exact_alpha=True)) - truth)[inside] <= 1
        paths = np.abs(alpha(PATHS) - truth)[inside] <= 1
        blend = any(material.alpha_mode is AlphaMode.BLEND for material in clip.materials)
        sums += (inside.sum(), exact.sum(), paths.sum())
        shares = (float(exact.mean()), float(paths.mean()))
        table.add(path.stem, "yes" if blend else "", int(inside.sum()), *shares, "")
    if sums[0]:
        table.add("all", "", int(sums[0]), *(float(share) for share in sums[1:] / sums[0]), "")
    report.save()


def _edges(clip: Clip, frame: int, camera: Camera) -> np.ndarray:
    """(H, W) bool: pixels next to the edge of any surface, hidden or not."""
    half = [replace(m, alpha_mode=AlphaMode.BLEND, alpha=0.5, base_color_texture=None) for m in clip.materials]
    layers = Coverage(replace(clip, materials=tuple(half))).alpha(frame, camera)
    if layers is None:
        raise SystemExit("the camera is inside the object")
    around = _neighborhoods(layers)
    return np.asarray(around.max(axis=0) - around.min(axis=0) > 1e-6)


def _neighborhoods(image: np.ndarray) -> np.ndarray:
    height, width = image.shape
    padded = np.pad(image, 1, mode="edge")
    return np.stack([padded[y : y + height, x : x + width] for y in range(3) for x in range(3)])


if __name__ == "__main__":
    main()

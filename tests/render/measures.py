"""Measures and checks that the tests of several engines share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from helix4d.assets import Clip, Material, Texture, Wrap
from helix4d.assets.samples import SAMPLES
from helix4d.cli.main import main
from helix4d.render import Camera, Lights, orbit_camera
from helix4d.render.scene.view_transforms import linear_to_srgb
from tests.render.clips import clip, quad

WIDE = orbit_camera(-90.0, 0.0, 128, fov_deg=2.0 * np.degrees(np.arctan(0.25)), radius=2.0)
"""A camera whose image `quad()` exactly fills."""


def psnr(image: np.ndarray, truth: np.ndarray) -> float:
    """Over gray, inside the silhouette, as in benchmarks/render.py."""
    inside = truth[..., 3] > 0
    a, b = (
        picture[..., :3] / 255 * (picture[..., 3:] / 255) + 0.5 * (1 - picture[..., 3:] / 255)
        for picture in (image, truth)
    )
    return float(-10 * np.log10(max(np.square(a - b)[inside].mean(), 1e-10)))


def facing_radiance(camera: Camera, lights: Lights) -> float:
    """Radiance of a white diffuse surface at the origin that faces the camera, by arithmetic."""
    towards = camera.position / np.linalg.norm(camera.position)
    received = lights.environment
    for lamp in lights.points:
        cosine = float(np.dot(lamp.position, towards) / np.linalg.norm(lamp.position))
        received += lamp.irradiance * max(cosine, 0.0)
    return received / np.pi


def center(image: np.ndarray) -> np.ndarray:
    """(4,) mean of the middle of the image."""
    half = image.shape[0] // 2
    return np.asarray(image[half - 4 : half + 4, half - 4 : half + 4].reshape(-1, 4).mean(axis=0))


def srgb(*linear: float) -> np.ndarray:
    """Linear values as sRGB, 0 to 255."""
    return 255.0 * linear_to_srgb(np.array(linear))


def wrapped(index: np.ndarray, size: int, wrap: Wrap) -> np.ndarray:
    """The texel in [0, size) that a wrap mode shows at an index beyond the image."""
    mirrored = np.minimum(index % (2 * size), 2 * size - 1 - index % (2 * size))
    return {Wrap.REPEAT: index % size, Wrap.CLAMP: index.clip(0, size - 1), Wrap.MIRROR: mirrored}[wrap]


def check_texture_transforms(picture: Callable[[Clip, Camera], np.ndarray]) -> None:
    """Texels appear where their transform and wrap modes put them."""
    colors = np.random.default_rng(1).integers(0, 256, (4, 4, 4), np.uint8)
    colors[..., 3] = 255
    for wraps in ((Wrap.REPEAT, Wrap.REPEAT), (Wrap.CLAMP, Wrap.MIRROR), (Wrap.MIRROR, Wrap.REPEAT)):
        texture = Texture(0, 0, *wraps, offset=(-0.375, 0.125), rotation=np.pi / 2, scale=(2.0, 2.0))
        found = picture(clip([quad()], [Material(unlit=True, base_color_texture=texture)], [colors]), WIDE)
        uv = (np.indices((128, 128))[::-1].reshape(2, -1).T + 0.5) / 128
        sampled = np.hstack([uv, np.ones((len(uv), 1))]) @ texture.matrix().T * 4
        texel = np.floor(sampled).astype(int)
        whole = (np.abs(sampled - texel - 0.5) < 0.1).all(axis=1)
        columns, rows = (wrapped(texel[whole, axis], 4, wrap) for axis, wrap in enumerate(wraps))
        assert np.abs(found.reshape(-1, 4)[whole, :3] - colors[rows, columns, :3]).mean() < 8.0, wraps


def check_preview(engine: str, folder: Path) -> None:
    """`helix4d preview` writes an animation with any engine."""
    asset, output = folder / "sprout.glb", folder / "sprout.webp"
    asset.write_bytes(SAMPLES["sprout"]())
    options = ["--output", str(output), "--frames", "2", "--image-size", "48", "--engine", engine]
    assert main(["preview", str(asset), *options]) == 0
    assert output.stat().st_size > 500

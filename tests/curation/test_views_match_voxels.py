"""Checks cameras, normalization and voxels against each other: images show the object where the voxels are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helix4d.assets import bake_clips, normalize
from helix4d.assets.samples import SAMPLES
from helix4d.curation.config import SampleConfig
from helix4d.curation.work.jobs import AssetJob
from helix4d.curation.work.stages import _views
from helix4d.render import Camera, RenderSettings, project
from helix4d.render.cycles.engine import render_views
from helix4d.voxelize import OVoxel, prepare_surface, voxelize_frame

IMAGE_SIZE, SUPERSAMPLING = 256, 4
WHOLE, WINDOW, STATIC = {}, {"sampling": "window", "fps": 24.0, "windows": 2}, {"static": "only"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "resolution", "settings"),
    [
        ("caterpillar", 256, WHOLE),  # skinned
        ("treasure_chest", 256, WHOLE),  # textured
        ("sprout", 512, WHOLE),  # emerging, and thin
        ("treasure_chest", 256, WINDOW),
        ("caterpillar", 256, STATIC),
    ],
    ids=lambda value: next(iter(value), "whole") if isinstance(value, dict) else str(value),
)
def test_views_match_the_voxels_of_their_frame(
    name: str, resolution: int, settings: dict[str, Any], tmp_path: Path
) -> None:
    """Random views with soft lamps and fixed views with even light, of whole animations, windows and static samples."""
    path = tmp_path / f"{name}.glb"
    path.write_bytes(SAMPLES[name]())
    config = SampleConfig(views=1, fixed_views="front,orbit:3", image_size=IMAGE_SIZE, **settings)
    job = AssetJob(name, path, "0" * 64, tmp_path / "part", config)
    clip, _ = normalize(bake_clips(path, config.moments, config.clip)[-1])
    cameras, lights, _ = _views(job, "0" * 16 + "_0")
    assert len(cameras) == 4
    assert lights[0].points[0].radius > 0.0
    frame = len(clip.frames) * 13 // 16
    ovoxel = voxelize_frame(clip.frames[frame], prepare_surface(clip), resolution)
    render = RenderSettings(image_size=IMAGE_SIZE, samples=1, denoise=False, threads=1)
    for image in render_views(clip, cameras, lights, render, frames=[frame]):
        rendered = image.rgba[..., 3] > 127
        voxels = voxel_mask(ovoxel, cameras[image.view])
        overlap = (rendered & voxels).sum() / (rendered | voxels).sum()
        assert rendered.sum() > 500
        assert overlap > 0.9, f"view {image.view}: {overlap:.3f}"


def voxel_mask(ovoxel: OVoxel, camera: Camera) -> np.ndarray:
    """Return (H, W) bool: pixels covered by voxels to more than half, from a lattice of points in each cube."""
    coords = ovoxel.coords[ovoxel.alpha.ravel() > 127]  # leaves are cut out of their cards by MASK
    fine = replace(
        camera,
        intrinsics=camera.intrinsics * np.array([[SUPERSAMPLING], [SUPERSAMPLING], [1.0]]),
        image_size=camera.image_size * SUPERSAMPLING,
    )
    covered = np.zeros((fine.image_size, fine.image_size), bool)
    steps = np.linspace(0.0, 1.0, 3)
    for offset in np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(-1, 3):
        pixels, _ = project(fine, (coords + offset) / ovoxel.resolution - 0.5)
        column, row = np.floor(pixels).astype(int).T
        covered[row, column] = True  # the bounding sphere is in the frame, so every point is
    blocks = covered.reshape(camera.image_size, SUPERSAMPLING, camera.image_size, SUPERSAMPLING)
    return np.asarray(blocks.mean(axis=(1, 3)) > 0.5)

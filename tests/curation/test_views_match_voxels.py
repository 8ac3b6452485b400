"""Checks cameras, normalization and voxels against each other: images show the object where the voxels are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from helix4d.assets import bake, normalize
from helix4d.assets.samples import SAMPLES
from helix4d.render import Camera, RenderSettings, project, sample_cameras, sample_lights
from helix4d.render.cycles.engine import render_views
from helix4d.render.scene.fixed_views import fixed_cameras
from helix4d.voxelize import OVoxel, prepare_surface, voxelize_frame

RESOLUTION, IMAGE_SIZE, SUPERSAMPLING, LATE_FRAME = 512, 256, 4, 13


@pytest.mark.slow
@pytest.mark.parametrize("name", ["caterpillar", "treasure_chest", "sprout"])  # skinned, textured, emerging
def test_a_view_matches_the_voxels_of_its_frame(name: str, tmp_path: Path) -> None:
    path = tmp_path / f"{name}.glb"
    path.write_bytes(SAMPLES[name]())
    clip, _ = normalize(bake(path, frames=16))
    cameras = [*sample_cameras(0, name, 16, IMAGE_SIZE)[:2], *fixed_cameras("front", IMAGE_SIZE)]
    lights = sample_lights(0, name, cameras)  # with soft lamps
    settings = RenderSettings(image_size=IMAGE_SIZE, samples=1, denoise=False, threads=1)
    ovoxel = voxelize_frame(clip.frames[LATE_FRAME], prepare_surface(clip), RESOLUTION)
    for image in render_views(clip, cameras, lights, settings, frames=[LATE_FRAME]):
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

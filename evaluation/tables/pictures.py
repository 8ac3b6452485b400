"""Render predictions with Blender, for image metrics and pages."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from helix4d.assets import AlphaMode, Clip, Material
from helix4d.evaluation.metrics.metric import View
from helix4d.render import Camera, load_engine, orbit_camera, preset
from helix4d.render.scene.lighting import Lights

_FRONT_DEG = -90.0
"""Azimuth of the front view for `orbit_camera`, whose 0 looks along -X; glTF objects face -Y in our axes."""
_LIGHT = Lights((), 1.5)
_DRAFT = preset("draft", samples=8)
_MEASURED = replace(_DRAFT, samples=32, denoise_quality="high", denoise_prefilter="accurate")
"""TRELLIS.2's render settings: smoke and glass reach a PSNR of 37 dB, against 27 dB with the 8 samples of a draft."""


def draw(clip: Clip, view: View) -> np.ndarray:
    """Render a clip as (T, S, S, 4) uint8, straight alpha; frames without surface are transparent.

    Args:
        clip: clip in [-0.5, 0.5]³, Z up, front toward -Y.
        view: view to render, with a field of view of 40°, at the distance at which the unit cube's bounding sphere
            fits, lit evenly from all sides.

    Raises:
        ConfigError: if Blender is not installed.
        RenderError: if Blender fails.
    """
    render_views = load_engine("cycles")
    if view.shows == "normal":
        clip = replace(clip, materials=tuple(_solid(material) for material in clip.materials))
    chosen = _MEASURED if view.shows == "color" and not view.draft else _DRAFT
    settings = replace(chosen, image_size=view.image_size, passes=view.shows == "normal")
    camera = orbit_camera(_FRONT_DEG + view.azimuth_deg, view.elevation_deg, view.image_size)
    pictures = np.zeros((len(clip.frames), view.image_size, view.image_size, 4), np.uint8)
    for image in render_views(clip, [camera], [_LIGHT], settings):
        pictures[image.frame] = image.rgba
        if view.shows == "normal" and image.normal is not None:
            pictures[image.frame, ..., :3] = _normal_colors(image.normal, camera)
    if view.shows == "normal":
        pictures[..., :3][pictures[..., 3] == 0] = 0
    return pictures


def _solid(material: Material) -> Material:
    """Make a material opaque: images of normals show geometry, so blending and transmission must not hide it."""
    blended = material.alpha_mode is AlphaMode.BLEND
    return replace(material, alpha_mode=AlphaMode.OPAQUE if blended else material.alpha_mode, transmission=0.0)


def _normal_colors(normals: np.ndarray, camera: Camera) -> np.ndarray:
    """Convert world normals (H, W, 3) to bytes of (n + 1) / 2 in the camera's frame: x right, y up, z to the camera.

    Surfaces are two-sided: normals that point away from the camera are flipped. The direction is that of the pixel's
    own ray, because z alone would flip the normals of surfaces parallel to the optical axis at random.
    """
    local = normals @ camera.extrinsics[:3, :3].T
    centers = np.arange(camera.image_size) + 0.5
    pixels = np.stack([*np.meshgrid(centers, centers), np.ones((camera.image_size,) * 2)], axis=-1)
    rays = pixels @ np.linalg.inv(camera.intrinsics).T
    local = np.where((local * rays).sum(axis=-1, keepdims=True) > 0, -local, local)
    return np.asarray(np.rint((local * (1.0, -1.0, -1.0) + 1) / 2 * 255), np.uint8)

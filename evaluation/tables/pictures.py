"""A prediction becomes pictures, in Blender: what image metrics look at and what pages show."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from helix4d.assets import AlphaMode, Clip, Material
from helix4d.evaluation.metrics.metric import View
from helix4d.render import Camera, orbit_camera, preset
from helix4d.render.scene.lighting import Lights

_FRONT_DEG = -90.0
"""Of `orbit_camera`, whose 0 looks along -X: what is read as glTF faces -Y."""
_LIGHT = Lights((), 1.5)
_DRAFT = preset("train")
_MEASURED = replace(_DRAFT, samples=32, denoise_quality="high", denoise_prefilter="accurate")
"""As TRELLIS.2 renders. With the 8 samples of `train` smoke and glass keep a grain of 27 dB, here 37 (docs)."""


def draw(clip: Clip, view: View) -> np.ndarray:
    """(T, S, S, 4) uint8, straight alpha; a frame without surface is transparent.

    Args:
        clip: inside [-0.5, 0.5]³, Z up, front towards -Y.
        view: seen with a field of view of 40° from where the unit cube's bounding sphere fits; lit evenly from all
            sides.

    Raises:
        RenderError: if Blender fails.
    """
    from helix4d.render.cycles.engine import render_views

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
    """The material without what lets light through: normals show geometry, and thin smoke has none of its own."""
    blended = material.alpha_mode is AlphaMode.BLEND
    return replace(material, alpha_mode=AlphaMode.OPAQUE if blended else material.alpha_mode, transmission=0.0)


def _normal_colors(normals: np.ndarray, camera: Camera) -> np.ndarray:
    """World normals (H, W, 3) as bytes of (n + 1) / 2 in the camera's frame: x right, y up, z towards it.

    Surfaces have no inside here: a normal that looks away from the camera is that of a back, and is turned. Away is
    along the pixel's own ray: sides that run along the axis are seen, too, and z alone would turn them at random.
    """
    seen = normals @ camera.extrinsics[:3, :3].T
    centers = np.arange(camera.image_size) + 0.5
    pixels = np.stack([*np.meshgrid(centers, centers), np.ones((camera.image_size,) * 2)], axis=-1)
    rays = pixels @ np.linalg.inv(camera.intrinsics).T
    seen = np.where((seen * rays).sum(axis=-1, keepdims=True) > 0, -seen, seen)
    return np.asarray(np.rint((seen * (1.0, -1.0, -1.0) + 1) / 2 * 255), np.uint8)

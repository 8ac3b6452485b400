"""Renders a Clip to images.

Importing this package imports no engine, so it does not start Blender. Use `load_engine("cycles")` or
`from helix4d.render.cycles.engine import render_views`.
"""

from helix4d.render.engine_choice import choose_engine
from helix4d.render.engines import EngineName, EngineOption, check_engine, load_engine
from helix4d.render.pages.contact_sheet import contact_sheet
from helix4d.render.pages.ovoxel_picture import OVoxelPicture, picture_ovoxel, resized
from helix4d.render.scene.cameras import Camera, camera_to_world, orbit_camera, project, sample_camera, sample_cameras
from helix4d.render.scene.images import RenderedImage
from helix4d.render.scene.lighting import Lights, PointLight, sample_lights, sample_view_lights
from helix4d.render.scene.settings import PRESETS, TRELLIS2, PresetName, RenderSettings, preset

__all__ = [
    "PRESETS",
    "TRELLIS2",
    "Camera",
    "EngineName",
    "EngineOption",
    "Lights",
    "OVoxelPicture",
    "PointLight",
    "PresetName",
    "RenderSettings",
    "RenderedImage",
    "camera_to_world",
    "check_engine",
    "choose_engine",
    "contact_sheet",
    "load_engine",
    "orbit_camera",
    "picture_ovoxel",
    "preset",
    "project",
    "resized",
    "sample_camera",
    "sample_cameras",
    "sample_lights",
    "sample_view_lights",
]

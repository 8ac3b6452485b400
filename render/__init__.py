"""A Clip becomes images.

No engine is imported here: importing `render` does not start Blender. Use `load_engine("cycles")` or
`from render.blender import render_views`.
"""

from render.cameras import Camera, orbit_camera, project, sample_camera, sample_cameras
from render.contact_sheet import contact_sheet
from render.engines import EngineName, check_engine, load_engine
from render.images import RenderedImage
from render.lighting import Lights, PointLight, sample_lights, sample_view_lights
from render.settings import PRESETS, TRELLIS2, RenderSettings, preset

__all__ = [
    "PRESETS",
    "TRELLIS2",
    "Camera",
    "EngineName",
    "Lights",
    "PointLight",
    "RenderSettings",
    "RenderedImage",
    "check_engine",
    "contact_sheet",
    "load_engine",
    "orbit_camera",
    "preset",
    "project",
    "sample_camera",
    "sample_cameras",
    "sample_lights",
    "sample_view_lights",
]

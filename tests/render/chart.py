"""Renders one sphere per kind of material: `python -m tests.render.chart docs/images/materials.webp`."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from helix4d.assets import AlphaMode, Clip, Material, Texture
from helix4d.assets.gltf.specular_glossiness import convert_factors
from helix4d.render import Lights, PointLight, RenderSettings, orbit_camera
from tests.render.clips import clip, quad, sphere

SIZE = 160
SETTINGS = RenderSettings(image_size=SIZE, samples=32, device="cpu")
LIGHTS = Lights((PointLight((-20.0, -40.0, 30.0), 1.0),), 0.5)
DARK = Lights((), 0.02)
COLUMNS = 6

_GRAY = Material(base_color=(0.5, 0.5, 0.5), metallic=0.0, roughness=0.5)
_BACK = Material(base_color_texture=Texture(1), unlit=True)


@dataclass(frozen=True)
class Patch:
    """One picture of the chart.

    Attributes:
        material: of the sphere.
        colors: (F, 3, 4) vertex colors of the sphere.
        panel: whether stripes stand behind it.
        inside_out: whether the sphere's faces look inwards.
        dark: whether the lights are out.
    """

    material: Material
    colors: np.ndarray | None = None
    panel: bool = False
    inside_out: bool = False
    dark: bool = False


def patches() -> dict[str, Patch]:
    """All patches by name; neighbors differ in one property."""
    checked = replace(_GRAY, base_color=(1.0, 1.0, 1.0), base_color_texture=Texture(0))
    glass = Material(base_color=(1.0, 1.0, 1.0), metallic=0.0, roughness=0.0, transmission=1.0)
    volume = replace(glass, thickness=0.9, attenuation_color=(0.2, 0.9, 0.3), attenuation_distance=0.5)
    base, metallic = convert_factors(np.array([0.0, 0.0, 0.0]), np.array([0.9, 0.6, 0.2]))
    tinted = (float(base[0]), float(base[1]), float(base[2]))
    faces = len(sphere(0.45)[2])
    ramp = np.ones((faces, 3, 4), np.float32)
    corners = sphere(0.45)[0][sphere(0.45)[2]]
    ramp[..., 0] = corners[..., 0] / 0.9 + 0.5
    ramp[..., 1] = 0.2
    ramp[..., 2] = 0.5 - corners[..., 0] / 0.9
    return {
        "gray": Patch(_GRAY),
        "base color": Patch(replace(_GRAY, base_color=(0.8, 0.05, 0.05))),
        "metallic": Patch(replace(_GRAY, metallic=1.0)),
        "smooth": Patch(replace(_GRAY, roughness=0.15)),
        "rough": Patch(replace(_GRAY, roughness=1.0)),
        "normal map": Patch(replace(_GRAY, normal_texture=Texture(2))),
        "gray, dark": Patch(_GRAY, dark=True),
        "emissive, dark": Patch(replace(_GRAY, emissive=(0.1, 0.4, 0.8)), dark=True),
        "texture": Patch(checked),
        "transformed": Patch(replace(checked, base_color_texture=Texture(0, scale=(3.0, 3.0)))),
        "mask": Patch(replace(checked, alpha_mode=AlphaMode.MASK, base_color_texture=Texture(3))),
        "blend": Patch(replace(_GRAY, alpha_mode=AlphaMode.BLEND, alpha=0.5)),
        "stripes, gray": Patch(_GRAY, panel=True),
        "transmission": Patch(glass, panel=True),
        "volume": Patch(volume, panel=True),
        "vertex color": Patch(replace(_GRAY, base_color=(1.0, 1.0, 1.0)), colors=ramp),
        "unlit": Patch(replace(_GRAY, unlit=True)),
        "specular-glossiness": Patch(Material(base_color=tinted, metallic=float(metallic), roughness=0.3)),
        "inside, single-sided": Patch(_GRAY, inside_out=True),
        "inside, double-sided": Patch(replace(_GRAY, double_sided=True), inside_out=True),
    }


def render_patch(patch: Patch) -> np.ndarray:
    """(S, S, 4) uint8."""
    from helix4d.render.cycles.engine import render_views

    settings = replace(SETTINGS, cull_back_faces=patch.inside_out)
    camera = orbit_camera(-90.0, 10.0, SIZE, 40.0, 1.5)
    (image,) = render_views(shape(patch), [camera], [DARK if patch.dark else LIGHTS], settings, [0])
    return image.rgba


def chart(pictures: dict[str, np.ndarray]) -> Image.Image:
    """The pictures on light gray, with their names."""
    rows = -(-len(pictures) // COLUMNS)
    sheet = Image.new("RGB", (COLUMNS * SIZE, rows * (SIZE + 16)), (208, 208, 208))
    draw = ImageDraw.Draw(sheet)
    for number, (name, rgba) in enumerate(pictures.items()):
        x, y = number % COLUMNS * SIZE, number // COLUMNS * (SIZE + 16)
        picture = Image.fromarray(rgba, "RGBA")
        sheet.paste(picture, (x, y), picture)
        draw.text((x + 6, y + SIZE), name, fill=(40, 40, 40))
    return sheet


def shape(patch: Patch) -> Clip:
    """What a patch shows."""
    vertices, normals, faces, uvs = sphere(0.45, segments=96 if patch.colors is None else 48)
    if patch.inside_out:
        normals, faces, uvs = -normals, faces[:, ::-1], uvs[:, ::-1]
    parts, materials, colors = [(vertices, normals, faces, uvs)], [patch.material], patch.colors
    if patch.panel:
        parts.append(quad(0.49, 0.5))
        materials.append(_BACK)
    return clip(parts, materials, _images(), colors=colors)


def _images() -> list[np.ndarray]:
    y, x = np.mgrid[:128, :128]
    checker = np.full((128, 128, 4), 255, np.uint8)
    checker[(x // 16 + y // 16) % 2 == 0, :3] = (40, 60, 160)
    stripes = np.full((128, 128, 4), 255, np.uint8)
    stripes[x // 8 % 2 == 0, :3] = (30, 30, 30)
    bumps = np.full((128, 128, 4), 255, np.uint8)
    slope_x, slope_y = np.cos(2 * np.pi * x / 16), np.cos(2 * np.pi * y / 16)
    bumps[..., :3] = np.rint(127.5 + 127.5 * np.stack([0.5 * slope_x, 0.5 * slope_y, 0.75 + 0 * x], axis=-1))
    holes = np.full((128, 128, 4), 255, np.uint8)
    holes[(x // 16 + y // 16) % 2 == 0, 3] = 0
    return [checker, stripes, bumps, holes]


if __name__ == "__main__":
    chart({name: render_patch(patch) for name, patch in patches().items()}).save(Path(sys.argv[1]), quality=90)

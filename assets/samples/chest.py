"""A treasure chest that opens: surfaces that exist in the first frame but are hidden from every camera."""

from __future__ import annotations

import numpy as np

from helix4d.assets.samples import textures as tx
from helix4d.assets.samples.glb import GlbBuilder, Part, Track
from helix4d.assets.samples.motion import axis_angle, turn
from helix4d.assets.samples.shapes import Shape, join, lathe, rounded_box, sheet
from helix4d.core import generator
from helix4d.core.arrays import Float64Array

_WIDTH_M, _HEIGHT_M, _DEPTH_M, _WALL_M = 1.0, 0.5, 0.68, 0.05
_LID_M = 0.28


def treasure_chest() -> bytes:
    """A chest opens within 2.5 s and reveals coins and gems that are hidden at first; a ruby rises from it."""
    builder = GlbBuilder(
        "Treasure chest",
        [
            "hidden inner surface",
            "opening lid",
            "rigid nodes",
            "CUBICSPLINE keys",
            "textured PBR",
            "normal map",
            "metal",
        ],
    )
    wood, iron = _planks(builder), builder.material("iron", tx.linear("#4a4a52"), metallic=1.0, roughness=0.42)
    gold = builder.material("gold", tx.linear("#f2bd3f"), metallic=1.0, roughness=0.22)
    brass = builder.material("lock", tx.linear("#d59a35"), metallic=1.0, roughness=0.3)
    boards, bands = _chest_box()
    builder.node("box", mesh=builder.mesh("box", [Part(join(boards), wood), Part(join(bands), iron)]))
    lid_boards, lid_bands, lock = _chest_lid()
    lid_parts = [Part(join(lid_boards), wood), Part(join(lid_bands), iron), Part(lock, brass)]
    lid = builder.node("lid", mesh=builder.mesh("lid", lid_parts), translation=(0.0, _HEIGHT_M, -_DEPTH_M / 2))
    hoard, gems = _hoard()
    gem = builder.material("gems", roughness=0.08)
    builder.node("hoard", mesh=builder.mesh("hoard", [Part(hoard, gold), Part(join(gems), gem)]))
    ruby = builder.material("ruby", tx.linear("#d3122f"), roughness=0.05, emissive=tx.linear("#5a0210"))
    star = builder.node("ruby", mesh=builder.mesh("ruby", [Part(_gem(0.13), ruby)]), translation=(0.0, 0.42, 0.02))
    times = np.array([0.0, 0.4, 1.3, 1.7, 2.5])
    opening = axis_angle((1, 0, 0), -np.radians([0, 0, 112, 100, 102]))
    late = np.array([0.0, 1.0, 2.0, 2.5])
    rise = np.array([[0, 0.42, 0.02], [0, 0.42, 0.02], [0, 0.86, 0.06], [0, 0.9, 0.06]])
    turns = axis_angle((0, 1, 0), np.linspace(0.0, 2.0 * np.pi, 9))
    builder.animation(
        "open",
        [
            Track(lid, "rotation", times, opening, "CUBICSPLINE"),
            Track(star, "translation", late, rise, "CUBICSPLINE"),
            Track(star, "rotation", np.linspace(0.0, 2.5, 9), turns),
        ],
    )
    return builder.build()


def _chest_box() -> tuple[list[Shape], list[Shape]]:
    """Return the five boards of the box, and its iron fittings."""
    across, deep = _WIDTH_M / 2 - _WALL_M / 2, _DEPTH_M / 2 - _WALL_M / 2
    boards = [rounded_box((_WIDTH_M, _WALL_M, _DEPTH_M), 0.012).moved((0, _WALL_M / 2, 0))]
    for side in (-1.0, 1.0):
        front = rounded_box((_HEIGHT_M, _WIDTH_M, _WALL_M), 0.012).turned(turn((0, 0, 1), 90))
        boards.append(front.moved((0, _HEIGHT_M / 2, side * deep)))
        end = rounded_box((_WALL_M, _HEIGHT_M, _DEPTH_M - 2 * _WALL_M), 0.008)
        boards.append(end.moved((side * across, _HEIGHT_M / 2, 0)))
    bands = []
    for side in (-1.0, 1.0):
        for x in (-0.33, 0.33):
            strap = rounded_box((0.085, _HEIGHT_M + 0.01, 0.02), 0.008)
            bands.append(strap.moved((x, _HEIGHT_M / 2, side * (_DEPTH_M / 2 + 0.004))))
            bands += [
                _rivet().turned(turn((1, 0, 0), side * 90)).moved((x, y, side * (_DEPTH_M / 2 + 0.012)))
                for y in (0.08, 0.25, 0.42)
            ]
        for z in (-1.0, 1.0):
            corner = rounded_box((0.07, _HEIGHT_M + 0.01, 0.07), 0.012)
            bands.append(corner.moved((side * (_WIDTH_M / 2 - 0.03), _HEIGHT_M / 2, z * (_DEPTH_M / 2 - 0.03))))
    return boards, bands


def _chest_lid() -> tuple[list[Shape], list[Shape], Shape]:
    """Return the boards, bands and lock of the lid, with the hinge at the origin."""
    boards = [_vault(_WIDTH_M / 2, 0.0, _WALL_M)]
    boards += [_lid_end(side * _WIDTH_M / 2, side * (_WIDTH_M / 2 - _WALL_M)) for side in (-1.0, 1.0)]
    bands = [_vault(0.0425, -0.014, 0.012).moved((x, 0, 0)) for x in (-0.33, 0.33)]
    bands += [_vault(0.03, -0.014, 0.012).moved((side * (_WIDTH_M / 2 - 0.025), 0, 0)) for side in (-1.0, 1.0)]
    lock = rounded_box((0.16, 0.19, 0.05), 0.015).moved((0, -0.02, _DEPTH_M + 0.005))
    key = rounded_box((0.025, 0.07, 0.012), 0.004).moved((0, -0.03, _DEPTH_M + 0.03))
    return boards, bands, join([lock, key])


def _arc(inset: float, count: int = 33) -> Float64Array:
    """Return (count, 2) z and y coordinates of the lid's arch from front to back."""
    angle = np.linspace(0.0, np.pi, count)
    radius, rise = _DEPTH_M / 2 - inset, _LID_M - inset
    return np.stack([_DEPTH_M / 2 + radius * np.cos(angle), rise * np.sin(angle)], axis=-1)


def _vault(half_width: float, outer_inset: float, inner_inset: float) -> Shape:
    """Return a half pipe along X with a wall thickness and closed ends."""
    outer, inner = _arc(outer_inset), _arc(inner_inset)[::-1]
    ring = np.concatenate([outer, inner, outer[:1]])
    across = np.array([-half_width, half_width])
    points = np.stack(np.broadcast_arrays(across[None, :], ring[:, 1:], ring[:, :1]), axis=-1)
    ends = []
    for side in (-1.0, 1.0):
        lines = np.stack([inner[::-1], outer])[:: int(side)]
        faces = np.stack(np.broadcast_arrays(side * half_width, lines[..., 1], lines[..., 0]), axis=-1)
        ends.append(sheet(faces))
    return join([sheet(points, 40.0), *ends])


def _lid_end(outside: float, inside: float) -> Shape:
    """Return the half disk that closes one end of the lid."""
    arc = _arc(0.02)
    outline = np.concatenate([arc, arc[:1]])
    middle = np.broadcast_to([[_DEPTH_M / 2, 0.1]], outline.shape)
    rings = [(outside, middle), (outside, outline), (inside, outline), (inside, middle)]
    points = np.stack([np.stack([np.full(len(line), x), line[:, 1], line[:, 0]], axis=-1) for x, line in rings])
    return sheet(points if outside > inside else points[:, ::-1], 40.0)


def _rivet() -> Shape:
    angle = np.linspace(0.0, np.pi / 2, 5)
    return lathe(np.stack([0.02 * np.cos(angle), 0.012 * np.sin(angle)], axis=-1), 12, 180.0)


def _hoard() -> tuple[Shape, list[Shape]]:
    """Return a mound covered with coins, and colored gems."""
    random = generator("samples", "hoard")
    columns, rows = np.meshgrid(np.linspace(-0.45, 0.45, 30), np.linspace(0.29, -0.29, 20))
    gold = [sheet(np.stack([columns, _mound(columns, rows), rows], axis=-1))]
    for _ in range(48):
        x, z = random.uniform(-0.41, 0.41), random.uniform(-0.25, 0.25)
        tilt = turn((random.normal(), 0.0, random.normal()), random.uniform(4, 45))
        gold.append(_coin().turned(tilt).moved((x, float(_mound(x, z)) + 0.012, z)))
    gems = []
    for color in ("#1f9e5a", "#2463d1", "#8c3bd1", "#17b3c9", "#e0457b", "#2463d1", "#1f9e5a"):
        x, z = random.uniform(-0.38, 0.38), random.uniform(-0.22, 0.22)
        gem = _gem(random.uniform(0.045, 0.065)).turned(turn(random.normal(size=3), random.uniform(0, 70)))
        gems.append(gem.moved((x, float(_mound(x, z)) + 0.045, z)).colored(tx.linear(color)))
    return join(gold), gems


def _mound(x: Float64Array | float, z: Float64Array | float) -> Float64Array:
    """Return the height of the mound at x, z."""
    heap = 0.27 + 0.13 * np.exp(-(np.square(x) / 0.09 + np.square(z) / 0.05))
    return np.asarray(heap + 0.012 * np.sin(31 * np.asarray(x)) * np.sin(29 * np.asarray(z)))


def _coin() -> Shape:
    radius, half = 0.052, 0.007
    profile = [
        [0, -half],
        [radius, -half],
        [radius, half],
        [0.84 * radius, half],
        [0.8 * radius, 0.4 * half],
        [0, 0.4 * half],
    ]
    return lathe(np.array(profile), 14, 30.0)


def _gem(radius: float) -> Shape:
    """Return a brilliant-cut gem with flat facets."""
    return lathe(np.array([[0, -0.8], [0.95, 0.15], [1.0, 0.25], [0.62, 0.55], [0, 0.55]]) * radius, 8, 5.0)


def _planks(builder: GlbBuilder) -> int:
    _, v = tx.coordinates(512)
    planks = 4
    row = np.floor(v * planks)
    gap = np.abs(v * planks - row - 0.5) * 2
    shifted = tx.noise("wood", 512, (2, 24), 5)
    warp = tx.noise("wood warp", 512, 4, 3)
    rings = 0.5 + 0.5 * np.sin(2 * np.pi * (5.0 * v * planks + 2.4 * warp + 0.6 * row))
    tone = np.clip(0.45 * shifted + 0.3 * rings + 0.25 * ((row * 0.37) % 1.0), 0, 1)
    color = tx.palette(tone, ["#4a2811", "#75431d", "#96602f", "#b07a43"])
    groove = tx.step(gap, 0.955, 0.05)
    color = color * (1 - 0.75 * groove[..., None])
    half = (slice(None, None, 2), slice(None, None, 2))
    height = 0.8 * (1 - groove[half]) + 0.2 * shifted[half] + 0.08 * rings[half]
    roughness = 0.55 + 0.25 * (1 - tone[half]) + 0.1 * groove[half]
    return builder.material(
        "planks",
        roughness=1.0,
        color_texture=builder.texture(tx.pixels(color, 64), "planks color"),
        metallic_roughness_texture=builder.texture(tx.metallic_roughness(0.0, roughness), "planks roughness"),
        normal_texture=builder.texture(tx.normal_map(height, 3.0), "planks normal"),
    )

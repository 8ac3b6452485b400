"""A painted vase that shatters: its wall is cut into solid pieces with inner faces, which fly apart.

The wall is a sheet with coordinates (around, along) and a thickness. The cells of a Voronoi diagram of the sheet are
convex polygons; a smooth warp of the sheet makes their edges irregular, and equal on both sides of every cut.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np

from helix4d.assets.samples import textures as tx
from helix4d.assets.samples.glb import GlbBuilder, Part, Track
from helix4d.assets.samples.motion import axis_angle, continuous, flight, matrix
from helix4d.assets.samples.shapes import Shape, join, sheet
from helix4d.core import generator
from helix4d.core.arrays import Float64Array

_CELLS = 26
_IMPACT_S, _DURATION_S = 0.3, 2.0
_THICKNESS_M = 0.028
_ASPECT = 1.25
"""Length of the profile relative to the circumference of the belly."""

_PROFILE = np.array(
    [
        [0.0, 0.0],
        [0.2, 0.0],
        [0.23, 0.03],
        [0.34, 0.22],
        [0.43, 0.45],
        [0.44, 0.6],
        [0.37, 0.8],
        [0.24, 0.95],
        [0.18, 1.04],
        [0.185, 1.12],
        [0.24, 1.2],
    ]
)


def shattering_vase() -> bytes:
    """A vase stands still for 0.3 s, then bursts into 26 pieces that fall, bounce and come to rest by 2 s."""
    builder = GlbBuilder(
        "Shattering vase", ["shattering", "rigid nodes", "inner faces", "textured PBR", "normal map", "LINEAR keys"]
    )
    glaze = _glaze(builder)
    inside = builder.material("inner glaze", tx.linear("#e9dfc8"), roughness=0.4)
    clay = builder.material("clay", tx.linear("#c9794f"), roughness=0.95)
    random = generator("samples", "vase pieces")
    times = np.concatenate([[0.0], np.linspace(_IMPACT_S, _DURATION_S, 52)])
    tracks = []
    for number, polygon in enumerate(_cells()):
        outer, inner, edge = _piece(polygon)
        outline = edge.positions
        center = join([outer, inner, edge]).positions.mean(axis=0)
        parts = [
            Part(part.moved(-center), material) for part, material in ((outer, glaze), (inner, inside), (edge, clay))
        ]
        mesh = builder.mesh(f"piece {number:02d}", parts)
        node = builder.node(f"piece {number:02d}", mesh=mesh, translation=center)
        away = center - np.array([0.0, 0.5, 0.0])
        away[1] *= 0.6
        speed = away / np.linalg.norm(away) * random.uniform(0.35, 0.95) + [0.0, random.uniform(0.3, 1.2), 0.0]
        path = flight(center, speed, times[1:] - _IMPACT_S, floor=0.02)
        turning = continuous(
            axis_angle(
                random.normal(size=3), random.uniform(1.5, 4.0) * (1 - np.exp(-2.5 * (times - _IMPACT_S).clip(0.0)))
            )
        )
        # A tumbling piece hits the ground with its lowest corner, not with its center.
        lowest = [float(((outline - center) @ matrix(rotation).T)[:, 1].min()) for rotation in turning[1:]]
        path[:, 1] = np.maximum(path[:, 1], -np.array(lowest))
        tracks.append(Track(node, "translation", times, np.vstack([center, path])))
        tracks.append(Track(node, "rotation", times, turning))
    builder.animation("shatter", tracks)
    return builder.build()


def _cells() -> list[Float64Array]:
    """Return convex polygons (K, 2) that tile the wall in (turns around, fraction along); some extend past the seam."""
    random = generator("samples", "vase cells")
    seeds = np.column_stack([random.random(_CELLS), random.random(_CELLS)])
    for _ in range(3):  # Lloyd: even out the sizes
        seeds = np.array([polygon.mean(axis=0) for polygon in [_cell(seeds, number) for number in range(_CELLS)]])
        seeds[:, 0] %= 1.0
    return [_cell(seeds, number) for number in range(_CELLS)]


def _cell(seeds: Float64Array, number: int) -> Float64Array:
    own = seeds[number]
    polygon = np.array([[own[0] - 0.5, 0.0], [own[0] + 0.5, 0.0], [own[0] + 0.5, 1.0], [own[0] - 0.5, 1.0]])
    for turn in (-1.0, 0.0, 1.0):
        for other, seed in enumerate(seeds + np.array([turn, 0.0])):
            if other != number or turn:
                polygon = _cut(polygon, (own + seed) / 2, (seed - own) * [1.0, _ASPECT**2])
    return polygon


def _cut(polygon: Float64Array, point: Float64Array, normal: Float64Array) -> Float64Array:
    """Return the part of a convex polygon behind the line through `point` with the given `normal`."""
    side = (polygon - point) @ normal
    kept = []
    for start in range(len(polygon)):
        end = (start + 1) % len(polygon)
        if side[start] <= 0:
            kept.append(polygon[start])
        if side[start] * side[end] < 0:
            share = side[start] / (side[start] - side[end])
            kept.append(polygon[start] + share * (polygon[end] - polygon[start]))
    return np.array(kept).reshape(-1, 2)


def _piece(polygon: Float64Array) -> tuple[Shape, Shape, Shape]:
    """Return the outer wall, inner wall and broken edge of a cell."""
    outline = []
    for start, end in zip(polygon, np.roll(polygon, -1, axis=0), strict=True):
        count = max(2, round(float(np.hypot(*((end - start) * [1.0, _ASPECT]))) * 26))
        outline.append(start + np.linspace(0.0, 1.0, count, endpoint=False)[:, None] * (end - start))
    ring = np.concatenate([*outline, outline[0][:1]])
    rings = np.linspace(0.0, 1.0, 7)[:, None, None]
    flat = polygon.mean(axis=0) * (1 - rings) + ring * rings  # from the middle to the outline
    # The outline is counter-clockwise in (around, along) as seen from outside, so columns run from left to right.
    outer = _on_wall(flat[::-1], 0.0)
    inner = _on_wall(flat, 1.0)
    edge = sheet(np.stack([_wall(_warp(ring), share)[0] for share in (1.0, 0.5, 0.0)]), 30.0)
    return outer, inner, edge


def _on_wall(flat: Float64Array, depth: float) -> Shape:
    """Return the outer (depth 0) or inner (1) wall over a grid (M, N, 2), with normals that match across cuts."""
    warped = _warp(flat)
    points, _ = _wall(warped, depth)
    shape = sheet(points, 180.0, np.stack([warped[..., 0], 1 - warped[..., 1]], axis=-1))
    _, normals = _wall(np.column_stack([shape.uvs[:, 0], 1 - shape.uvs[:, 1]]), depth)
    return replace(shape, normals=normals if depth == 0 else -normals)


def _warp(flat: Float64Array) -> Float64Array:
    """Displace the sheet periodically, without moving its ends."""
    around, along = flat[..., 0], flat[..., 1]
    inside = 4 * along * (1 - along)
    a, b = 2 * np.pi * around, 2 * np.pi * along
    # The slopes add up to less than 1 in each direction, so the sheet does not fold over.
    aside = 0.014 * np.sin(3 * a + 4 * b) + 0.006 * np.sin(7 * a - 6 * b) + 0.003 * np.sin(13 * a + 11 * b)
    up = 0.013 * np.sin(4 * a - 3 * b + 1) + 0.006 * np.sin(7 * a + 8 * b) + 0.003 * np.sin(13 * a - 12 * b)
    return np.stack([around + inside * aside, along + inside * up], axis=-1)


def _wall(warped: Float64Array, depth: float) -> tuple[Float64Array, Float64Array]:
    """Return (..., 3) points and outward normals at (..., 2) (around, along); depth 0 is outside, 1 inside."""
    curve = _smooth_profile()
    station = np.linspace(0.0, 1.0, len(curve))
    slope = np.gradient(curve, axis=0)
    slope /= np.linalg.norm(slope, axis=1, keepdims=True)
    slope[0] = (1.0, 0.0)  # level at the axis, so that both walls are closed there
    radius, height, rise_r, rise_y = (
        np.interp(warped[..., 1], station, values) for values in (curve[:, 0], curve[:, 1], slope[:, 0], slope[:, 1])
    )
    length = np.hypot(rise_r, rise_y)
    out_r, out_y = rise_y / length, -rise_r / length
    radius, height = radius - depth * _THICKNESS_M * out_r, height - depth * _THICKNESS_M * out_y
    angle = 2 * np.pi * warped[..., 0]
    points = np.stack([radius * np.cos(angle), height, -radius * np.sin(angle)], axis=-1)
    normals = np.stack([out_r * np.cos(angle), out_y, -out_r * np.sin(angle)], axis=-1)
    return points, normals


@cache
def _smooth_profile() -> Float64Array:
    """Return the (400, 2) profile by arc length, with rounded corners."""
    curve = _by_length(_PROFILE, 400)
    for _ in range(400):
        curve[1:-1] = (curve[:-2] + 2 * curve[1:-1] + curve[2:]) / 4
    return _by_length(curve, 400)


def _by_length(curve: Float64Array, count: int) -> Float64Array:
    length = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(curve, axis=0), axis=1))])
    at = np.linspace(0.0, length[-1], count)
    return np.stack([np.interp(at, length, curve[:, axis]) for axis in range(2)], axis=-1)


def _glaze(builder: GlbBuilder) -> int:
    """Add a texture of blue brushwork on cream: bands, petals and a lattice."""
    u, v = tx.coordinates(512)
    grain = tx.noise("vase", 512, 8, 4)
    paint = np.zeros_like(u)
    for top, bottom in ((0.04, 0.055), (0.21, 0.225), (0.24, 0.248), (0.66, 0.668), (0.68, 0.695)):
        paint = np.maximum(paint, tx.step(v, top, 0.004) * tx.step(bottom - v, 0.0, 0.004))
    for count, middle, tall, shift in ((8, 0.455, 0.17, 0.0), (8, 0.455, 0.17, 0.5)):
        x = ((u * count + shift) % 1.0 - 0.5) * 2
        y = (v - middle) / tall
        ring = np.abs(np.hypot(x / 0.9, y) - 1.0)
        paint = np.maximum(paint, tx.step(0.09 - ring, 0.0, 0.05) * (0.75 if shift else 1.0))
        petals = np.cos(5 * np.arctan2(y, x)) * 0.25 + 0.45
        bloom = tx.step(petals - np.hypot(x, y), 0.0, 0.06) * (0 if shift else 1)
        core = tx.step(0.14 - np.hypot(x, y), 0.0, 0.05) * (0 if shift else 1)
        paint = np.maximum(paint, bloom * (0.55 + 0.45 * np.hypot(x, y))) * (1 - core)
    waves = np.abs((v - 0.135) / 0.05 - np.sin(u * 2 * np.pi * 12) * 0.8)
    paint = np.maximum(paint, tx.step(0.3 - waves, 0.0, 0.15))
    tongues = 0.72 + 0.09 * np.abs(np.sin(u * np.pi * 14))
    paint = np.maximum(paint, tx.step(v, 0.705, 0.004) * tx.step(tongues - v, 0.0, 0.008) * 0.85)
    strength = paint * (0.8 + 0.5 * (grain - 0.5))
    cream = tx.palette(grain, ["#efe5cf", "#faf4e6"])
    color = tx.mix(cream, tx.palette(grain, ["#12306f", "#2a5cb0"]), strength)
    rough = 0.18 + 0.25 * grain[::2, ::2]
    height = 0.35 * tx.noise("vase throwing", 256, (2, 60), 2) + 0.25 * paint[::2, ::2]
    return builder.material(
        "glaze",
        roughness=1.0,
        color_texture=builder.texture(tx.pixels(color, 64), "glaze color"),
        metallic_roughness_texture=builder.texture(tx.metallic_roughness(0.0, rough), "glaze roughness"),
        normal_texture=builder.texture(tx.normal_map(height, 1.5), "glaze normal"),
    )

"""Thin things: a waving flag (open surface, morph targets), and a butterfly and a flower with alpha masks."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from helix4d.assets.samples import textures as tx
from helix4d.assets.samples.glb import GlbBuilder, Part, Target, Track
from helix4d.assets.samples.motion import axis_angle, multiply, sampled, smoothstep
from helix4d.assets.samples.shapes import Shape, capsule, displaced, join, lathe, sheet, smooth_normals, sphere, welded
from helix4d.core.arrays import Float64Array, UInt8Array

_FLAG_WIDTH_M, _FLAG_HEIGHT_M = 1.5, 0.95


def flag() -> bytes:
    """A flag with an open boundary in the wind for 2 s: the weights of four morph targets make the waves travel."""
    builder = GlbBuilder(
        "Waving flag",
        ["thin open surface", "double-sided", "morph targets", "textured PBR", "normal map", "KHR_texture_transform"],
    )
    u, height = np.meshgrid(np.linspace(0.0, 1.0, 65), np.linspace(0.0, 1.0, 37))
    flat = np.stack([u * _FLAG_WIDTH_M, 1.15 + height * _FLAG_HEIGHT_M, 0 * u], axis=-1)
    base = sheet(flat)
    points = welded(base.positions)
    targets = []
    for name, waves, amplitude, phase in (
        ("long sine", 1.25, 0.2, 0.0),
        ("long cosine", 1.25, 0.2, 0.25),
        ("short sine", 2.5, 0.055, 0.0),
        ("short cosine", 2.5, 0.055, 0.25),
    ):
        along = base.positions[:, 0] / _FLAG_WIDTH_M
        lag = 0.18 * (base.positions[:, 1] - 1.15)
        rise = amplitude * along**0.8 * np.sin(2 * np.pi * (waves * along - lag + phase))
        moved = base.positions + np.stack([0 * rise, 0 * rise, rise], axis=-1)
        targets.append(Target(name, moved, smooth_normals(moved, base.faces, points)))
    cloth = builder.node("cloth", mesh=builder.mesh("cloth", [Part(base, _cloth_material(builder), targets)]))
    pole = lathe(np.array([[0, 0], [0.03, 0], [0.026, 2.18], [0, 2.18]]), 24)
    foot = lathe(np.array([[0, 0], [0.24, 0], [0.24, 0.02], [0.2, 0.05], [0.05, 0.08], [0.035, 0.14], [0, 0.14]]), 40)
    wood = builder.material("pole", tx.linear("#e8e2d5"), roughness=0.35)
    gold = builder.material("gold", tx.linear("#e5b23c"), metallic=1.0, roughness=0.25)
    parts = [Part(pole, wood), Part(join([foot, sphere(0.065, 20, 28).moved((0.0, 2.22, 0.0))]), gold)]
    builder.node("pole", mesh=builder.mesh("pole", parts), translation=(-0.03, 0.0, 0.0))
    times = np.linspace(0.0, 2.0, 33)

    def weights(t: Float64Array) -> Float64Array:
        slow, fast = 2 * np.pi * t, 2 * np.pi * 1.5 * t
        return np.stack([np.cos(slow), -np.sin(slow), np.cos(fast), -np.sin(fast)], axis=-1)

    builder.animation("wave", [sampled(cloth, "weights", times, weights)])
    return builder.build()


def butterfly() -> bytes:
    """A monarch flaps four alpha-masked wings for 1.5 s: quantized meshes that share an image by texture transforms."""
    builder = GlbBuilder(
        "Monarch butterfly",
        ["MASK alpha", "double-sided", "KHR_mesh_quantization", "KHR_texture_transform", "rigid nodes", "textured"],
    )
    image = builder.texture(_wing_image(), "wings")
    body = builder.node("body")
    builder.node("abdomen", body, mesh=builder.mesh("body", _butterfly_body(builder), quantized=True))
    times = np.linspace(0.0, 1.5, 37)
    tracks = []
    for half, lag, reach in ((0, 0.0, 1.0), (1, 0.07, 0.92)):
        for side in (1.0, -1.0):
            # Seen from above with the head up, x points left. The image contains the fore and hind wing of
            # the side x < 0; a negative scale mirrors it for the other side.
            offset, scale = ([0.5 * half, 0.0], [0.5, 1.0]) if side < 0 else ([0.5 * half + 0.5, 0.0], [-0.5, 1.0])
            transform = {"KHR_texture_transform": {"offset": offset, "scale": scale}}
            material = builder.material(
                f"wing {half} {side:+.0f}",
                roughness=0.55,
                color_texture={"index": image, "extensions": transform},
                alpha_mode="MASK",
                alpha_cutoff=0.5,
                double_sided=True,
            )
            wing = _wing(side, half)
            mesh = builder.mesh(f"wing {half} {side:+.0f}", [Part(wing, material)], quantized=True)
            node = builder.node(f"wing {half} {side:+.0f}", body, mesh=mesh, translation=(side * 0.03, 0.03, 0.0))

            def flap(t: Float64Array, side: float = side, lag: float = lag, reach: float = reach) -> Float64Array:
                beat = 0.5 + 0.85 * reach * np.cos(2 * np.pi * (2 * t - lag))
                return axis_angle((0, 0, 1), side * beat)

            tracks.append(sampled(node, "rotation", times, flap))

    def drift(t: Float64Array) -> Float64Array:
        phase = 2 * np.pi * t / 1.5
        return np.stack([0.12 * np.sin(phase), 0.1 * np.cos(2 * np.pi * 2 * t + 2.4), 0.08 * np.cos(phase)], axis=-1)

    def bank(t: Float64Array) -> Float64Array:
        phase = 2 * np.pi * t / 1.5
        pitch = axis_angle((1, 0, 0), -0.35 + 0.12 * np.cos(2 * np.pi * 2 * t + 1.0))
        return multiply(axis_angle((0, 0, 1), -0.2 * np.cos(phase)), pitch)

    few = np.linspace(0.0, 1.5, 13)
    tracks += [sampled(body, "translation", few, drift, cubic=True), sampled(body, "rotation", few, bank, cubic=True)]
    builder.animation("flutter", tracks)
    return builder.build()


def sprout() -> bytes:
    """A flower grows from an empty pot in 3 s: its stem, leaves and petals start at scale zero."""
    builder = GlbBuilder(
        "Sprouting flower",
        ["emerging object", "zero scale", "MASK alpha", "textured PBR", "normal map", "CUBICSPLINE keys"],
    )
    radii = np.linspace(0.35, 0.0, 15)
    soil = displaced(lathe(np.stack([radii, np.full(15, 0.5)], axis=-1), 40, 180.0), _soil)
    earth = builder.material("soil", tx.linear("#3b2618"), roughness=1.0)
    builder.node("pot", mesh=builder.mesh("pot", [Part(_pot(), _terracotta(builder)), Part(soil, earth)]))
    line = np.linspace(0.0, 1.0, 24)
    path = np.stack([0.08 * np.sin(3.2 * line), 1.02 * line, 0.04 * np.sin(5 * line)], axis=-1)
    stem_material = builder.material("stem", tx.linear("#5a9c3a"), roughness=0.55)
    stem_mesh = builder.mesh("stem", [Part(capsule(path, np.linspace(0.034, 0.02, 24), 14), stem_material)])
    stem = builder.node("stem", mesh=stem_mesh, translation=(0.0, 0.5, 0.0))
    tracks = [_grow(stem, 0.15, 1.3)]
    leaf_mesh = builder.mesh("leaf", [Part(_leaf(), _leaf_material(builder))])
    for number, (place, azimuth) in enumerate(((5, 0.4), (9, 3.3), (13, 1.7), (16, 5.0))):
        turned = axis_angle((0, 1, 0), azimuth)
        node = builder.node(f"leaf {number}", stem, mesh=leaf_mesh, translation=path[place], rotation=turned)
        tracks.append(_grow(node, 0.75 + 0.25 * number, 0.8, 1.0 - 0.12 * number))
    head = builder.node("flower", stem, translation=path[-1], rotation=axis_angle((1, 0, 0.2), 0.45))
    tracks.append(_grow(head, 1.35, 0.7))
    center = displaced(
        sphere(0.105, 20, 32), lambda p: p * [1, 0.55, 1] * (1 + 0.03 * np.sin(55 * p[:, :1]) * np.sin(55 * p[:, 2:]))
    )
    pollen = builder.material("pollen", tx.linear("#7a4314"), roughness=0.9)
    builder.node("center", head, mesh=builder.mesh("center", [Part(center, pollen)]), translation=(0, 0.02, 0))
    petal_mesh = builder.mesh("petal", [Part(_petal(), builder.material("petal", roughness=0.5, double_sided=True))])
    for number in range(16):
        turned = axis_angle((0, 1, 0), 2 * np.pi * number / 16)
        petal = builder.node(f"petal {number:02d}", head, mesh=petal_mesh, rotation=turned)
        start = 1.7 + 0.02 * (number % 4)
        open_deg = np.radians([82.0, 82.0, -6.0 - 10.0 * (number % 2), 4.0 - 10.0 * (number % 2)])
        times = np.array([0.0, start, 2.7, 3.0])
        keys = multiply(turned, axis_angle((0, 0, 1), open_deg))
        tracks.append(Track(petal, "rotation", times, keys, "CUBICSPLINE"))
    builder.animation("grow", tracks)
    return builder.build()


def _cloth_material(builder: GlbBuilder) -> int:
    u, v = tx.coordinates(512)
    x, y = (u - 0.5) * _FLAG_WIDTH_M / _FLAG_HEIGHT_M, v - 0.5
    grain = tx.noise("flag", 512, 16, 3)
    color = np.broadcast_to(tx.srgb("#16325c"), (512, 512, 3))
    color = tx.mix(color, np.broadcast_to(tx.srgb("#f6f1e4"), color.shape), tx.step(np.abs(y), 0.3, 0.006))
    color = tx.mix(color, np.broadcast_to(tx.srgb("#d8483a"), color.shape), tx.step(np.abs(y), 0.335, 0.006))
    for rung in np.linspace(-0.56, 0.56, 15):
        reach = 0.17 * np.abs(np.sin(rung * 6.0))
        inside = tx.step(reach - np.abs(y), 0.0, 0.006) * tx.step(0.009 - np.abs(x - rung), 0.0, 0.006)
        color = tx.mix(color, np.broadcast_to(tx.srgb("#8fb7d9"), color.shape), inside)
    for sign, tint in ((1.0, "#f2b632"), (-1.0, "#f6f1e4")):
        strand = sign * 0.17 * np.sin(x * 6.0)
        slope = np.sqrt(1 + (1.02 * np.cos(x * 6.0)) ** 2)
        inside = tx.step(0.026 - np.abs(y - strand) / slope, 0.0, 0.006) * tx.step(0.62 - np.abs(x), 0.0, 0.006)
        color = tx.mix(color, np.broadcast_to(tx.srgb(tint), color.shape), inside)
    color = color * (0.94 + 0.12 * (grain[..., None] - 0.5))
    a, b = tx.coordinates(64)
    weave = (
        0.5 + 0.25 * np.sin(2 * np.pi * 8 * a) * np.sign(np.sin(2 * np.pi * 4 * b)) + 0.25 * np.sin(2 * np.pi * 8 * b)
    )
    tiled = {"KHR_texture_transform": {"scale": [14.0, 9.0]}}
    normal = builder.texture(tx.normal_map(weave, 0.8), "weave normal")
    rough = builder.texture(tx.metallic_roughness(0.0, 0.7 + 0.2 * weave), "weave roughness")
    return builder.material(
        "cloth",
        roughness=1.0,
        color_texture=builder.texture(tx.pixels(color, 64), "flag color"),
        metallic_roughness_texture={"index": rough, "extensions": tiled},
        normal_texture={"index": normal, "scale": 0.5, "extensions": tiled},
        double_sided=True,
    )


def _butterfly_body(builder: GlbBuilder) -> list[Part]:
    black = builder.material("body", tx.linear("#1d1613"), roughness=0.7)
    spots = builder.material("spots", tx.linear("#f5efe2"), roughness=0.6)
    station = np.linspace(0.0, 1.0, 30)
    path = np.stack([0 * station, -0.03 * station**2, 0.14 - 0.62 * station], axis=-1)
    radii = 0.05 * (1.05 - 0.62 * station) * (0.93 + 0.07 * np.sin(70 * station))
    parts = [capsule(path, radii, 20), sphere(0.06, 16, 24).moved((0, 0.01, 0.235))]
    for side in (-1.0, 1.0):
        bend = np.linspace(0.0, 1.0, 9)
        line = np.stack([side * (0.02 + 0.16 * bend**1.3), 0.05 + 0.12 * bend, 0.26 + 0.26 * bend], axis=-1)
        parts += [capsule(line, np.full(9, 0.007), 8), sphere(0.017, 8, 12).moved(line[-1])]
    dots = [sphere(0.02, 10, 14).moved((side * 0.045, 0.03, 0.25)) for side in (-1.0, 1.0)]
    return [Part(_unit_uvs(join(parts)), black), Part(_unit_uvs(join(dots)), spots)]


def _unit_uvs(shape: Shape) -> Shape:
    return replace(shape, uvs=np.clip(shape.uvs, 0.0, 1.0))


def _wing(side: float, half: int) -> Shape:
    """Return one wing as a curved sheet, with its root at the origin and at the edge of the image."""
    out, forward = np.meshgrid(np.linspace(0.0, 1.0, 15), np.linspace(0.0, 1.0, 15))
    if half == 0:
        x, z = 0.95 * out, -0.22 + 0.92 * forward
    else:
        x, z = 0.78 * out, -0.78 + 0.86 * forward
    y = 0.07 * np.sin(np.pi * out) * (1 - 0.5 * forward) - 0.004 * half
    points = np.stack([side * x, y, z], axis=-1)
    return sheet(points if side < 0 else points[:, ::-1])


def _wing_image() -> UInt8Array:
    """Return a (256, 512, 4) image of the fore and the hind wing, transparent outside their outlines."""
    halves = []
    for half, root, spread, tips in (
        (0, (-0.02, 0.24), (-26, 68), (0.99, 0.62, 0.16)),
        (1, (-0.02, 0.88), (-92, 14), (0.86, 0.78, 0.05)),
    ):
        u, v = tx.coordinates(256)
        x, y = u - root[0], (1 - v) - root[1]
        angle, out = np.degrees(np.arctan2(y, x)), np.hypot(x, y)
        share = np.clip((angle - spread[0]) / (spread[1] - spread[0]), 0.0, 1.0)
        scallop = 0.016 * np.cos(share * 2 * np.pi * 7)
        reach = (
            tips[1]
            + (tips[0] - tips[1]) * np.sin(np.pi * share ** (0.45 if half else 1.6)) ** (1.2 - tips[2])
            - scallop
        )
        inside = np.minimum(
            (reach - out) * 14, np.minimum(angle - spread[0], spread[1] - angle) * np.clip(out, 0.02, 1) * 0.4
        )
        inside = np.minimum(inside, np.minimum(np.minimum(u, 1 - u), np.minimum(v, 1 - v)) * 60 - 0.4 + 2 * (u < 0.1))
        rim = np.clip((reach - out) / reach, 0.0, 1.0)
        color = tx.palette(np.clip(out / reach, 0, 1), ["#c9500c", "#f07c16", "#f99a2a", "#f2831c"])
        veins = np.abs(((share * 7) + 0.06 * np.sin(9 * out)) % 1.0 - 0.5)
        black = np.maximum(tx.step(veins + 0.022 / np.clip(out, 0.15, 1.0), 0.5, 0.03), tx.step(0.17 - rim, 0.0, 0.03))
        edge = np.minimum(angle - spread[0], spread[1] - angle) * np.clip(out, 0.05, 1.0)
        black = np.maximum(black, tx.step(2.4 - edge, 0.0, 1.0))
        color = tx.mix(color, np.broadcast_to(tx.srgb("#15100f"), color.shape), black)
        for depth, size, count in ((0.05, 0.014, 21), (0.11, 0.018, 14)):
            across = (((share * count) % 1.0) - 0.5) / count * np.radians(spread[1] - spread[0]) * reach
            dot = tx.step(size - np.hypot(across, (rim - depth) * reach), 0.0, 0.008)
            color = tx.mix(color, np.broadcast_to(tx.srgb("#fff6e6"), color.shape), dot)
        halves.append(np.concatenate([color, np.clip(inside * 4 + 0.5, 0, 1)[..., None]], axis=-1))
    return tx.pixels(np.concatenate(halves, axis=1), 64)


def _grow(node: int, start: float, lasting: float, size: float = 1.0) -> Track:
    """Return a track that scales a node from zero to `size` with a small overshoot."""
    times = np.array([0.0, start, start + 0.75 * lasting, start + lasting, 3.0])
    sizes = np.array([0.0, 0.0, 1.08, 1.0, 1.0]) * size
    return Track(node, "scale", times, np.repeat(sizes[:, None], 3, axis=1), "CUBICSPLINE")


def _pot() -> Shape:
    profile = [[0, 0], [0.25, 0], [0.27, 0.02], [0.36, 0.44], [0.42, 0.44], [0.43, 0.46], [0.43, 0.57], [0.42, 0.59]]
    inside = [[0.38, 0.59], [0.37, 0.57], [0.345, 0.47], [0.27, 0.08], [0, 0.08]]
    return lathe(np.array(profile + inside), 64, 40.0)


def _soil(points: Float64Array) -> Float64Array:
    x, y, z = points.T
    mound = 0.06 * np.exp(-(x**2 + z**2) / 0.03) + 0.012 * np.sin(31 * x + 2) * np.sin(37 * z)
    return np.stack([x, y + mound * (np.hypot(x, z) < 0.33), z], axis=-1)


def _terracotta(builder: GlbBuilder) -> int:
    grain = tx.noise("pot", 256, 8, 5)
    streaks = tx.noise("pot streaks", 256, (3, 40), 3)
    clay = tx.palette(np.clip(0.6 * grain + 0.4 * streaks, 0, 1), ["#8f4526", "#b65f37", "#cf7a4e", "#dd9a74"])
    height = 0.25 * grain + 0.3 * streaks
    return builder.material(
        "terracotta",
        roughness=1.0,
        color_texture=builder.texture(tx.pixels(clay, 64), "terracotta color"),
        metallic_roughness_texture=builder.texture(
            tx.metallic_roughness(0.0, 0.7 + 0.25 * grain), "terracotta roughness"
        ),
        normal_texture=builder.texture(tx.normal_map(height, 3.0), "terracotta normal"),
    )


def _leaf() -> Shape:
    across, along = np.meshgrid(np.linspace(-0.5, 0.5, 9), np.linspace(0.0, 1.0, 17))
    x = 0.62 * along
    y = 0.26 * np.sin(2.0 * along) - 0.12 * along**2 + 0.25 * across**2
    return sheet(np.stack([x, y, 0.34 * across], axis=-1))


def _leaf_material(builder: GlbBuilder) -> int:
    u, v = tx.coordinates(256)
    along, across = 1 - v, np.abs(u - 0.5) * 2
    width = np.sin(np.pi * np.clip(along, 0, 1) ** 0.75) ** 0.9 * (0.92 + 0.04 * np.cos(along * 2 * np.pi * 12))
    alpha = np.clip((np.maximum(width, 0.1 * (along < 0.2)) - across) * 14 + 0.5, 0, 1)
    grain = tx.noise("leaf", 256, 6, 4)
    green = tx.palette(np.clip(0.25 + 0.5 * along + 0.5 * (grain - 0.5), 0, 1), ["#2f7a2c", "#4fa23a", "#8ccc55"])
    ribs = np.abs((along * 9 - across * 1.6) % 1.0 - 0.5)
    vein = np.maximum(tx.step(ribs, 0.46, 0.05) * 0.6, tx.step(0.05 - across, 0.0, 0.03))
    green = tx.mix(green, np.broadcast_to(tx.srgb("#c4e58a"), green.shape), vein)
    info: dict[str, Any] = {"index": builder.texture(tx.normal_map(0.5 - 0.5 * vein, 1.5), "leaf normal")}
    return builder.material(
        "leaf",
        roughness=0.5,
        color_texture=builder.texture(tx.pixels(np.concatenate([green, alpha[..., None]], axis=-1), 64), "leaf color"),
        normal_texture=info,
        alpha_mode="MASK",
        alpha_cutoff=0.5,
        double_sided=True,
    )


def _petal() -> Shape:
    across, along = np.meshgrid(np.linspace(-1.0, 1.0, 9), np.linspace(0.0, 1.0, 13))
    width = 0.068 * np.sin(np.pi * (0.08 + 0.92 * along) ** 0.8) ** 0.7
    x = 0.06 + 0.3 * along - 0.02 * across**2 * along
    y = 0.05 * np.sin(np.pi * along) + 0.02 * across**2
    petal = sheet(np.stack([x, y, width * across], axis=-1))
    share = smoothstep((petal.positions[:, 0] - 0.06) / 0.3)
    colors = tx.palette(share, ["#e8871e", "#ffc22e", "#ffe26a"]) ** 2.2
    return replace(petal, colors=np.column_stack([colors, np.ones(len(colors))]))

"""Things without a solid surface: a puff of smoke made of translucent shells, and a campfire with glowing flames."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from helix4d.assets.samples import textures as tx
from helix4d.assets.samples.glb import GlbBuilder, Part, Target, Track
from helix4d.assets.samples.motion import axis_angle, sampled, smoothstep, turn
from helix4d.assets.samples.shapes import Shape, capsule, join, smooth_normals, sphere, welded
from helix4d.core import generator
from helix4d.core.arrays import Float64Array


def smoke_puff() -> bytes:
    """Five concentric, billowing, translucent shells (BLEND) grow fourfold in 2 s, roll, and fade at the rim."""
    builder = GlbBuilder(
        "Smoke puff", ["translucent shells", "BLEND alpha", "vertex colors with alpha", "morph targets", "scale keys"]
    )
    smoke = builder.material("smoke", roughness=1.0, alpha_mode="BLEND", double_sided=True)
    times = np.linspace(0.0, 2.0, 21)
    tracks = []
    for shell, (radius, alpha, dark, light) in enumerate(
        (
            (0.34, 0.9, "#6b5a55", "#d9b28c"),
            (0.44, 0.5, "#77706f", "#c9b7a8"),
            (0.53, 0.4, "#8b8789", "#d4ccc6"),
            (0.62, 0.3, "#a3a2a6", "#e2dfdc"),
            (0.7, 0.2, "#b9babf", "#f2f1ef"),
        )
    ):
        ball = sphere(1.0, 28, 44)
        rest = _billow(ball.positions, 0.12 * shell) * radius
        base = replace(ball, positions=rest, normals=smooth_normals(rest, ball.faces, welded(ball.positions)))
        rise = np.clip(rest[:, 1] / (2.6 * radius) + 0.5, 0.0, 1.0)
        hollow = smoothstep((np.linalg.norm(rest, axis=1) / radius - 0.78) / 0.3)
        tint = tx.palette(np.clip(0.75 * rise + 0.35 * hollow, 0, 1), [dark, light]) ** 2.2 * (
            0.55 + 0.45 * hollow[:, None]
        )
        cover = alpha * (0.55 + 0.45 * hollow)
        base = replace(base, colors=np.column_stack([tint, cover]))
        targets = []
        for number in (1, 2):
            moved = _billow(ball.positions, 0.12 * shell + 1.1 * number) * radius
            normals = smooth_normals(moved, ball.faces, welded(ball.positions))
            targets.append(Target(f"roll {number}", moved, normals))
        mesh = builder.mesh(f"shell {shell}", [Part(base, smoke, targets)])
        node = builder.node(f"shell {shell}", mesh=mesh)
        lag = 0.06 * shell

        def size(t: Float64Array, lag: float = lag) -> Float64Array:
            grown = 0.24 + 0.76 * (1 - np.exp(-3.0 * np.maximum(t - lag, 0.0))) / (1 - np.exp(-3.0 * (2.0 - lag)))
            return np.stack([grown, grown * (0.9 + 0.1 * grown), grown], axis=-1)

        def rising(t: Float64Array, shell: int = shell) -> Float64Array:
            return np.stack([0 * t, 0.2 + (0.16 + 0.02 * shell) * t + 0.1 * t**0.5, 0 * t], axis=-1)

        def roll(t: Float64Array) -> Float64Array:
            return np.stack([np.clip(1 - np.abs(t - 1.0), 0, 1), np.clip(t - 1.0, 0, 1)], axis=-1)

        def spin(t: Float64Array, shell: int = shell) -> Float64Array:
            return axis_angle((0, 1, 0), (0.5 if shell % 2 else -0.4) * t)

        tracks += [
            sampled(node, "scale", times, size),
            sampled(node, "translation", times, rising),
            sampled(node, "rotation", times, spin),
            sampled(node, "weights", times, roll),
        ]
    builder.animation("expand", tracks)
    return builder.build()


def campfire() -> bytes:
    """Logs, stones and flickering flames for 1.2 s: emission above 1, morph targets, and sparks with STEP keys."""
    builder = GlbBuilder(
        "Campfire",
        ["KHR_materials_emissive_strength", "BLEND alpha", "morph targets", "STEP keys", "textured PBR", "normal map"],
    )
    stone = builder.material("stone", roughness=0.9)
    logs, ends = _logs()
    cut = builder.material("cut wood", tx.linear("#c99a62"), roughness=0.8)
    parts = [Part(join(logs), _bark(builder)), Part(join(ends), cut), Part(_stones(), stone)]
    builder.node("hearth", mesh=builder.mesh("hearth", parts))
    glow = tx.coordinates(64)[1]
    tracks = []
    times = np.linspace(0.0, 1.2, 25)
    for layer, (wide, tall, alpha, colors, strength) in enumerate(
        (
            (0.24, 0.62, 1.0, ["#fff3c4", "#ffd866", "#ffb52e"], 2.2),
            (0.31, 0.92, 0.5, ["#ff8a1e", "#ffa62b", "#ff7a18", "#ffb347"], 1.6),
            (0.38, 1.15, 0.26, ["#ff3d0a", "#ff5a12", "#f23a0c", "#c92a08"], 1.3),
        )
    ):
        fade = smoothstep((1 - glow) * 3.0) * np.clip(glow * 1.8, 0.05, 1.0)
        ramp = tx.palette(glow, colors)
        painted = np.concatenate([ramp, (alpha * fade if layer else np.ones_like(fade))[..., None]], axis=-1)
        texture = builder.texture(tx.pixels(painted, 64), f"flame {layer}")
        material = builder.material(
            f"flame {layer}",
            tx.linear("#ffffff"),
            roughness=1.0,
            color_texture=texture,
            emissive=(1.0, 1.0, 1.0),
            emissive_texture=texture,
            emissive_strength=strength,
            alpha_mode="BLEND" if layer else "OPAQUE",
        )
        ball = sphere(1.0, 22, 28)
        points = welded(ball.positions)
        poses = [_flame(ball.positions, wide, tall, layer, pose) for pose in range(5)]
        base = replace(ball, positions=poses[0], normals=smooth_normals(poses[0], ball.faces, points))
        targets = [
            Target(f"lick {pose}", poses[pose], smooth_normals(poses[pose], ball.faces, points)) for pose in range(1, 5)
        ]
        mesh = builder.mesh(f"flame {layer}", [Part(base, material, targets)])
        node = builder.node(f"flame {layer}", mesh=mesh, translation=(0.0, 0.06, 0.0))

        def lick(t: Float64Array, layer: int = layer) -> Float64Array:
            place = (t / 1.2 * 5 + 0.7 * layer) % 5.0
            distance = np.abs(place[:, None] - np.arange(1, 5)[None, :])
            return smoothstep(1 - np.minimum(distance, 5 - distance))

        tracks.append(sampled(node, "weights", times, lick))
    ember = builder.material("ember", tx.linear("#ffb347"), emissive=tx.linear("#ff8a1e"), emissive_strength=5.0)
    spark = builder.mesh("spark", [Part(sphere(0.014, 6, 8), ember)])
    random = generator("samples", "sparks")
    for number in range(9):
        start, aside = random.random(), random.uniform(-0.3, 0.3, size=2)
        node = builder.node(f"spark {number}", mesh=spark, translation=(0.0, 0.4, 0.0))
        keys = np.linspace(0.0, 1.2, 13)
        share = (keys / 1.2 + start) % 1.0
        sway = 0.05 * np.sin(9 * share + number)
        place = np.stack([aside[0] * share + sway, 0.45 + 1.0 * share, aside[1] * share - sway], axis=-1)
        tracks.append(Track(node, "translation", keys, place, "STEP"))
    builder.animation("burn", tracks)
    return builder.build()


def _billow(directions: Float64Array, phase: float) -> Float64Array:
    """Push (V, 3) unit directions out to the hull of balls around a core; the balls move with `phase`."""
    random = generator("samples", "smoke")
    count = 30
    # Spread evenly (a golden spiral), then perturbed: purely random positions would leave gaps.
    height = 1 - 2 * (np.arange(count) + 0.5) / count
    angle = np.arange(count) * np.pi * (3 - np.sqrt(5))
    level = np.sqrt(1 - height**2)
    centers = np.stack([level * np.cos(angle), height, level * np.sin(angle)], axis=-1)
    centers += 0.22 * random.normal(size=(count, 3)) + 0.25 * random.normal(size=(count, 3)) * np.sin(phase)
    centers *= 0.66 / np.linalg.norm(centers, axis=1, keepdims=True)
    sizes = random.uniform(0.27, 0.45, size=count) * (1 + 0.12 * np.sin(1.3 * phase + 2 * np.arange(count)))
    along = directions @ centers.T
    inside = along**2 - (centers**2).sum(axis=1) + sizes**2
    hits = np.where(inside > 0, along + np.sqrt(np.maximum(inside, 0.0)), 0.0)
    reach: Float64Array = np.maximum(hits.max(axis=1), 0.66)
    return directions * reach[:, None]


def _flame(points: Float64Array, wide: float, tall: float, layer: int, pose: int) -> Float64Array:
    """Return a flame with several tongues around the Y axis, with its base at the origin."""
    height = np.clip(points[:, 1] / 2 + 0.5, 0.0, 1.0)
    angle = np.arctan2(points[:, 2], points[:, 0])
    out = np.hypot(points[:, 0], points[:, 2])
    turned = 2 * np.pi * pose / 5
    tongues = 1 + 0.28 * np.sin(3 * angle + turned + layer) * height + 0.16 * np.sin(5 * angle - 2 * turned) * height
    slim = np.clip(1 - height, 0, 1) ** 0.55 * 1.25 + 0.05
    reach = wide * out * slim * tongues
    top = tall * height * (1 + 0.1 * np.sin(turned + layer) + 0.22 * (1 - out) * np.sin(2 * angle + turned))
    lean = 0.13 * height**2
    x = reach * np.cos(angle) + lean * np.sin(turned + 6 * height)
    z = reach * np.sin(angle) + lean * np.cos(turned + 5 * height + layer)
    return np.stack([x, top, z], axis=-1)


def _logs() -> tuple[list[Shape], list[Shape]]:
    logs, ends = [], []
    random = generator("samples", "logs")
    line = np.linspace(0.0, 1.0, 12)
    for number in range(6):
        azimuth = 60.0 * number + random.uniform(-10, 10)
        far, near = np.array([0.52, 0.075, 0.0]), np.array([0.02, 0.36, 0.0])
        path = far + (near - far) * line[:, None] + np.outer(np.sin(6 * line + number), [0, 0.008, 0.012])
        radii = 0.07 * (1 + 0.06 * np.sin(11 * line + number)) * random.uniform(0.85, 1.1)
        spin = turn((0, 1, 0), azimuth)
        logs.append(capsule(path, radii, 20, 3).turned(spin))
        axis = (far - near) / np.linalg.norm(far - near)
        face = np.stack([far + axis * 0.02 * share for share in (0.0, 3.4)])
        ends.append(capsule(face, np.array([0.9, 0.9]) * radii[0], 18, 1).turned(spin))
    return logs, ends


def _stones() -> Shape:
    random = generator("samples", "stones")
    stones = []
    for number in range(13):
        angle = 2 * np.pi * number / 13 + random.uniform(-0.05, 0.05)
        size = random.uniform(0.11, 0.15)
        stone = sphere(1.0, 12, 18)
        lumps = 1 + 0.09 * np.sin(3 * stone.positions[:, :1] + number) * np.sin(4 * stone.positions[:, 2:] + 2 * number)
        moved = stone.positions * lumps * [size, size * 0.72, size * 0.9]
        stone = replace(stone, positions=moved, normals=smooth_normals(moved, stone.faces, welded(stone.positions)))
        tint = tx.palette(np.array(random.random()), ["#6f7378", "#8d8b88", "#a39c92", "#5d6168"]) ** 2.2
        turned = stone.turned(turn((0, 1, 0), random.uniform(0, 360))).colored(tint)
        stones.append(turned.moved((0.68 * np.cos(angle), 0.07, 0.68 * np.sin(angle))))
    return join(stones)


def _bark(builder: GlbBuilder) -> int:
    rough = tx.noise("bark", 256, (18, 3), 4)
    fine = tx.noise("bark fine", 256, (40, 8), 2)
    height = np.clip(np.abs(rough - 0.5) * 2.2 + 0.2 * fine, 0, 1)
    _, v = tx.coordinates(256)
    char = np.clip((0.55 - v) * 2.2, 0, 1)
    color = tx.mix(
        tx.palette(height, ["#2d1c12", "#5c3d27", "#86613f"]), tx.palette(height, ["#0e0b0a", "#2a211d"]), char
    )
    return builder.material(
        "bark",
        roughness=1.0,
        color_texture=builder.texture(tx.pixels(color, 64), "bark color"),
        metallic_roughness_texture=builder.texture(tx.metallic_roughness(0.0, 0.8 + 0.2 * fine), "bark roughness"),
        normal_texture=builder.texture(tx.normal_map(height, 4.0), "bark normal"),
    )

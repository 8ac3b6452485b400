"""Glass vessels with animals inside: a goldfish in a bowl, and fireflies in a jar."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from helix4d.assets.samples import textures as tx
from helix4d.assets.samples.glb import GlbBuilder, Part, Track
from helix4d.assets.samples.motion import axis_angle, multiply, sampled, smoothstep, turn
from helix4d.assets.samples.shapes import Shape, capsule, displaced, join, lathe, sheet, sphere
from helix4d.core import generator
from helix4d.core.arrays import Float64Array


def fishbowl() -> bytes:
    """A goldfish swims in a circle for 4 s: transmissive glass with volume, translucent water (BLEND), skin."""
    builder = GlbBuilder(
        "Goldfish bowl",
        [
            "KHR_materials_transmission",
            "KHR_materials_volume",
            "KHR_materials_ior",
            "BLEND alpha",
            "skin",
            "object inside",
        ],
    )
    glass = builder.material(
        "glass",
        roughness=0.02,
        extensions={
            "KHR_materials_transmission": {"transmissionFactor": 1.0},
            "KHR_materials_ior": {"ior": 1.5},
            "KHR_materials_volume": {
                "thicknessFactor": 0.03,
                "attenuationColor": list(tx.linear("#dff5ee")),
                "attenuationDistance": 0.6,
            },
        },
    )
    water = builder.material("water", tx.linear("#7cc7dd"), alpha=0.12, roughness=0.05, alpha_mode="BLEND")
    builder.node("bowl", mesh=builder.mesh("bowl", [Part(_bowl(), glass)]))
    builder.node("water", mesh=builder.mesh("water", [Part(_water(), water)]))
    pebbles = builder.material("pebbles", roughness=0.75)
    weed = builder.material("weed", tx.linear("#3f9a4a"), roughness=0.6)
    ground = [Part(_pebbles(), pebbles), Part(_weed(), weed)]
    builder.node("ground", mesh=builder.mesh("ground", ground))
    tracks = _fish(builder)
    bubble_mesh = builder.mesh("bubble", [Part(sphere(0.022, 10, 16), water)])
    times = np.linspace(0.0, 4.0, 9)
    for number, (x, z, late) in enumerate(((0.28, 0.1, 0.0), (0.25, 0.06, 0.35), (0.3, 0.04, 0.7))):
        bubble = builder.node(f"bubble {number}", mesh=bubble_mesh, translation=(x, 0.2, z))

        def rise(t: Float64Array, x: float = x, z: float = z, late: float = late) -> Float64Array:
            share = (t / 4.0 + late) % 1.0
            return np.stack([x + 0.02 * np.sin(9 * share), 0.2 + 0.62 * share, z + 0.02 * np.cos(7 * share)], axis=-1)

        fine = np.sort(np.concatenate([times, (1.0 - np.array([late])) % 1.0 * 4.0 + 1e-3]))
        tracks.append(sampled(bubble, "translation", np.unique(np.round(fine, 4)).clip(0.0, 4.0), rise))
    builder.animation("swim", tracks)
    return builder.build()


def firefly_jar() -> bytes:
    """Five fireflies fly in a jar of translucent glass (BLEND) for 3 s; their lights blink with STEP keys."""
    builder = GlbBuilder(
        "Firefly jar",
        ["BLEND alpha", "object inside", "STEP keys", "KHR_materials_emissive_strength", "textured PBR", "normal map"],
    )
    glass = builder.material("glass", tx.linear("#cfeff0"), alpha=0.07, roughness=0.04, alpha_mode="BLEND")
    profile = [[0, 0], [0.27, 0], [0.32, 0.03], [0.34, 0.09], [0.34, 0.7], [0.32, 0.78], [0.26, 0.83], [0.26, 0.93]]
    inside = [[0.24, 0.93], [0.24, 0.82], [0.3, 0.77], [0.32, 0.69], [0.32, 0.1], [0.29, 0.045], [0, 0.04]]
    jar = lathe(_rounded(np.array(profile + inside), 2), 56, 50.0)
    builder.node("lid", mesh=builder.mesh("lid", [Part(_jar_lid(), _brass(builder))]), translation=(0.0, 0.86, 0.0))
    moss = displaced(lathe(np.stack([np.linspace(0.3, 0.0, 26), np.full(26, 0.06)], axis=-1), 48, 180.0), _moss)
    heights = np.clip((moss.positions[:, 1] - 0.06) / 0.1, 0, 1)
    greens = tx.palette(heights, ["#1f4a1c", "#4f9430", "#a8d95a"]) ** 2.2
    moss = replace(moss, colors=np.column_stack([greens, np.ones(len(greens))]))
    bark = builder.material("twig", tx.linear("#6b4a33"), roughness=0.9)
    line = np.linspace(0.0, 1.0, 12)
    twigs = []
    for tip in ((0.17, 0.68, -0.1), (-0.19, 0.52, 0.08), (0.05, 0.42, 0.2)):
        path = np.outer(line, tip) + np.stack(
            [0.04 * np.sin(5 * line), 0.07 + 0 * line, 0.03 * np.sin(7 * line)], axis=-1
        )
        twigs.append(capsule(path, np.linspace(0.02, 0.008, 12), 10))
    inner = [Part(moss, builder.material("moss", roughness=1.0)), Part(join(twigs), bark)]
    builder.node("inside", mesh=builder.mesh("inside", inner))
    tracks = _fireflies(builder)
    # Last, so that viewers that draw translucent meshes in file order show what is inside.
    builder.node("jar", mesh=builder.mesh("jar", [Part(jar, glass)]))
    builder.animation("glow", tracks)
    return builder.build()


def _bowl() -> Shape:
    angle = np.linspace(-0.5 * np.pi + 0.42, 0.5 * np.pi - 0.72, 22)
    outer = np.stack([0.6 * np.cos(angle), 0.53 * np.sin(angle) + 0.49], axis=-1)
    inner = np.stack([0.57 * np.cos(angle[::-1]), 0.5 * np.sin(angle[::-1]) + 0.49], axis=-1)
    lip = np.array([[outer[-1, 0] + 0.03, outer[-1, 1] + 0.03], [outer[-1, 0] + 0.02, outer[-1, 1] + 0.05]])
    return lathe(np.concatenate([[[0.0, outer[0, 1]]], outer, lip, inner, [[0.0, inner[-1, 1]]]]), 64, 50.0)


def _water() -> Shape:
    """Return the closed surface of the water, slightly inside the glass."""
    angle = np.linspace(-0.5 * np.pi + 0.42, 0.62, 18)
    wall = np.stack([0.566 * np.cos(angle), 0.496 * np.sin(angle) + 0.49], axis=-1)
    return lathe(np.concatenate([[[0.0, wall[0, 1]]], wall, [[0.0, wall[-1, 1] - 0.006]]]), 56, 50.0)


def _pebbles() -> Shape:
    random = generator("samples", "pebbles")
    stones = []
    for _ in range(46):
        out, angle = 0.34 * np.sqrt(random.random()), random.uniform(0, 2 * np.pi)
        size = random.uniform(0.035, 0.06)
        stone = sphere(size, 7, 10).scaled((1.0, random.uniform(0.5, 0.8), random.uniform(0.7, 1.0)))
        place = (out * np.cos(angle), 0.075 + 0.22 * out**2 + random.uniform(0, 0.02), out * np.sin(angle))
        tint = tx.palette(np.array(random.random()), ["#d8cbb0", "#b7a58b", "#8fa3ad", "#e9e2d2"]) ** 2.2
        stones.append(stone.turned(turn((0, 1, 0), np.degrees(angle))).moved(place).colored(tint))
    return join(stones)


def _weed() -> Shape:
    random = generator("samples", "weed")
    line = np.linspace(0.0, 1.0, 16)
    blades = []
    for _ in range(6):
        foot, tall = np.array([-0.22, -0.16]) + random.uniform(-0.06, 0.06, size=2), random.uniform(0.3, 0.5)
        phase = random.uniform(0, 6)
        x = foot[0] + 0.04 * line * np.sin(6 * line + phase)
        path = np.stack([x, 0.09 + tall * line, foot[1] + 0.04 * line * np.cos(5 * line + phase)], axis=-1)
        blades.append(capsule(path, 0.018 * (1.05 - line * 0.75), 8, 3))
    return join(blades)


def _fish(builder: GlbBuilder) -> list[Track]:
    """Add a goldfish with five joints, and return tracks that make it swim in a circle."""
    count, length = 5, 0.34
    station = np.linspace(0.0, 1.0, 30)
    tall = 0.082 * np.sin(np.pi * (0.06 + 0.9 * station) ** 0.7) ** 0.8 + 0.012
    path = np.stack([0 * station, 0 * station, (0.5 - station) * length], axis=-1)
    body = capsule(path, tall, 24).scaled((0.62, 1.0, 1.0))
    shares = np.clip((body.positions[:, 1] / 0.085 + 1) / 2, 0, 1)
    skin_colors = tx.palette(shares, ["#ffd9a0", "#ff9a2e", "#f2641a", "#d9480f"]) ** 2.2
    body = replace(body, colors=np.column_stack([skin_colors, np.ones(len(skin_colors))]))
    orange = np.array(tx.linear("#ff7f24"))
    fins = [
        _fin([[0, 0, -0.15], [0, 0.12, -0.33], [0, 0.0, -0.25]], orange),
        _fin([[0, 0, -0.15], [0, 0, -0.25], [0, -0.12, -0.33]], orange),
    ]
    fins.append(_fin([[0, 0.075, 0.06], [0, 0.15, -0.02], [0, 0.06, -0.07]], orange))
    for side in (-1.0, 1.0):
        fins.append(
            _fin([[side * 0.045, -0.02, 0.06], [side * 0.12, -0.06, -0.02], [side * 0.05, -0.045, 0.02]], orange)
        )
    eyes = [sphere(0.017, 10, 14).moved((side * 0.04, 0.018, 0.125)) for side in (-1.0, 1.0)]
    starts = (0.5 - np.arange(count) / count) * length

    def bound(shape: Shape) -> Shape:
        place = np.clip((starts[0] - shape.positions[:, 2]) / (length / count) - 0.5, 0.0, count - 1.0)
        lower = np.minimum(place.astype(int), count - 2)
        share = smoothstep(place - lower)
        joints, weights = np.zeros((len(place), 4), int), np.zeros((len(place), 4))
        joints[:, 0], joints[:, 1], weights[:, 0], weights[:, 1] = lower, lower + 1, 1 - share, share
        return replace(shape, joints=joints, weights=weights)

    parts = [
        Part(bound(body), builder.material("fish", roughness=0.3)),
        Part(bound(join(fins)), builder.material("fins", roughness=0.5, double_sided=True)),
        Part(bound(join(eyes)), builder.material("fish eyes", tx.linear("#101014"), roughness=0.1)),
    ]
    root = builder.node("swim")
    rest = np.stack([0 * starts, 0 * starts, starts], axis=-1)
    joints: list[int] = []
    for number in range(count):
        offset = rest[number] - (rest[number - 1] if number else 0.0)
        joints.append(builder.node(f"spine {number}", joints[-1] if joints else root, translation=offset))
    skinned = builder.node("fish", mesh=builder.mesh("fish", parts))
    builder.skin(skinned, joints, rest)
    times = np.linspace(0.0, 4.0, 33)

    def swim(t: Float64Array) -> Float64Array:
        phase = 2 * np.pi * t / 4.0
        return np.stack([0.23 * np.sin(phase), 0.47 + 0.07 * np.sin(phase * 2), 0.23 * np.cos(phase)], axis=-1)

    def heading(t: Float64Array) -> Float64Array:
        phase = 2 * np.pi * t / 4.0
        pitch = axis_angle((1, 0, 0), -0.3 * np.cos(phase * 2))
        return multiply(axis_angle((0, 1, 0), phase + np.pi / 2), multiply(axis_angle((0, 0, 1), -0.12 + 0 * t), pitch))

    tracks = [sampled(root, "translation", times, swim), sampled(root, "rotation", times, heading)]
    for number, joint in enumerate(joints):

        def wag(t: Float64Array, number: int = number) -> Float64Array:
            reach = 0.06 if number == 0 else 0.1 + 0.09 * number
            return axis_angle((0, 1, 0), -0.1 + reach * np.sin(2 * np.pi * 1.25 * t - 0.8 * number))

        tracks.append(sampled(joint, "rotation", times, wag))
    return tracks


def _fin(corners: list[list[float]], color: Float64Array) -> Shape:
    """Return a thin, slightly wavy triangle from its root (first and last corner) to its tip (second corner)."""
    root, tip, end = np.array(corners)
    share = np.linspace(0.0, 1.0, 7)[:, None, None]
    across = np.linspace(0.0, 1.0, 7)[None, :, None]
    edge = tip + (end - tip) * across
    points = root + (edge - root) * share
    fin = sheet(points + np.array([0.003, 0.0, 0.0]) * np.sin(across * 12) * share)
    return fin.colored(color)


def _rounded(profile: Float64Array, times: int) -> Float64Array:
    """Round a profile by cutting its corners (Chaikin's algorithm); its ends are kept."""
    for _ in range(times):
        near, far = 0.75 * profile[:-1] + 0.25 * profile[1:], 0.25 * profile[:-1] + 0.75 * profile[1:]
        middle = np.stack([near, far], axis=1).reshape(-1, 2)
        profile = np.concatenate([profile[:1], middle[1:-1], profile[-1:]])
    return profile


def _jar_lid() -> Shape:
    profile = [[0, 0.075], [0.262, 0.075], [0.262, 0.0], [0.285, 0.0], [0.29, 0.01], [0.285, 0.02], [0.285, 0.085]]
    return lathe(np.array([*profile, [0.275, 0.1], [0.25, 0.105], [0.24, 0.098], [0, 0.098]]), 64, 40.0)


def _brass(builder: GlbBuilder) -> int:
    brushed = tx.noise("brass brushed", 256, (2, 64), 3)
    stains = tx.noise("brass stains", 256, 5, 4)
    color = tx.mix(
        tx.palette(brushed, ["#a87b35", "#d9ad5a"]),
        tx.palette(stains, ["#5e5330", "#8a7440"]),
        tx.step(stains, 0.62, 0.3),
    )
    roughness = 0.3 + 0.2 * brushed + 0.3 * tx.step(stains, 0.6, 0.3)
    return builder.material(
        "brass",
        metallic=1.0,
        roughness=1.0,
        color_texture=builder.texture(tx.pixels(color, 64), "brass color"),
        metallic_roughness_texture=builder.texture(tx.metallic_roughness(1.0, roughness), "brass roughness"),
        normal_texture=builder.texture(tx.normal_map(0.5 * brushed, 1.0), "brass normal"),
    )


def _moss(points: Float64Array) -> Float64Array:
    x, y, z = points.T
    out = np.hypot(x, z)
    tufts = 0.035 + 0.03 * np.sin(21 * x + 1) * np.cos(19 * z) + 0.012 * np.sin(67 * x) * np.sin(61 * z + 2)
    return np.stack([x, y + np.maximum(tufts, 0.004) * (out < 0.295), z], axis=-1)


def _fireflies(builder: GlbBuilder) -> list[Track]:
    shell = builder.material("firefly", tx.linear("#2a2119"), roughness=0.5)
    light = builder.material("light", tx.linear("#f4ff9a"), emissive=tx.linear("#d8f23a"), emissive_strength=2.0)
    wing = builder.material(
        "wing", tx.linear("#d9e6ee"), alpha=0.45, roughness=0.3, alpha_mode="BLEND", double_sided=True
    )
    line = np.linspace(0.0, 1.0, 8)
    body = capsule(np.stack([0 * line, 0 * line, 0.035 - 0.05 * line], axis=-1), np.full(8, 0.014), 12)
    head = sphere(0.014, 10, 14).moved((0.0, 0.002, 0.055))
    across, along = np.meshgrid(np.linspace(-1, 1, 5), np.linspace(0, 1, 7))
    blade = np.stack(
        [0.075 * along, 0.012 + 0.02 * along, 0.022 * across * np.sin(np.pi * (0.1 + 0.85 * along)) + 0.01], axis=-1
    )
    wings = join([sheet(blade), sheet(blade[:, ::-1] * [-1, 1, 1])])
    body_mesh = builder.mesh("firefly", [Part(join([body, head]), shell), Part(wings, wing)])
    light_mesh = builder.mesh("light", [Part(sphere(0.024, 10, 16), light)])
    random = generator("samples", "fireflies")
    times = np.linspace(0.0, 3.0, 31)
    tracks = []
    for number in range(5):
        phase, tilt = random.uniform(0, 2 * np.pi, size=3), random.uniform(0.11, 0.19)
        middle = 0.26 + 0.1 * number
        node = builder.node(f"firefly {number}")
        builder.node(f"body {number}", node, mesh=body_mesh)
        lamp = builder.node(f"light {number}", node, mesh=light_mesh, translation=(0.0, -0.002, -0.03))

        def place(
            t: Float64Array, phase: Float64Array = phase, tilt: float = tilt, middle: float = middle
        ) -> Float64Array:
            turn_rad = 2 * np.pi * t / 3.0
            y = middle + 0.05 * np.sin(2 * turn_rad + phase[1])
            return np.stack([tilt * np.cos(turn_rad + phase[0]), y, tilt * np.sin(turn_rad + phase[0])], axis=-1)

        def heading(t: Float64Array, phase: Float64Array = phase) -> Float64Array:
            return axis_angle((0, 1, 0), -(2 * np.pi * t / 3.0 + phase[0]))

        tracks += [sampled(node, "translation", times, place), sampled(node, "rotation", times, heading)]
        blinks = np.array([0.0, 0.55, 1.0, 1.6, 2.1, 2.6]) + np.array([0.0, *([0.08 * number] * 5)])
        on = (np.arange(6) + number) % 2 == 0
        sizes = np.where(on, 1.0, 0.35)[:, None].repeat(3, axis=1)
        tracks.append(Track(lamp, "scale", blinks, sizes, "STEP"))
    return tracks

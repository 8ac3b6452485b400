"""Living things: a ladybug and a caterpillar (skins), and a blob that turns into a star (morph targets)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from helix4d.assets.samples import textures as tx
from helix4d.assets.samples.glb import GlbBuilder, Part, Target, Track
from helix4d.assets.samples.motion import axis_angle, multiply, sampled, smoothstep, turn
from helix4d.assets.samples.shapes import Shape, capsule, displaced, join, smooth_normals, sphere, welded
from helix4d.core.arrays import Float64Array

_STEPS_S = 0.8
_BODY, _HEAD, _FIRST_LEG = 0, 1, 2


def ladybug() -> bytes:
    """A ladybug with 14 joints and textured wing cases that walks with a tripod gait for 1.6 s."""
    builder = GlbBuilder("Walking ladybug", ["skin", "textured PBR", "normal map", "LINEAR keys", "joint scale"])
    shell = _ladybug_shell_material(builder)
    black = builder.material("chitin", tx.linear("#1b1a20"), roughness=0.35)
    cream = builder.material("cream", tx.linear("#fbf1dc"), roughness=0.45)

    wing_cases = displaced(sphere(1.0, 28, 44), _ladybug_dome)
    wing_cases = replace(wing_cases, uvs=_planar(wing_cases.positions, 0.5, 0.6))
    hips, knees, feet = _ladybug_legs()
    rest = [np.array([0.0, 0.34, 0.0]), np.array([0.0, 0.36, 0.55])]
    dark = [
        sphere(1.0, 20, 32).scaled((0.42, 0.1, 0.5)).moved((0.0, 0.29, 0.0)).bound_to(_BODY),
        sphere(1.0, 20, 32).scaled((0.3, 0.2, 0.17)).moved((0.0, 0.4, 0.52)).bound_to(_BODY),
        sphere(1.0, 20, 32).scaled((0.19, 0.16, 0.15)).moved((0.0, 0.36, 0.69)).bound_to(_HEAD),
    ]
    light = []
    for side in (-1.0, 1.0):
        patch = sphere(1.0, 12, 20).scaled((0.09, 0.09, 0.06)).turned(turn((0, 1, 0), side * 38))
        light.append(patch.moved((side * 0.185, 0.47, 0.605)).bound_to(_BODY))
        light.append(sphere(0.07, 14, 22).moved((side * 0.115, 0.4, 0.79)).bound_to(_HEAD))
        dark.append(sphere(0.038, 12, 18).moved((side * 0.125, 0.405, 0.835)).bound_to(_HEAD))
        bend = np.linspace(0.0, 1.0, 8)
        line = np.stack([side * (0.06 + 0.16 * bend), 0.46 + 0.24 * np.sin(1.7 * bend), 0.76 + 0.2 * bend], axis=-1)
        dark.append(capsule(line, np.full(8, 0.012), 8).bound_to(_HEAD))
        dark.append(sphere(0.032, 10, 14).moved(line[-1]).bound_to(_HEAD))
    for leg in range(6):
        rest += [hips[leg], knees[leg]]
        dark.append(_ladybug_leg(hips[leg], knees[leg], feet[leg], _FIRST_LEG + 2 * leg))
    parts = [Part(wing_cases.bound_to(_BODY), shell), Part(join(dark), black), Part(join(light), cream)]

    body = builder.node("body", translation=rest[0])
    joints = [body, builder.node("head", body, translation=rest[1] - rest[0])]
    for leg in range(6):
        hip = builder.node(f"hip_{leg}", body, translation=hips[leg] - rest[0])
        joints += [hip, builder.node(f"knee_{leg}", hip, translation=knees[leg] - hips[leg])]
    skinned = builder.node("ladybug", mesh=builder.mesh("ladybug", parts))
    builder.skin(skinned, joints, np.array(rest))
    builder.animation("walk", _ladybug_walk(joints, hips, rest[0]))
    return builder.build()


def caterpillar() -> bytes:
    """A caterpillar with 14 joints that crawls by arching its back (2.4 s), looks around (2 s) or rests; cubic keys."""
    builder = GlbBuilder(
        "Crawling caterpillar",
        ["skin", "CUBICSPLINE keys", "textured PBR", "normal map", "several clips", "static clip"],
    )
    length, count = 1.6, 14
    station = np.linspace(0.0, 1.0, 99)
    bumps = 0.86 + 0.14 * np.abs(np.sin(np.pi * count * station)) ** 0.6
    radii = 0.15 * bumps * (0.72 + 0.28 * np.sin(np.pi * np.clip(station * 1.05, 0, 1)) ** 0.5)
    path = np.stack([np.zeros(99), np.full(99, 0.2), (station - 0.5) * length], axis=-1)
    body = capsule(path, radii, 28, 5)
    joint_rest = np.stack([np.zeros(count), np.full(count, 0.2), (np.arange(count) / count - 0.5) * length], axis=-1)
    parts = [
        Part(_bound_along(body, joint_rest[:, 2], length / count), _caterpillar_skin_material(builder)),
        Part(
            join([foot.bound_to(joint) for foot, joint in _caterpillar_feet(length, count)]),
            builder.material("feet", tx.linear("#e2873a"), roughness=0.5),
        ),
        Part(
            join([part.bound_to(count - 1) for part in _caterpillar_head(length / 2)]),
            builder.material("head", tx.linear("#b5442c"), roughness=0.35),
        ),
        Part(
            join([part.bound_to(count - 1) for part in _eyes(0.075, 0.28, length / 2 + 0.185, 0.042)]),
            builder.material("eyes", tx.linear("#14110f"), roughness=0.12),
        ),
    ]
    joints: list[int] = []
    for number in range(count):
        offset = joint_rest[number] - (joint_rest[number - 1] if number else 0.0)
        joints.append(builder.node(f"joint_{number:02d}", joints[-1] if joints else None, translation=offset))
    skinned = builder.node("caterpillar", mesh=builder.mesh("caterpillar", parts))
    builder.skin(skinned, joints, joint_rest)
    builder.animation("crawl", _crawl(joints, joint_rest[0], length / count))
    builder.animation("look around", _look_around(joints))
    still = np.array([0.0, 1.0])
    builder.animation("rest", [Track(joints[0], "translation", still, np.tile(joint_rest[0], (2, 1)), "STEP")])
    return builder.build()


def blob_star() -> bytes:
    """A blob of jelly turns into a star and back in 2.4 s: vertex colors and three morph targets, one sparse."""
    builder = GlbBuilder("Blob to star", ["morph targets", "CUBICSPLINE keys", "sparse accessors", "vertex colors"])
    jelly = builder.material("jelly", roughness=0.22)
    ink = builder.material("ink", tx.linear("#2a1620"), roughness=0.15)
    ball = sphere(0.6, 40, 80).turned(turn((1, 0, 0), 90))
    base = displaced(ball, _blob)
    height = np.clip(base.positions[:, 1] / 1.2 + 0.5, 0.0, 1.0)
    colors = tx.palette(height, ["#f4623a", "#ff9d2e", "#ffd24a"]) ** 2.2
    base = replace(base, colors=np.column_stack([colors, np.ones(len(colors))]))
    points = welded(base.positions)
    eyes = join([sphere(0.075, 16, 24).moved((side * 0.19, 0.12, 0.0)) for side in (-1.0, 1.0)])
    eye_centers = np.repeat([[-0.19, 0.12], [0.19, 0.12]], len(eyes.positions) // 2, axis=0)

    eye_base = replace(eyes, positions=eyes.positions + _front(_blob, eye_centers))
    jelly_targets, eye_targets = [], []
    for name, shape in (("star", _star), ("squash", _squash)):
        moved = shape(ball.positions)
        jelly_targets.append(Target(name, moved, smooth_normals(moved, base.faces, points)))
        eye_targets.append(Target(name, eyes.positions + _front(shape, eye_centers), eyes.normals))
    smile = base.positions + _smile(base.positions)
    # Normals change one ring of vertices farther than positions do; the target stores only what changes.
    jelly_targets.append(Target("smile", smile, smooth_normals(smile, base.faces, points), sparse=True))
    blink = eye_base.positions.copy()
    middle = np.repeat(eye_base.positions.reshape(2, -1, 3).mean(axis=1), len(blink) // 2, axis=0)
    blink[:, 1] = middle[:, 1] + (blink[:, 1] - middle[:, 1]) * 1.25
    eye_targets.append(Target("smile", blink, eyes.normals, sparse=True))
    mesh = builder.mesh("jelly", [Part(base, jelly, jelly_targets), Part(eye_base, ink, eye_targets)])
    node = builder.node("jelly", mesh=mesh)
    times = np.array([0.0, 0.35, 0.9, 1.6, 2.05, 2.4])
    weights = np.array([[0, 0, 0], [0, 1, 0], [1, 0, 1], [1, 0, 1], [0, 0.7, 0.2], [0, 0, 0]], float)
    turns = np.radians([0, 0, 20, -20, 0, 0])
    jump = np.array([[0, 0, 0], [0, -0.12, 0], [0, 0.45, 0], [0, 0.35, 0], [0, -0.1, 0], [0, 0, 0]], float)
    tracks = [
        Track(node, "weights", times, weights, "CUBICSPLINE"),
        Track(node, "translation", times, jump, "CUBICSPLINE"),
        Track(node, "rotation", times, axis_angle((0, 0, 1), turns), "CUBICSPLINE"),
    ]
    builder.animation("become a star", tracks)
    return builder.build()


def _ladybug_dome(points: Float64Array) -> Float64Array:
    """Deform a unit sphere to a shell that is domed on top and flat below."""
    height = np.where(points[:, 1] > 0, 0.43 * points[:, 1], 0.1 * points[:, 1])
    return np.stack([0.5 * points[:, 0], 0.3 + height, 0.58 * points[:, 2] - 0.02], axis=-1)


def _planar(points: Float64Array, half_x: float, half_z: float) -> Float64Array:
    """Return UVs projected from above, with the front at the top of the image."""
    return np.stack([points[:, 0] / half_x, -points[:, 2] / half_z], axis=-1) * 0.49 + 0.5


def _ladybug_shell_material(builder: GlbBuilder) -> int:
    u, v = tx.coordinates(512)
    x, z = (u - 0.5) / 0.49, (0.5 - v) / 0.49
    grain = tx.noise("ladybug", 512, 6, 4)
    red = tx.palette(np.clip(0.5 + 0.45 * z + 0.35 * (grain - 0.5), 0, 1), ["#a30f12", "#d8231b", "#f0492a"])
    spots = np.zeros_like(u)
    for spot_x, spot_z, radius in ((0.0, 0.78, 0.17), (0.42, 0.42, 0.16), (0.6, -0.12, 0.15), (0.3, -0.55, 0.17)):
        for side in (-1.0, 1.0):
            wobble = 1 + 0.1 * (grain - 0.5)
            spots = np.maximum(spots, tx.step(radius * wobble - np.hypot(x - side * spot_x, z - spot_z), 0.0, 0.02))
    seam = tx.step(0.014 - np.abs(x), 0.0, 0.012)
    dark = np.maximum(spots, seam)
    color = tx.mix(red, np.broadcast_to(tx.srgb("#17141a"), red.shape), dark)
    pits = tx.noise("ladybug pits", 256, 48, 1)
    height = 0.04 * pits + 1.0 * (1 - tx.step(0.02 - np.abs(x[::2, ::2]), 0.0, 0.02))
    roughness = 0.16 + 0.14 * grain[::2, ::2] + 0.1 * dark[::2, ::2]
    return builder.material(
        "wing cases",
        roughness=1.0,
        color_texture=builder.texture(tx.pixels(color), "wing cases color"),
        metallic_roughness_texture=builder.texture(tx.metallic_roughness(0.0, roughness), "wing cases roughness"),
        normal_texture=builder.texture(tx.normal_map(height, 2.0), "wing cases normal"),
    )


def _ladybug_legs() -> tuple[list[Float64Array], list[Float64Array], list[Float64Array]]:
    """Return hips, knees and feet of the six legs: right ones first, front to back."""
    hips, knees, feet = [], [], []
    for side in (1.0, -1.0):
        for z, spread in ((0.32, 0.26), (0.02, 0.0), (-0.28, -0.28)):
            hips.append(np.array([side * 0.3, 0.27, z]))
            knees.append(np.array([side * 0.62, 0.36, z + 0.6 * spread]))
            feet.append(np.array([side * 0.78, 0.03, z + spread]))
    return hips, knees, feet


def _ladybug_leg(hip: Float64Array, knee: Float64Array, foot: Float64Array, joint: int) -> Shape:
    """Return a bent leg with weights that change from the hip joint to the knee joint around the knee."""
    along = np.linspace(0.0, 2.0, 21)[:, None]
    path = np.where(along < 1, hip + (knee - hip) * along, knee + (foot - knee) * (along - 1))
    for _ in range(3):
        path[1:-1] = (path[:-2] + 2 * path[1:-1] + path[2:]) / 4
    leg = capsule(path, np.linspace(0.05, 0.026, 21), 12)
    nearest = np.argmin(np.linalg.norm(leg.positions[:, None] - path[None], axis=2), axis=1)
    share = smoothstep((along[nearest, 0] - 0.8) / 0.4)
    return _two_joints(leg, joint, joint + 1, share)


def _ladybug_walk(joints: list[int], hips: list[Float64Array], rest: Float64Array) -> list[Track]:
    times = np.linspace(0.0, 2 * _STEPS_S, 33)

    def advance(t: Float64Array) -> Float64Array:
        bob = 0.018 * np.cos(4 * np.pi * t / _STEPS_S)
        return rest + np.stack([0 * t, bob, 0.38 * (t / _STEPS_S - 1.0)], axis=-1)

    def sway(t: Float64Array) -> Float64Array:
        phase = 2 * np.pi * t / _STEPS_S
        return multiply(axis_angle((0, 1, 0), 0.05 * np.sin(phase)), axis_angle((0, 0, 1), 0.06 * np.cos(phase)))

    tracks = [
        sampled(joints[_BODY], "translation", times, advance),
        sampled(joints[_BODY], "rotation", times, sway),
        sampled(
            joints[_HEAD],
            "rotation",
            times,
            lambda t: multiply(
                axis_angle((0, 1, 0), 0.28 * np.sin(2 * np.pi * t / 1.6)),
                axis_angle((1, 0, 0), 0.1 * np.sin(4 * np.pi * t / _STEPS_S)),
            ),
        ),
        sampled(joints[_HEAD], "scale", times, lambda t: 1 + 0.04 * np.sin(np.outer(t, [0, 8, 8]) * np.pi / 1.6)),
    ]
    for leg, hip in enumerate(hips):
        side = np.sign(hip[0])
        offset = np.pi * ((leg % 3) + (leg // 3))  # neighbors and opposites alternate: the tripod gait

        def swing(t: Float64Array, side: float = side, offset: float = offset) -> Float64Array:
            phase = 2 * np.pi * t / _STEPS_S + offset
            raised = side * 0.42 * np.maximum(0.0, -np.sin(phase))
            return multiply(axis_angle((0, 1, 0), -side * 0.34 * np.cos(phase)), axis_angle((0, 0, 1), raised))

        def bend(t: Float64Array, side: float = side, offset: float = offset) -> Float64Array:
            phase = 2 * np.pi * t / _STEPS_S + offset
            return axis_angle((0, 0, 1), -side * 0.5 * np.maximum(0.0, -np.sin(phase)))

        tracks.append(sampled(joints[_FIRST_LEG + 2 * leg], "rotation", times, swing))
        tracks.append(sampled(joints[_FIRST_LEG + 2 * leg + 1], "rotation", times, bend))
    return tracks


def _caterpillar_skin_material(builder: GlbBuilder) -> int:
    u, v = tx.coordinates(512)
    grain = tx.noise("caterpillar", 512, 8, 4)
    green = tx.palette(np.clip(grain * 1.1 - 0.05, 0, 1), ["#4f9d2f", "#79c23c", "#a5dc56"])
    band = np.abs(((1 - v) * 16.0) % 1.0 - 0.5) * 2
    color = tx.mix(green, np.broadcast_to(tx.srgb("#2c6b2a"), green.shape), tx.step(band, 0.86, 0.15))
    for center in (0.27, 0.77):
        stripe = tx.step(0.045 - np.abs(u - center), 0.0, 0.02)
        color = tx.mix(color, np.broadcast_to(tx.srgb("#f4e04d"), green.shape), stripe * 0.9)
    dots = tx.step(0.34 - np.hypot((u % 0.25 - 0.125) * 14, band), 0.0, 0.12)
    color = tx.mix(color, np.broadcast_to(tx.srgb("#e8542f"), green.shape), dots)
    roughness = 0.42 + 0.25 * grain[::2, ::2]
    height = tx.noise("caterpillar skin", 256, 24, 2)
    return builder.material(
        "skin",
        roughness=1.0,
        color_texture=builder.texture(tx.pixels(color), "caterpillar color"),
        metallic_roughness_texture=builder.texture(tx.metallic_roughness(0.0, roughness), "caterpillar roughness"),
        normal_texture=builder.texture(tx.normal_map(height, 1.2), "caterpillar normal"),
    )


def _caterpillar_feet(length: float, count: int) -> list[tuple[Shape, int]]:
    feet = []
    for joint in (1, 2, 3, 4, 9, 10, 11, 12):
        z = ((joint + 0.5) / count - 0.5) * length
        for side in (-1.0, 1.0):
            path = np.array([[side * 0.05, 0.12, z], [side * 0.085, 0.07, z], [side * 0.095, 0.035, z]])
            feet.append((capsule(path, np.array([0.05, 0.042, 0.034]), 12), joint))
    return feet


def _caterpillar_head(front: float) -> list[Shape]:
    parts = [sphere(0.165, 24, 36).scaled((1.0, 1.0, 0.92)).moved((0.0, 0.225, front + 0.06))]
    for side in (-1.0, 1.0):
        bend = np.linspace(0.0, 1.0, 7)
        line = np.stack([side * (0.06 + 0.07 * bend), 0.36 + 0.16 * bend, front + 0.08 + 0.1 * bend**2], axis=-1)
        parts += [capsule(line, np.linspace(0.02, 0.012, 7), 8), sphere(0.03, 10, 14).moved(line[-1])]
    return parts


def _eyes(x: float, y: float, z: float, radius: float) -> list[Shape]:
    return [sphere(radius, 14, 20).moved((side * x, y, z)) for side in (-1.0, 1.0)]


def _bound_along(shape: Shape, starts: Float64Array, spacing: float) -> Shape:
    """Bind a shape to joints along Z with linear weights; a joint's influence peaks in the middle of its bone."""
    place = np.clip((shape.positions[:, 2] - starts[0]) / spacing - 0.5, 0.0, len(starts) - 1.0)
    lower = np.minimum(np.floor(place).astype(int), len(starts) - 2)
    return _two_joints(shape, lower, lower + 1, smoothstep(place - lower))


def _two_joints(shape: Shape, first: Float64Array | int, second: Float64Array | int, share: Float64Array) -> Shape:
    joints = np.zeros((len(shape.positions), 4), int)
    joints[:, 0], joints[:, 1] = first, second
    weights = np.zeros((len(shape.positions), 4))
    weights[:, 0], weights[:, 1] = 1 - share, share
    return replace(shape, joints=joints, weights=weights)


def _crawl(joints: list[int], rest: Float64Array, bone: float) -> list[Track]:
    period_s, most_rad = 1.2, 1.15
    times = np.linspace(0.0, 2 * period_s, 17)
    bones = (np.arange(len(joints)) + 0.5) / len(joints)

    def arch(t: Float64Array) -> Float64Array:
        return 0.5 - 0.5 * np.cos(2 * np.pi * t / period_s)

    def slopes(t: Float64Array) -> Float64Array:
        wave = np.sin(2 * np.pi * np.clip((bones - 0.12) / 0.76, 0.0, 1.0))
        angle: Float64Array = most_rad * arch(t)[:, None] * wave
        return angle

    def span(t: Float64Array) -> Float64Array:
        length: Float64Array = bone * np.cos(slopes(t)).sum(axis=1)
        return length

    def tail(t: Float64Array) -> Float64Array:
        # The head is planted while the back rises, the tail while the back sinks.
        full, least = bone * len(joints), float(span(np.array([period_s / 2]))[0])
        done = np.floor(t / period_s + 1e-9)
        rising = (t / period_s - done) < 0.5
        forward = done * (full - least) + np.where(rising, full - span(t), full - least)
        return rest + np.stack([0 * t, 0 * t, forward - (full - least)], axis=-1)

    tracks = [sampled(joints[0], "translation", times, tail, cubic=True)]
    for number, joint in enumerate(joints):

        def bend(t: Float64Array, number: int = number) -> Float64Array:
            slope = slopes(t)
            return axis_angle((1, 0, 0), -(slope[:, number] - (slope[:, number - 1] if number else 0.0)))

        tracks.append(sampled(joint, "rotation", times, bend, cubic=True))
    return tracks


def _look_around(joints: list[int]) -> list[Track]:
    times = np.linspace(0.0, 2.0, 11)
    tracks = []
    for number, joint in enumerate(joints[5:]):

        def lift(t: Float64Array, number: int = number) -> Float64Array:
            raised = 0.2 * np.sin(np.pi * t / 2.0) ** 2
            aside = 0.08 * np.sin(2 * np.pi * t / 2.0 - 0.25 * number)
            return multiply(axis_angle((0, 1, 0), aside), axis_angle((1, 0, 0), -raised if number < 5 else raised))

        tracks.append(sampled(joint, "rotation", times, lift, cubic=True))
    return tracks


def _blob(points: Float64Array) -> Float64Array:
    """Deform to a drop that is round below and has a blunt tip."""
    x, y, z = points.T
    rise = np.clip(y / 0.6, -1.0, 1.0)
    narrow = 1.0 - 0.22 * smoothstep((rise + 0.1) / 1.1)
    return np.stack([x * narrow, y * np.where(y > 0, 1.12, 0.9), z * narrow], axis=-1)


def _squash(points: Float64Array) -> Float64Array:
    squashed: Float64Array = points * np.array([1.28, 0.62, 1.2])
    return squashed


def _star(points: Float64Array) -> Float64Array:
    """Deform to a puffy five-pointed star in the XY plane."""
    x, y, z = points.T / 0.6
    angle, out = np.arctan2(y, x), np.hypot(x, y)
    arm = 0.5 + 0.5 * np.cos(5 * (angle - np.pi / 2))
    outer = smoothstep(out / 0.9)  # no arms near the middle, where all angles meet
    reach = 0.6 + outer * (0.62 * arm**1.5 - 0.2)
    thickness = 0.42 * (1 - 0.45 * out**2 * arm)
    return np.stack([out * reach * np.cos(angle), out * reach * np.sin(angle), z * thickness], axis=-1)


def _front(shape: Callable[[Float64Array], Float64Array], centers: Float64Array) -> Float64Array:
    """Return (V, 3) offsets that move points of the face plane at `centers` (V, 2) to the front of the shape."""
    across = np.column_stack([centers, np.sqrt(0.36 - (centers**2).sum(axis=1))])
    return shape(across) - np.column_stack([centers, np.zeros(len(centers))])


def _smile(points: Float64Array) -> Float64Array:
    """Return (V, 3) offsets for a furrow in the shape of a smile on the front."""
    x, y, z = points.T
    curve = -0.16 + 1.6 * x**2
    depth = 0.05 * np.exp(-(((y - curve) / 0.03) ** 2)) * smoothstep((0.24 - np.abs(x)) / 0.08) * (z > 0.1)
    depth = np.where(depth > 1e-3, depth, 0.0)
    return np.stack([0 * x, 0 * y, -depth], axis=-1)

"""A mantel clock: several clips in one file, one of them static, and all three interpolation modes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from helix4d.assets.samples import textures as tx
from helix4d.assets.samples.glb import GlbBuilder, Part, Track
from helix4d.assets.samples.motion import axis_angle, continuous, sampled, turn
from helix4d.assets.samples.shapes import Shape, join, lathe, rounded_box, sheet, sphere
from helix4d.core.arrays import Float64Array

_FACE_Y_M = 0.78


def clock() -> bytes:
    """A clock with the clips "still" (static), "tick" (2 s, STEP keys) and "fast forward" (4 s, all hands turn)."""
    builder = GlbBuilder(
        "Mantel clock",
        ["several clips", "static clip", "STEP keys", "LINEAR keys", "CUBICSPLINE keys", "rigid nodes", "textured PBR"],
    )
    wood = _walnut(builder)
    brass = builder.material("brass", tx.linear("#d8a94a"), metallic=1.0, roughness=0.24)
    steel = builder.material("blued steel", tx.linear("#1d2a4d"), metallic=1.0, roughness=0.3)
    red = builder.material("red", tx.linear("#c22b23"), roughness=0.4)
    dark = builder.material("shadow", tx.linear("#221710"), roughness=0.9)
    case_parts = [Part(join(_case()), wood), Part(join(_trim()), brass), Part(_back(), dark)]
    builder.node("case", mesh=builder.mesh("case", [*case_parts, Part(_dial(), _dial_material(builder))]))
    hands = builder.node("hands", translation=(0.0, _FACE_Y_M, 0.175))
    hour = builder.node("hour", hands, mesh=builder.mesh("hour", [Part(_hand(0.17, 0.034, 0.0), steel)]))
    minute = builder.node("minute", hands, mesh=builder.mesh("minute", [Part(_hand(0.26, 0.024, 0.008), steel)]))
    second = builder.node("second", hands, mesh=builder.mesh("second", [Part(_hand(0.28, 0.01, 0.016), red)]))
    rod = rounded_box((0.018, 0.3, 0.01), 0.004).moved((0, -0.15, 0))
    bob = lathe(np.array([[0, -0.014], [0.06, -0.01], [0.075, 0], [0.06, 0.01], [0, 0.014]]), 40).turned(
        turn((1, 0, 0), 90)
    )
    pendulum_mesh = builder.mesh("pendulum", [Part(join([rod, bob.moved((0, -0.31, 0))]), brass)])
    pendulum = builder.node("pendulum", mesh=pendulum_mesh, translation=(0.0, 0.45, 0.1))
    big = builder.node(
        "big gear", mesh=builder.mesh("big gear", [Part(_gear(24, 0.12), brass)]), translation=(-0.11, 0.28, 0.03)
    )
    small_mesh = builder.mesh("small gear", [Part(_gear(12, 0.06), brass)])
    small = builder.node("small gear", mesh=small_mesh, translation=(0.077, 0.28, 0.03))

    forward = np.array([0.0, 0.0, -1.0])  # clockwise as seen from the front
    still = np.array([0.0, 1.0])
    noon = axis_angle(forward, np.radians(np.full(2, 55.0)))
    builder.animation("still", [Track(hour, "rotation", still, noon), Track(second, "rotation", still, noon, "STEP")])

    seconds = np.arange(9) / 4
    swing_times = np.linspace(0.0, 2.0, 9)
    builder.animation(
        "tick",
        [
            Track(second, "rotation", seconds, axis_angle(forward, np.radians(30.0 * np.arange(9))), "STEP"),
            Track(minute, "rotation", np.array([0.0, 2.0]), axis_angle(forward, np.radians([10.0, 22.0]))),
            Track(hour, "rotation", np.array([0.0, 2.0]), axis_angle(forward, np.radians([305.0, 306.0]))),
            sampled(pendulum, "rotation", swing_times, _swing, cubic=True),
            sampled(big, "rotation", seconds, lambda t: axis_angle(forward, np.radians(45.0) * t)),
            sampled(small, "rotation", seconds, lambda t: axis_angle(forward, np.radians(7.5) - np.radians(90.0) * t)),
        ],
    )
    times = np.linspace(0.0, 4.0, 33)

    def turning(turns: float) -> Float64Array:
        return continuous(axis_angle(forward, 2 * np.pi * turns * times / 4.0))

    builder.animation(
        "fast forward",
        [
            Track(hour, "rotation", times, turning(0.25)),
            Track(minute, "rotation", times, turning(3.0)),
            Track(second, "rotation", times, turning(5.0)),
            sampled(pendulum, "rotation", np.linspace(0.0, 4.0, 17), _swing, cubic=True),
            Track(big, "rotation", times, turning(1.0)),
            Track(small, "rotation", times, turning(-2.0)),
        ],
    )
    return builder.build()


def _swing(t: Float64Array) -> Float64Array:
    return axis_angle((0, 0, 1), 0.36 * np.sin(2 * np.pi * t))


def _case() -> list[Shape]:
    """Return a base, two posts and a round head around the dial, with an opening for the pendulum."""
    parts = [
        rounded_box((0.86, 0.1, 0.42), 0.025).moved((0, 0.05, 0)),
        rounded_box((0.76, 0.05, 0.36), 0.02).moved((0, 0.115, 0)),
    ]
    parts += [rounded_box((0.1, 0.42, 0.26), 0.02).moved((side * 0.28, 0.33, 0)) for side in (-1.0, 1.0)]
    parts.append(rounded_box((0.66, 0.06, 0.24), 0.02).moved((0, 0.5, 0)))
    profile = np.array(
        [[0, -0.14], [0.38, -0.14], [0.4, -0.12], [0.4, 0.12], [0.38, 0.14], [0.33, 0.15], [0.33, 0.13], [0, 0.13]]
    )
    parts.append(lathe(profile, 72, 40.0).turned(turn((1, 0, 0), 90)).moved((0, _FACE_Y_M, 0)))
    return parts


def _trim() -> list[Shape]:
    angle = np.linspace(0.0, 2 * np.pi, 17)
    ring = np.stack([0.335 + 0.017 * np.cos(-angle + np.pi), 0.017 * np.sin(-angle + np.pi)], axis=-1)[::-1]
    parts = [lathe(ring, 72, 180.0).turned(turn((1, 0, 0), 90)).moved((0, _FACE_Y_M, 0.152))]
    parts.append(
        lathe(np.array([[0, 0], [0.02, 0], [0.02, 0.05], [0.012, 0.058], [0, 0.058]]), 24)
        .turned(turn((1, 0, 0), 90))
        .moved((0, _FACE_Y_M, 0.15))
    )
    for side in (-1.0, 1.0):
        parts += [sphere(0.04, 14, 20).moved((side * 0.36, 0.0, z)) for z in (-0.15, 0.15)]
    parts.append(sphere(0.045, 18, 26).moved((0, _FACE_Y_M + 0.43, 0)))
    return parts


def _back() -> Shape:
    return rounded_box((0.5, 0.4, 0.02), 0.005).moved((0, 0.32, -0.1))


def _dial() -> Shape:
    disk = lathe(np.stack([np.linspace(0.33, 0.0, 5), np.full(5, 0.14)], axis=-1), 72, 180.0)
    disk = disk.turned(turn((1, 0, 0), 90))
    uvs = np.stack([disk.positions[:, 0] / 0.66, -disk.positions[:, 1] / 0.66], axis=-1) + 0.5
    return replace(disk, uvs=uvs).moved((0, _FACE_Y_M, 0))


def _hand(length: float, width: float, z: float) -> Shape:
    """Return a slender spade hand with a short tail, pointing to twelve."""
    line = np.array([-0.06, -0.05, 0.0, 0.4 * length, 0.72 * length, 0.8 * length, length])
    half = width * np.array([0.15, 0.4, 0.35, 0.3, 0.3, 0.62, 0.02])
    front = np.stack(
        [np.stack([-half, line, 0 * line + z + 0.004], axis=-1), np.stack([half, line, 0 * line + z + 0.004], axis=-1)],
        axis=1,
    )
    back = front - [0.0, 0.0, 0.007]
    ring = np.stack([front[:, 0], front[:, 1], back[:, 1], back[:, 0], front[:, 0]], axis=1)
    return sheet(ring, 30.0)


def _gear(teeth: int, radius: float) -> Shape:
    """Return a spoked disk with trapezoidal teeth in the XY plane."""
    angle = np.linspace(0.0, 2 * np.pi, teeth * 4 + 1)
    high = np.array([0, 1, 1, 0] * teeth + [0])
    outline = np.where(high > 0, radius * (1 + 1.6 / teeth), radius * (1 - 1.0 / teeth))
    hub = np.full(len(angle), 0.35 * radius)
    rings = [(hub, -0.012), (outline, -0.012), (outline, 0.012), (hub, 0.012), (hub, -0.012)]
    points = [np.stack([r * np.cos(angle), r * np.sin(angle), np.full(len(angle), z)], axis=-1) for r, z in rings]
    closed = np.stack(points)
    closed[:, -1] = closed[:, 0]
    axle = lathe(np.array([[0, -0.03], [0.3 * radius, -0.03], [0.3 * radius, 0.03], [0, 0.03]]), 24).turned(
        turn((1, 0, 0), 90)
    )
    spokes = [
        rounded_box((0.72 * radius, 0.1 * radius, 0.016), 0.002).turned(turn((0, 0, 1), 90.0 * n)) for n in range(2)
    ]
    return join([sheet(closed, 30.0), axle, *spokes])


def _dial_material(builder: GlbBuilder) -> int:
    u, v = tx.coordinates(512)
    x, y = (u - 0.5) * 2, (0.5 - v) * 2
    out, angle = np.hypot(x, y), np.degrees(np.arctan2(x, y)) % 360
    grain = tx.noise("dial", 512, 5, 4)
    color = tx.palette(np.clip(0.6 * grain + 0.5 * (1 - out), 0, 1), ["#e9d9b4", "#f7efdc", "#fffaf0"])
    ink = np.zeros_like(u)
    for inner, outer in ((0.905, 0.915), (0.965, 0.975), (0.4, 0.408)):
        ink = np.maximum(ink, tx.step(out, inner, 0.006) * tx.step(outer - out, 0.0, 0.006))
    for every, inner, outer, half in ((6.0, 0.915, 0.965, 0.006), (30.0, 0.68, 0.86, 0.017), (90.0, 0.6, 0.88, 0.03)):
        off = np.radians(np.abs((angle + every / 2) % every - every / 2)) * out
        ink = np.maximum(
            ink, tx.step(half - off, 0.0, 0.006) * tx.step(out, inner, 0.006) * tx.step(outer - out, 0.0, 0.006)
        )
    petals = tx.step(0.2 + 0.15 * np.abs(np.cos(np.radians(angle * 3))) - out, 0.0, 0.01) * tx.step(out, 0.08, 0.01)
    color = tx.mix(color, np.broadcast_to(tx.srgb("#c7a566"), color.shape), petals * 0.55)
    color = tx.mix(color, np.broadcast_to(tx.srgb("#22222c"), color.shape), ink)
    return builder.material("dial", roughness=0.5, color_texture=builder.texture(tx.pixels(color, 64), "dial color"))


def _walnut(builder: GlbBuilder) -> int:
    warp = tx.noise("walnut warp", 256, 3, 4)
    fibers = tx.noise("walnut", 256, (40, 2), 3)
    u, _ = tx.coordinates(256)
    rings = 0.5 + 0.5 * np.sin(2 * np.pi * (6 * u + 2.5 * warp))
    tone = np.clip(0.5 * rings + 0.5 * fibers, 0, 1)
    return builder.material(
        "walnut",
        roughness=1.0,
        color_texture=builder.texture(
            tx.pixels(tx.palette(tone, ["#331a0e", "#54301a", "#7a4a29"]), 64), "walnut color"
        ),
        metallic_roughness_texture=builder.texture(tx.metallic_roughness(0.0, 0.28 + 0.2 * tone), "walnut roughness"),
        normal_texture=builder.texture(tx.normal_map(0.3 * fibers, 1.5), "walnut normal"),
    )

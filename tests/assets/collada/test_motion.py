"""Transforms, channels and clips of documents written by hand, against arithmetic of the tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from helix4d.assets import bake, list_clips
from helix4d.core import AssetError, ReasonCode
from tests.assets.collada.documents import (
    TETRA,
    animation,
    assert_shows,
    document,
    geometry,
    node,
    placed,
    shown,
    write,
)

TIMES = np.linspace(0, 1, 5)


def translation(x: float, y: float, z: float) -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3, 3] = x, y, z
    return matrix


def scaling(x: float, y: float, z: float) -> np.ndarray:
    return np.diag([x, y, z, 1.0])


def turn_z(degrees: float) -> np.ndarray:
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.array([[c, -s, 0, 0], [s, c, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])


def turn_x(degrees: float) -> np.ndarray:
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.array([[1, 0, 0, 0], [0, c, -s, 0], [0, s, c, 0], [0, 0, 0, 1]])


def one_node(transforms: str, *animations: str) -> str:
    return document(node("n", transforms + shown()), "".join(animations))


CHANNELS = {
    "whole translate": (
        one_node('<translate sid="t">1 2 3</translate>', animation("n/t", [0, 1], [[1, 2, 3], [5, 0, 3]])),
        lambda s: translation(1 + 4 * s, 2 - 2 * s, 3),
    ),
    "translate.X": (
        one_node('<translate sid="t">1 2 3</translate>', animation("n/t.X", [0, 1], [1, 5])),
        lambda s: translation(1 + 4 * s, 2, 3),
    ),
    "translate.Y and translate.Z": (
        one_node(
            '<translate sid="t">1 2 3</translate>',
            animation("n/t.Y", [0, 1], [0, 2]),
            animation("n/t.Z", [0, 1], [3, -3]),
        ),
        lambda s: translation(1, 2 * s, 3 - 6 * s),
    ),
    "translate(1)": (
        one_node('<translate sid="t">1 2 3</translate>', animation("n/t(1)", [0, 1], [2, 6])),
        lambda s: translation(1, 2 + 4 * s, 3),
    ),
    "rotate.ANGLE": (
        one_node('<rotate sid="r">0 0 2 30</rotate>', animation("n/r.ANGLE", [0, 1], [0, 720])),
        lambda s: turn_z(720 * s),
    ),
    "rotate(3)": (
        one_node('<rotate sid="r">1 0 0 30</rotate>', animation("n/r(3)", [0, 1], [0, -200])),
        lambda s: turn_x(-200 * s),
    ),
    "whole rotate": (
        one_node('<rotate sid="r">0 0 1 30</rotate>', animation("n/r", [0, 1], [[0, 0, 1, 0], [0, 0, 1, 270]])),
        lambda s: turn_z(270 * s),
    ),
    "rotate.Z, an axis": (
        one_node('<rotate sid="r">0 0 1 90</rotate>', animation("n/r.Z", [0, 1], [1, -1], "STEP")),
        lambda s: turn_z(90 if s < 1 else -90),
    ),
    "whole scale": (
        one_node('<scale sid="s">1 1 1</scale>', animation("n/s", [0, 1], [[1, 1, 1], [2, 0.5, 3]])),
        lambda s: scaling(1 + s, 1 - 0.5 * s, 1 + 2 * s),
    ),
    "scale.Y to negative": (
        one_node('<scale sid="s">1 1 1</scale>', animation("n/s.Y", [0, 1], [1, -2])),
        lambda s: scaling(1, 1 - 3 * s, 1),
    ),
    "whole matrix, turned rather than blended": (
        one_node(
            '<matrix sid="m">1 0 0 0 0 1 0 0 0 0 1 0 0 0 0 1</matrix>',
            animation("n/m", [0, 1], [turn_z(0), translation(4, 0, 0) @ turn_z(120) @ scaling(3, 3, 3)]),
        ),
        lambda s: translation(4 * s, 0, 0) @ turn_z(120 * s) @ scaling(1 + 2 * s, 1 + 2 * s, 1 + 2 * s),
    ),
    "whole matrix with shear, blended": (
        one_node(
            '<matrix sid="m">1 0 0 0 0 1 0 0 0 0 1 0 0 0 0 1</matrix>',
            animation("n/m", [0, 1], [np.eye(4), np.eye(4) + np.eye(4, k=1) * [[2], [0], [0], [0]]]),
        ),
        lambda s: np.eye(4) + np.eye(4, k=1) * [[2 * s], [0], [0], [0]],
    ),
    "matrix(3)(0), column and row": (
        one_node(
            '<matrix sid="m">1 0 0 7 0 1 0 8 0 0 1 9 0 0 0 1</matrix>',
            animation("n/m(3)(0)", [0, 1], [7, 10]),
            animation("n/m(1)(2)", [0, 1], [0, 5]),
        ),
        lambda s: translation(7 + 3 * s, 8, 9) + [[0] * 4, [0] * 4, [0, 5 * s, 0, 0], [0] * 4],
    ),
    "matrix(7), in the order of the text": (
        one_node('<matrix sid="m">1 0 0 7 0 1 0 8 0 0 1 9 0 0 0 1</matrix>', animation("n/m(7)", [0, 1], [8, -8])),
        lambda s: translation(7, 8 - 16 * s, 9),
    ),
    "lookat, whole": (
        one_node(
            '<lookat sid="l">0 0 0 0 0 -1 0 1 0</lookat>',
            animation("n/l", [0, 1], [[0, 0, 0, 0, 0, -1, 0, 1, 0], [5, 0, 0, 5, 0, -1, 0, 1, 0]]),
        ),
        lambda s: translation(5 * s, 0, 0),
    ),
    "lookat.PX and lookat.IX": (
        one_node(
            '<lookat sid="l">0 0 0 0 -1 0 0 0 1</lookat>',
            animation("n/l.PX", [0, 1], [0, 5]),
            animation("n/l.IX", [0, 1], [0, 5]),
        ),
        # An object whose −Z is turned to −y, and whose +Y to +z.
        lambda s: translation(5 * s, 0, 0) @ np.array([[-1, 0, 0, 0], [0, 0, 1, 0], [0, 1, 0, 0], [0, 0, 0, 1]]),
    ),
    "skew.ANGLE": (
        one_node('<skew sid="k">0 0 1 0 1 0 0</skew>', animation("n/k.ANGLE", [0, 1], [0, 45], "STEP")),
        # Points along y are moved along x until they are turned by the angle.
        lambda s: np.eye(4) + (np.eye(4, k=1) * [[1], [0], [0], [0]] if s == 1 else 0),
    ),
    "a stack in the order of the text": (
        one_node(
            '<scale sid="s">2 1 1</scale><translate sid="t">1 0 0</translate><rotate sid="r">0 0 1 0</rotate>'
            '<translate sid="u">0 3 0</translate><scale>1 1 0.5</scale>',
            animation("n/r.ANGLE", [0, 1], [0, 90]),
            animation("n/u.Y", [0, 1], [3, 1]),
        ),
        lambda s: (
            scaling(2, 1, 1) @ translation(1, 0, 0) @ turn_z(90 * s) @ translation(0, 3 - 2 * s, 0) @ scaling(1, 1, 0.5)
        ),
    ),
    "a path of sids": (
        document(
            node("top", '<node sid="inner"><translate sid="t">0 0 0</translate>' + shown() + "</node>"),
            animation("top/inner/t.X", [0, 1], [0, 6]),
        ),
        lambda s: translation(6 * s, 0, 0),
    ),
    "an id with a dot": (
        document(
            node("n.001", '<translate sid="t.1">0 0 0</translate>' + shown()),
            animation("n.001/t.1", [0, 1], [[0, 0, 0], [6, 0, 0]]),
        ),
        lambda s: translation(6 * s, 0, 0),
    ),
    "a hierarchy": (
        document(
            node(
                "a",
                '<rotate sid="r">1 0 0 0</rotate>'
                + node("b", '<translate sid="t">0 2 0</translate>' + node("c", "<scale>1 2 3</scale>" + shown())),
            ),
            animation("a/r.ANGLE", [0, 1], [0, 180]) + animation("b/t.X", [0, 1], [0, 8]),
        ),
        lambda s: turn_x(180 * s) @ translation(8 * s, 2, 0) @ scaling(1, 2, 3),
    ),
}


@pytest.mark.parametrize("name", CHANNELS)
def test_channels_reach_what_they_target(tmp_path: Path, name: str) -> None:
    content, matrix_at = CHANNELS[name]
    clip = bake(write(tmp_path, content), 5)
    np.testing.assert_allclose(clip.times, TIMES, atol=1e-9)
    assert_shows(clip, [placed(np.asarray(matrix_at(s), float)) for s in TIMES])
    assert clip.warnings == ()


@pytest.mark.parametrize(
    ("target", "values", "problem"),
    [
        ("n/t.ANGLE", [0, 1], "no member 'ANGLE'"),
        ("n/t(3)", [0, 1], r"\(3\) selects no number"),
        ("n/t(0)(0)", [0, 1], "selects no number"),
        ("n/t", [0, 1], "have 1 values, but <translate> needs 3"),
        ("n/t.X", [[0, 1], [1, 2]], "have 2 values"),
        ("n/t.X", [0, np.nan], "NaN or infinity"),
    ],
)
def test_channels_that_fit_nothing_are_refused(tmp_path: Path, target: str, values: list[object], problem: str) -> None:
    content = one_node('<translate sid="t">0 0 0</translate>', animation(target, [0, 1], values))
    with pytest.raises(AssetError, match=problem) as caught:
        bake(write(tmp_path, content), 2)
    assert caught.value.code in (ReasonCode.INVALID_ACCESSOR, ReasonCode.NON_FINITE_GEOMETRY)


def test_channels_that_nothing_follows_cost_a_warning(tmp_path: Path) -> None:
    moving = animation("n/t.X", [0, 1], [0, 1])
    for target, problem in (("gone/t.X", "does not exist"), ("n/gone.X", "does not exist"), ("n", "<node> is not")):
        content = one_node('<translate sid="t">0 0 0</translate>', moving, animation(target, [0, 5], [0, 1], name="b"))
        clip = bake(write(tmp_path, content), 2)
        assert clip.times[-1] == 1
        (warning,) = clip.warnings
        assert problem in warning


BEZIER = (np.array([0, 0, 1, 3]), np.array([0, 6, 6, 9]))
"""Times and values of the control points of one segment."""


def bezier(points: np.ndarray, s: float) -> float:
    return float(np.polynomial.polynomial.polyval(s, [
        points[0], 3 * (points[1] - points[0]), 3 * (points[0] - 2 * points[1] + points[2]),
        points[3] - 3 * points[2] + 3 * points[1] - points[0]]))  # fmt: skip


def at_time(times: np.ndarray, values: np.ndarray, time: float) -> float:
    """Return the value of a Bézier segment at a time, by the real root of its cubic."""
    cubic = np.polynomial.Polynomial([times[0] - time, 3 * (times[1] - times[0]),
        3 * (times[0] - 2 * times[1] + times[2]), times[3] - 3 * times[2] + 3 * times[1] - times[0]])  # fmt: skip
    roots = [root.real for root in cubic.roots() if abs(root.imag) < 1e-7 and -1e-7 <= root.real <= 1 + 1e-7]
    return bezier(values, roots[0])


SAMPLERS = {
    "STEP": (([0, 3], [0, 9], "STEP"), lambda t: 0 if t < 3 else 9),
    "LINEAR": (([0, 3], [0, 9], "LINEAR"), lambda t: 3 * t),
    "BEZIER with times": (
        ([0, 3], [0, 9], "BEZIER", [[-1, 0], [1, 6]], [[0, 6], [4, 9]]),
        lambda t: at_time(*BEZIER, t),
    ),
    "BEZIER without times": (
        ([0, 3], [0, 9], "BEZIER", [0, 6], [6, 9]),
        lambda t: bezier(BEZIER[1], t / 3),
    ),
    "HERMITE with times": (
        # The tangents are three times the handles (0, 6) − (0, 0), and (3, 9) − (1, 6).
        ([0, 3], [0, 9], "HERMITE", [[0, 0], [6, 9]], [[0, 18], [0, 0]]),
        lambda t: at_time(*BEZIER, t),
    ),
    "HERMITE without times": (
        ([0, 3], [0, 9], "HERMITE", [0, 9], [18, 0]),
        lambda t: bezier(BEZIER[1], t / 3),
    ),
    "mixed": (
        ([0, 1, 2, 3], [0, 2, 4, 9], ["STEP", "LINEAR", "BEZIER", "LINEAR"], [0, 0, 0, 5], [0, 0, 4, 0]),
        lambda t: 0 if t < 1 else 2 * t if t < 2 else bezier(np.array([4, 4, 5, 9]), t - 2),
    ),
}


@pytest.mark.parametrize("name", SAMPLERS)
def test_samplers(tmp_path: Path, name: str) -> None:
    (times, values, kinds, *tangents), value_at = SAMPLERS[name]
    pair = (tangents[0], tangents[1]) if tangents else None
    keys = animation("n/t.X", times, values, kinds, tangents=pair)
    clip = bake(write(tmp_path, one_node('<translate sid="t">0 0 0</translate>', keys)), 13)
    np.testing.assert_allclose(clip.times, np.linspace(0, 3, 13))
    assert_shows(clip, [placed(translation(value_at(t), 0, 0)) for t in clip.times])


def test_the_ends_of_curves_hold(tmp_path: Path) -> None:
    """A curve that begins later and ends earlier than another one holds; other behaviors are a warning."""
    transforms = '<translate sid="t">0 0 0</translate><translate sid="u">0 0 0</translate>'
    slow = animation("n/t.X", [0, 4], [0, 8], name="slow")
    fast = animation("n/u.Y", [1, 2], [5, 7], name="fast", sampler='post_behavior="CYCLE"')
    clip = bake(write(tmp_path, one_node(transforms, slow, fast)), 5)
    assert_shows(clip, [placed(translation(2 * t, y, 0)) for t, y in enumerate((5, 5, 7, 7, 7))])
    (warning,) = clip.warnings
    assert "post_behavior CYCLE is not supported" in warning


def test_interpolations_that_are_unknown_are_a_warning(tmp_path: Path) -> None:
    keys = animation("n/t.X", [0, 1], [0, 8], "CARDINAL")
    clip = bake(write(tmp_path, one_node('<translate sid="t">0 0 0</translate>', keys)), 3)
    assert_shows(clip, [placed(translation(x, 0, 0)) for x in (0, 4, 8)])
    assert "CARDINAL is not supported" in clip.warnings[0]


AXES = {
    "X_UP": lambda x, y, z: (-y, -z, x),
    "Y_UP": lambda x, y, z: (x, -z, y),
    "Z_UP": lambda x, y, z: (x, y, z),
}


@pytest.mark.parametrize("axis", AXES)
def test_axes_and_units(tmp_path: Path, axis: str) -> None:
    asset = f'<unit name="inch" meter="0.0254"/><up_axis>{axis}</up_axis>'
    keys = animation("n/t.Y", [0, 1], [0, 10])
    content = document(node("n", '<translate sid="t">0 0 0</translate>' + shown()), keys, asset=asset)
    clip = bake(write(tmp_path, content), 2)
    points = [np.array([AXES[axis](x, y + 10 * t, z) for x, y, z in TETRA]) * 0.0254 for t in (0, 1)]
    assert_shows(clip, points)


def test_without_an_asset_y_is_up_and_lengths_are_meters(tmp_path: Path) -> None:
    content = one_node('<translate sid="t">0 0 0</translate>', animation("n/t.X", [0, 1], [0, 1]))
    start, end = content.index("<asset>"), content.index("</asset>") + len("</asset>")
    clip = bake(write(tmp_path, content[:start] + content[end:]), 2)
    assert_shows(clip, [np.array([(x + t, -z, y) for x, y, z in TETRA]) for t in (0, 1)])


def test_nodes_of_libraries_are_shown_wherever_they_are_instanced(tmp_path: Path) -> None:
    inner = node("inner", '<translate sid="t">0 0 0</translate>' + shown())
    outer = node("outer", f'{inner}<instance_node url="#leaf"/>')
    libraries = f"<library_nodes>{outer}{node('leaf', '<translate>0 0 9</translate>' + shown())}</library_nodes>"
    nodes = node("a", '<instance_node url="#outer"/>')
    nodes += node("b", '<translate>0 20 0</translate><instance_node url="#outer"/>') + node("c", shown())
    clip = bake(write(tmp_path, document(nodes, animation("inner/t.X", [0, 1], [0, 4]), libraries=libraries)), 3)
    expected = []
    for x in (0, 2, 4):
        places = ((x, 0, 0), (0, 0, 9), (x, 20, 0), (0, 20, 9), (0, 0, 0))
        expected.append(np.concatenate([placed(translation(*place)) for place in places]))
    assert_shows(clip, expected)
    assert len(clip.frames[0].faces) == 5 * 4


def test_mirrored_nodes_turn_their_triangles(tmp_path: Path) -> None:
    keys = animation("n/s.X", [0, 1], [1, -1])
    clip = bake(write(tmp_path, one_node('<scale sid="s">1 1 1</scale>', keys)), 2)
    for frame in clip.frames:
        triangles = frame.triangles().astype(float)
        across = np.cross(triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0])
        outward = triangles.mean(axis=1) - frame.vertices.mean(axis=0)
        assert ((across * outward).sum(axis=1) > 0).all()
        normals = frame.normals[frame.faces].mean(axis=1)
        np.testing.assert_allclose(normals, across / np.linalg.norm(across, axis=1, keepdims=True), atol=1e-5)


CLIPS = (
    '<library_animation_clips><animation_clip id="c1" name="walk" start="0" end="2">'
    '<instance_animation url="#x"/></animation_clip>'
    '<animation_clip id="c2" start="2" end="4"><instance_animation url="#x"/><instance_animation url="#group"/>'
    '</animation_clip><animation_clip id="c3"><instance_animation url="#y"/></animation_clip>'
    '<animation_clip id="c4"><instance_animation url="#still"/></animation_clip></library_animation_clips>'
)


def test_animation_clips_are_clips_with_their_own_ranges(tmp_path: Path) -> None:
    transforms = '<translate sid="t">0 0 0</translate>'
    keys = animation("n/t.X", [0, 4], [0, 8], name="x") + animation("n/t.Z", [1, 3], [1, 5], name="loose")
    keys += '<animation id="group">' + animation("n/t.Y", [0, 1, 5], [0, 5, 9], name="y") + "</animation>"
    keys += animation("empty/t.X", [0, 9], [0, 1], name="still")
    nodes = node("n", transforms + shown()) + node("empty", transforms)
    path = write(tmp_path, document(nodes, keys, libraries=CLIPS))
    infos = [(info.index, info.name, info.start, info.end) for info in list_clips(path)]
    assert infos == [(0, "walk", 0, 2), (1, "c2", 2, 4), (2, "c3", 0, 5)]
    assert_shows(bake(path, 3, "walk"), [placed(translation(x, 0, 0)) for x in (0, 2, 4)])
    assert_shows(bake(path, 3, 1), [placed(translation(x, y, 0)) for x, y in ((4, 6), (6, 7), (8, 8))])
    clip = bake(path, 2, "c3")
    assert_shows(clip, [placed(translation(0, y, 0)) for y in (0, 9)])
    assert "some animations are not part of any animation clip: ignored" in clip.warnings


def test_animations_without_clips_are_one(tmp_path: Path) -> None:
    """Its range is that of the keys of what moves something visible."""
    transforms = '<translate sid="t">0 0 0</translate>'
    nodes = node("n", transforms + shown()) + node("empty", transforms + '<instance_camera url="#cam"/>')
    keys = animation("n/t.X", [1, 2], [0, 8]) + animation("n/t.Y", [0, 1.5], [0, 3])
    keys += animation("empty/t.X", [0, 60], [0, 8]) + animation("cam/yfov", [0, 30], [30, 60])
    camera = '<library_cameras><camera id="cam"><optics><technique_common><perspective><yfov sid="yfov">30</yfov>'
    camera += "</perspective></technique_common></optics></camera></library_cameras>"
    path = write(tmp_path, document(nodes, keys, libraries=camera))
    assert [(info.name, info.start, info.end) for info in list_clips(path)] == [("", 0, 2)]
    assert_shows(bake(path, 2), [placed(translation(0, 0, 0)), placed(translation(8, 3, 0))])
    only_camera = write(tmp_path, document(nodes, animation("empty/t.X", [0, 60], [0, 8]), libraries=camera), "b.dae")
    with pytest.raises(AssetError) as caught:
        bake(only_camera)
    assert caught.value.code is ReasonCode.NO_MOTION


def test_an_invalid_clip_is_refused_where_it_is_chosen(tmp_path: Path) -> None:
    transforms = '<translate sid="t">0 0 0</translate>'
    keys = animation("n/t.X", [0, 4], [0, 8], name="x") + animation("n/t.Y", [3, 1, 2], [0, 5, 9], name="y")
    path = write(
        tmp_path, document(node("n", transforms + shown()), keys + "", libraries=CLIPS.replace("#group", "#x"))
    )
    assert len(bake(path, 2, "walk").frames) == 2
    with pytest.raises(AssetError, match=r"key times must not decrease, but do after 3 s") as caught:
        bake(path, 2, "c3")
    assert caught.value.code is ReasonCode.INVALID_ACCESSOR


def test_invalid_keys_of_what_shows_nothing_do_not_matter(tmp_path: Path) -> None:
    transforms = '<translate sid="t">0 0 0</translate>'
    nodes = node("n", transforms + shown()) + node("empty", transforms)
    keys = animation("n/t.X", [0, 4], [0, 8]) + animation("empty/t.Y", [3, 1, 2], [0, 5, 9])
    clip = bake(write(tmp_path, document(nodes, keys)), 2)
    assert_shows(clip, [placed(translation(x, 0, 0)) for x in (0, 8)])


def test_visibility_of_fcollada(tmp_path: Path) -> None:
    flag = '<extra><technique profile="FCOLLADA"><visibility sid="visibility">{}</visibility></technique></extra>'
    transforms = '<translate sid="t">0 0 0</translate>'
    nodes = node("n", transforms + shown() + flag.format(1))
    nodes += node("p", flag.format(1) + node("q", "<translate>0 9 0</translate>" + shown()))
    nodes += node("hidden", transforms + shown() + flag.format(0))
    hidden = animation("hidden/t.X", [0, 60], [0, 900])
    keys = hidden + animation("n/t.X", [0, 1], [0, 4]) + animation("p/visibility", [0, 0.5], [1, 0], "STEP")
    clip = bake(write(tmp_path, document(nodes, keys)), 3)
    assert [len(frame.faces) for frame in clip.frames] == [8, 4, 4]
    assert_shows(clip, [
        np.concatenate([placed(np.eye(4)), placed(translation(0, 9, 0))]),
        placed(translation(2, 0, 0)), placed(translation(4, 0, 0)),
    ])  # fmt: skip


def test_keys_are_reached_although_times_are_rounded(tmp_path: Path) -> None:
    times = [round(k / 30, 5) for k in range(31)]
    values = [(-1) ** k * k for k in range(31)]
    content = one_node('<translate sid="t">0 0 0</translate>', animation("n/t.X", times, values, "STEP"))
    clip = bake(write(tmp_path, content), 31)
    assert_shows(clip, [placed(translation(x, 0, 0)) for x in values])


def test_points_are_placed_by_their_own_geometry(tmp_path: Path) -> None:
    other = [(10, 0, 0), (11, 0, 0), (10, 1, 0), (10, 0, 1)]
    nodes = node("n", '<translate sid="t">0 0 0</translate>' + shown() + shown("h"))
    content = document(nodes, animation("n/t.X", [0, 1], [0, 4]), geometry() + geometry("h", other))
    clip = bake(write(tmp_path, content), 2)
    assert_shows(clip, [np.concatenate([np.array(TETRA), other]) + [x, 0, 0] for x in (0, 4)])

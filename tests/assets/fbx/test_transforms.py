"""Node transforms of FBX files, written by hand, against independent arithmetic."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from helix4d.assets import Clip, bake, bake_clips, check_clip, list_clips
from helix4d.assets.limits import DEFAULT_LIMITS
from helix4d.core import AssetError, ReasonCode
from tests.assets.fbx.ascii import TRIANGLES, AsciiFbx, axes, properties_of

pytest.importorskip("ufbx", reason="ufbx is not installed (extra 'curate')")

POINTS = np.array(TRIANGLES[0], np.float64)
METERS = 0.01  # without a unit, FBX has centimeters


def turn(axis: int, degrees: float) -> np.ndarray:
    """Return the (3, 3) matrix that turns column vectors about an axis."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    found = np.eye(3)
    i, j = (axis + 1) % 3, (axis + 2) % 3
    found[i, i] = found[j, j] = c
    found[i, j], found[j, i] = -s, s
    return found


def euler(degrees: tuple[float, float, float], order: str = "XYZ") -> np.ndarray:
    """Return the (3, 3) rotation for column vectors: the first axis of the order turns first."""
    found = np.eye(3)
    for name in order:
        axis = "XYZ".index(name)
        found = turn(axis, degrees[axis]) @ found
    return found


def affine(linear: np.ndarray | None = None, shift: object = (0.0, 0.0, 0.0)) -> np.ndarray:
    """Return a (4, 4) matrix for column vectors."""
    found = np.eye(4)
    found[:3, :3] = np.eye(3) if linear is None else linear
    found[:3, 3] = shift
    return found


def placed(matrix: np.ndarray, points: np.ndarray = POINTS) -> np.ndarray:
    """Return (V, 3) points in the clip's axes, in meters, of a file with Y up."""
    x, y, z = (points @ matrix[:3, :3].T + matrix[:3, 3]).T
    return np.stack([x, -z, y], axis=1) * METERS


def assert_shows(clip: Clip, frame: int, expected: np.ndarray) -> None:
    """Check that the vertices of a frame are the expected ones, in any order, to 1e-4 of the diagonal."""
    found = clip.frames[frame].vertices.astype(np.float64)
    distances = np.linalg.norm(found[:, None] - expected[None], axis=2)
    limit = 1e-4 * np.linalg.norm(np.ptp(expected, axis=0))
    assert distances.min(axis=1).max() <= limit
    assert distances.min(axis=0).max() <= limit


def moved(file: AsciiFbx, node: int, path: Path, end: float = 1.0, **options: object) -> Clip:
    """Let a node move by (10, 0, 0) in a second, and bake its first and last frame."""
    layer = file.take("move", 0, end)
    file.animate(layer, node, "Lcl Translation", {"X": [(0, 0), (end, 10)], "Y": [(0, 0)], "Z": [(0, 0)]})
    clip = bake(file.write(path), frames=2, **options)
    check_clip(clip, min_size=0.0)
    return clip


@pytest.mark.parametrize("order", list(range(6)))
def test_rotation_orders_and_pre_and_post_rotations(tmp_path: Path, order: int) -> None:
    name = ("XYZ", "XZY", "YZX", "YXZ", "ZXY", "ZYX")[order]
    file = AsciiFbx()
    values = {
        "PreRotation": (10.0, 20.0, 30.0),
        "PostRotation": (-40.0, 5.0, 15.0),
        "Lcl_Rotation": (50.0, -60.0, 70.0),
    }
    node = file.node("part", **values, RotationOrder=order, RotationActive=1)
    file.mesh(node)
    clip = moved(file, node, tmp_path / "a.fbx")
    # https://help.autodesk.com/view/FBX/2020/ENU/?guid=FBX_Developer_Help_nodes_and_scene_graph_fbx_nodes_computing_transformation_matrix_html
    linear = euler(values["PreRotation"]) @ euler(values["Lcl_Rotation"], name)
    linear = linear @ np.linalg.inv(euler(values["PostRotation"]))
    assert_shows(clip, 0, placed(affine(linear)))
    assert_shows(clip, 1, placed(affine(linear, (10, 0, 0))))


def test_pivots_offsets_and_geometric_transforms(tmp_path: Path) -> None:
    file = AsciiFbx()
    rp, roff, sp, soff = (1.0, 2.0, 3.0), (0.5, 0.0, -1.0), (-2.0, 1.0, 0.0), (0.0, 3.0, 0.0)
    scale, angles = (2.0, 0.5, 3.0), (30.0, 40.0, -50.0)
    geometric = affine(euler((0.0, 90.0, 10.0)) @ np.diag([1.0, 2.0, 1.0]), (0.0, 0.0, 4.0))
    node = file.node(
        "part",
        **{"Lcl_Rotation": angles, "Lcl_Scaling": scale, "RotationPivot": rp, "RotationOffset": roff},
        **{"ScalingPivot": sp, "ScalingOffset": soff, "GeometricTranslation": (0.0, 0.0, 4.0)},
        **{"GeometricRotation": (0.0, 90.0, 10.0), "GeometricScaling": (1.0, 2.0, 1.0)},
    )
    child = file.node("child", parent=node, Lcl_Translation=(0.0, 0.0, 7.0))
    file.mesh(node)
    file.mesh(child)
    clip = moved(file, node, tmp_path / "a.fbx")
    for frame, x in enumerate((0.0, 10.0)):
        matrix = affine(shift=(x, 0, 0)) @ affine(shift=roff) @ affine(shift=rp) @ affine(euler(angles))
        matrix = matrix @ affine(shift=-np.array(rp)) @ affine(shift=soff) @ affine(shift=sp)
        matrix = matrix @ affine(np.diag(scale)) @ affine(shift=-np.array(sp))
        below = matrix @ affine(shift=(0, 0, 7))  # children do not inherit the geometric transform
        assert_shows(clip, frame, np.concatenate([placed(matrix @ geometric), placed(below)]))


@pytest.mark.parametrize("inherit", [0, 1, 2])
def test_how_scales_are_inherited(tmp_path: Path, inherit: int) -> None:
    file = AsciiFbx()
    parent = file.node("parent", sub="Null", Lcl_Scaling=(1.0, 3.0, 0.5), Lcl_Rotation=(0.0, 0.0, 30.0))
    turned, scale = (20.0, 0.0, 45.0), (2.0, 1.0, 1.0)
    child = file.node("child", parent, InheritType=inherit, Lcl_Rotation=turned, Lcl_Scaling=scale)
    file.mesh(child)
    clip = moved(file, child, tmp_path / "a.fbx")
    own, s_own, s_parent = euler(turned), np.diag(scale), np.diag([1.0, 3.0, 0.5])
    above = euler((0.0, 0.0, 30.0))
    linear = {
        0: above @ own @ s_parent @ s_own,  # RrSs: scales are multiplied by component
        1: above @ s_parent @ own @ s_own,  # RSrs: as in other programs
        2: above @ own @ s_own,  # Rrs: the parent's scale is ignored
    }[inherit]
    for frame, x in enumerate((0.0, 10.0)):
        assert_shows(clip, frame, placed(affine(linear, above @ s_parent @ [x, 0, 0])))


@pytest.mark.parametrize(
    ("up", "front", "coord", "to_clip"),
    [
        ((1, 1), (2, 1), (0, 1), lambda x, y, z: (x, -z, y)),
        ((2, 1), (1, -1), (0, 1), lambda x, y, z: (x, y, z)),
        ((0, 1), (2, 1), (1, -1), lambda x, y, z: (-y, -z, x)),
        ((1, 1), (2, -1), (0, 1), lambda x, y, z: (x, z, y)),  # left-handed: mirrored
    ],
)
def test_axes_and_units(tmp_path: Path, up: tuple, front: tuple, coord: tuple, to_clip: object) -> None:
    file = AsciiFbx({"UnitScaleFactor": ("double", 2.54), **axes(up, front, coord)})
    node = file.node("part")
    file.mesh(node)
    clip = moved(file, node, tmp_path / "a.fbx")
    for frame, x in enumerate((0.0, 10.0)):
        points = (POINTS + [x, 0, 0]) * 0.0254
        assert_shows(clip, frame, np.array([to_clip(*point) for point in points]))  # type: ignore[operator]
    corners = clip.frames[0].triangles().astype(np.float64)
    volume = np.einsum("fi,fi->", corners[:, 0], np.cross(corners[:, 1], corners[:, 2])) / 6
    assert volume == pytest.approx(0.0254**3, rel=1e-4)  # positive: triangles still face outward


def test_a_file_without_axes_has_y_up(tmp_path: Path) -> None:
    file = AsciiFbx({})
    node = file.node("part")
    file.mesh(node)
    clip = moved(file, node, tmp_path / "a.fbx")
    assert_shows(clip, 0, placed(np.eye(4)))
    assert any("axes are not stated" in warning for warning in clip.warnings)


def test_takes_have_their_own_range_and_full_turns_are_kept(tmp_path: Path) -> None:
    file = AsciiFbx()
    node = file.node("part")
    file.mesh(node)
    first = file.take("spin", 1.0, 3.0)
    file.animate(first, node, "Lcl Rotation", {"X": [(0, 0)], "Y": [(0, 0), (4, 1440)], "Z": [(0, 0)]})
    second = file.take("slide", 0.0, 0.5)
    file.animate(second, node, "Lcl Translation", {"X": [(0, 0), (0.5, 6)], "Y": [(0, 0)], "Z": [(0, 0)]})
    path = file.write(tmp_path / "a.fbx")
    assert [(info.name, info.start, info.end) for info in list_clips(path)] == [("spin", 1, 3), ("slide", 0, 0.5)]
    spin, slide = bake_clips(path, 9)
    for frame in range(9):  # two turns in two seconds
        assert_shows(spin, frame, placed(affine(turn(1, 90 * frame))))
        assert_shows(slide, frame, placed(affine(shift=(6 * frame / 8, 0, 0))))


def test_keys_that_move_nothing_visible_do_not_stretch_the_time(tmp_path: Path) -> None:
    file = AsciiFbx()
    node = file.node("part")
    empty = file.node("empty", sub="Null")
    file.mesh(node)
    layer = file.take("move", 0, 60)
    file.animate(layer, node, "Lcl Translation", {"X": [(0, 0), (2, 6)]})
    file.animate(layer, empty, "Lcl Translation", {"X": [(0, 0), (60, 6)]})
    (info,) = list_clips(file.write(tmp_path / "a.fbx"))
    assert (info.start, info.end) == (0, 2)


def test_an_animation_that_moves_nothing_visible_is_no_motion(tmp_path: Path) -> None:
    file = AsciiFbx()
    file.mesh(file.node("part"))
    layer = file.take("move", 0, 1)
    file.animate(layer, file.node("empty", sub="Null"), "Lcl Translation", {"X": [(0, 0), (1, 6)]})
    with pytest.raises(AssetError) as caught:
        check_clip(bake(file.write(tmp_path / "a.fbx"), 3))
    assert caught.value.code is ReasonCode.NO_MOTION


def test_steps_are_reached_at_their_keys(tmp_path: Path) -> None:
    file = AsciiFbx()
    node = file.node("part")
    file.mesh(node)
    layer = file.take("steps", 0, 1.1)
    times = [n * 0.1 for n in range(12)]
    file.animate(layer, node, "Lcl Translation", {"X": [(t, 3.0 * n) for n, t in enumerate(times)]}, flags=2)
    clip = bake(file.write(tmp_path / "a.fbx"), 12)
    for frame in range(12):
        assert_shows(clip, frame, placed(affine(shift=(3.0 * frame, 0, 0))))


def test_curves_that_repeat_last_as_long_as_the_take(tmp_path: Path) -> None:
    file = AsciiFbx()
    node = file.node("part")
    file.mesh(node)
    layer = file.take("cycle", 0, 4)
    repeat = "Post-Extrapolation: {\n\t\t\tType: R\n\t\t\tRepetition: -1\n\t\t}"
    file.animate(layer, node, "Lcl Translation", {"X": [(0, 0), (1, 8)]}, extrapolation=repeat)
    clip = bake(file.write(tmp_path / "a.fbx"), 9)
    assert clip.times[-1] == 4
    assert_shows(clip, 1, placed(affine(shift=(4, 0, 0))))
    assert_shows(clip, 5, placed(affine(shift=(4, 0, 0))))


@pytest.mark.parametrize("weight", [100.0, 50.0])
def test_layers_are_added_by_their_weights(tmp_path: Path, weight: float) -> None:
    file = AsciiFbx()
    node = file.node("part")
    file.mesh(node)
    base = file.take("both", 0, 1)
    file.animate(base, node, "Lcl Translation", {"X": [(0, 0), (1, 10)], "Y": [(0, 0)], "Z": [(0, 0)]})
    extra = file.layer(base - 1, "extra", Weight=weight)
    file.animate(extra, node, "Lcl Translation", {"X": [(0, 0)], "Y": [(0, 0), (1, 4)], "Z": [(0, 0)]})
    clip = bake(file.write(tmp_path / "a.fbx"), 3)
    for frame in range(3):
        assert_shows(clip, frame, placed(affine(shift=(5 * frame, 2 * frame * weight / 100, 0))))


def test_visibility_is_animated_and_inherited(tmp_path: Path) -> None:
    file = AsciiFbx()
    shown = file.node("shown")
    group = file.node("group", sub="Null")
    below = file.node("below", group, Lcl_Translation=(50.0, 0.0, 0.0))
    free = file.node("free", group, Lcl_Translation=(0.0, 50.0, 0.0), Visibility_Inheritance=0)
    hidden = file.node("hidden", Visibility=0.0)
    for node in (shown, below, free, hidden):
        file.mesh(node)
    layer = file.take("vanish", 0, 1)
    file.animate(layer, shown, "Lcl Translation", {"X": [(0, 0), (1, 10)]})
    file.animate(layer, group, "Visibility", {"Visibility": [(0, 1), (0.5, 0), (1, 0)]}, flags=2)
    clip = bake(file.write(tmp_path / "a.fbx"), 3)
    assert [len(frame.faces) for frame in clip.frames] == [12, 8, 8]
    both = np.concatenate([placed(affine(shift=(10, 0, 0))), placed(affine(shift=(0, 50, 0)))])
    assert_shows(clip, 2, both)


def test_hidden_nodes_and_layers_are_not_shown(tmp_path: Path) -> None:
    file = AsciiFbx()
    shown = file.node("shown", Show=1)
    unshown = file.node("unshown", Show=0, Lcl_Translation=(50.0, 0.0, 0.0))
    layered = file.node("layered", Lcl_Translation=(0.0, 50.0, 0.0))
    below = file.node("below", layered)
    for node in (shown, unshown, layered, below):
        file.mesh(node)
    layer = file.element("CollectionExclusive", "layer", "DisplayLayer", properties_of({"Show": 0}))
    file.connect(layered, layer)
    clip = moved(file, shown, tmp_path / "a.fbx")
    assert_shows(clip, 0, placed(np.eye(4)))


def test_nodes_that_are_nested_too_deeply_are_refused(tmp_path: Path) -> None:
    file = AsciiFbx()
    node = 0
    for number in range(1100):
        node = file.node(f"node {number}", node, sub="Null")
    file.mesh(node)
    with pytest.raises(AssetError, match="nested more than 1,000 levels deep") as caught:
        list_clips(file.write(tmp_path / "a.fbx"))
    assert caught.value.code is ReasonCode.INVALID_SCENE_GRAPH


def test_too_many_nodes_are_refused(tmp_path: Path) -> None:
    file = AsciiFbx()
    node = file.node("part")
    file.mesh(node)
    for number in range(5):
        file.node(f"empty {number}", sub="Null")
    with pytest.raises(AssetError, match="has 7 nodes, more than the limit of 4") as caught:
        list_clips(file.write(tmp_path / "a.fbx"), replace(DEFAULT_LIMITS, nodes=4))
    assert caught.value.code is ReasonCode.OUT_OF_MEMORY

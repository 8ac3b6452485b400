"""Skins and morphs of documents written by hand, against arithmetic of the tests."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from helix4d.assets import bake
from helix4d.core import AssetError, ReasonCode
from tests.assets.collada.documents import (
    TETRA,
    TETRA_FACES,
    animation,
    assert_shows,
    document,
    geometry,
    node,
    source,
    text,
    write,
)

BIND = np.array([[1, 0, 0, 1], [0, 0, -1, 2], [0, 1, 0, 3], [0, 0, 0, 1.0]])
INVERSE = np.array([np.eye(4), np.eye(4)])
INVERSE[1][:3, 3] = -4, 0, 0


def skin(
    counts: Sequence[int],
    pairs: Sequence[tuple[int, int]],
    weights: Sequence[float],
    joints: str = "",
    base: str = "g",
    bind: np.ndarray = BIND,
) -> str:
    names = joints or source("j", ["root", "tip"], 1, "Name")
    return (
        f'<controller id="skin"><skin source="#{base}"><bind_shape_matrix>{text(bind)}</bind_shape_matrix>'
        f"{names}{source('ib', INVERSE, 16)}{source('w', weights)}"  # type: ignore[arg-type]
        '<joints><input semantic="JOINT" source="#j"/><input semantic="INV_BIND_MATRIX" source="#ib"/></joints>'
        f'<vertex_weights count="{len(counts)}"><input semantic="JOINT" source="#j" offset="0"/>'
        f'<input semantic="WEIGHT" source="#w" offset="1"/><vcount>{text(counts)}</vcount><v>{text(pairs)}</v>'
        "</vertex_weights></skin></controller>"
    )


def library(*controllers: str) -> str:
    return f"<library_controllers>{''.join(controllers)}</library_controllers>"


SKELETON = node("root", '<translate sid="t">0 0 0</translate>' + node(
    "tip", '<translate>4 0 0</translate><rotate sid="r">0 0 1 0</rotate>'))  # fmt: skip
KEYS = animation("root/t.Z", [0, 1], [0, 5]) + animation("tip/r.ANGLE", [0, 1], [0, 90])
INSTANCE = '<instance_controller url="#skin"><skeleton>#root</skeleton></instance_controller>'
MOVED = node("shown", "<translate>100 100 100</translate>" + INSTANCE)
"""A skinned mesh ignores the transform of its node."""


def joint_worlds(share: float) -> np.ndarray:
    """Return the (2, 4, 4) transforms of the joints at a share of the animation."""
    c, s = np.cos(np.pi / 2 * share), np.sin(np.pi / 2 * share)
    root, tip = np.eye(4), np.array([[c, -s, 0, 4], [s, c, 0, 0], [0, 0, 1, 5 * share], [0, 0, 0, 1]])
    root[2, 3] = 5 * share
    return np.array([root, tip])


def skinned(share: float, weights: np.ndarray, points: np.ndarray, bind: np.ndarray = BIND) -> np.ndarray:
    """Return (N, 3) points by the specification: weighted sums of (bind shape · inverse bind · joint)."""
    homogeneous = np.concatenate([points, np.ones((len(points), 1))], axis=1)
    found = np.zeros_like(homogeneous)
    for joint, world in enumerate(joint_worlds(share)):
        found += weights[:, joint, None] * (homogeneous @ (world @ INVERSE[joint] @ bind).T)
    return found[:, :3]


WEIGHTS = np.array([[1, 0], [0.25, 0.75], [0.5, 0.5], [0, 1]])
COUNTS = [1, 2, 2, 1]
PAIRS = [(0, 0), (0, 1), (1, 2), (0, 3), (1, 3), (1, 0)]
STORED = [1, 0.25, 0.75, 0.5]


def test_skins_with_a_bind_shape(tmp_path: Path) -> None:
    content = document(SKELETON + MOVED, KEYS, libraries=library(skin(COUNTS, PAIRS, STORED)))
    clip = bake(write(tmp_path, content), 4)
    assert_shows(clip, [skinned(s, WEIGHTS, np.array(TETRA, float)) for s in np.linspace(0, 1, 4)])
    assert clip.warnings == ()


def test_weights_are_divided_by_their_sum_and_may_be_many(tmp_path: Path) -> None:
    """Nine of them, and a joint that is named twice."""
    pairs = [(k % 2, k) for k in range(9)] + [(0, 0), (1, 1), (1, 2), (1, 3)]
    stored = [0.5, 1, 0.5, 3, 1, 2, 2, 4, 1]
    content = document(SKELETON + MOVED, KEYS, libraries=library(skin([9, 1, 1, 2], pairs, stored)))
    clip = bake(write(tmp_path, content), 3)
    weights = np.array([[5 / 15, 10 / 15], [1, 0], [0, 1], [0, 1]])
    assert_shows(clip, [skinned(s, weights, np.array(TETRA, float)) for s in (0, 0.5, 1)])


def test_what_follows_the_bind_shape_moves_with_its_node(tmp_path: Path) -> None:
    """Joint −1, and no weight at all."""
    pairs = [(-1, 0), (0, 1), (1, 2), (1, 0)]
    nodes = SKELETON + node("shown", '<translate sid="t">7 0 0</translate>' + INSTANCE)
    keys = KEYS + animation("shown/t.Y", [0, 1], [0, 6])
    content = document(nodes, keys, libraries=library(skin([1, 0, 2, 1], pairs, STORED)))
    clip = bake(write(tmp_path, content), 3)
    expected = []
    for share in (0, 0.5, 1):
        found = skinned(share, np.array([[0, 0], [0, 0], [0.25, 0.75], [0, 1]]), np.array(TETRA, float))
        found[:2] = np.array(TETRA[:2]) @ BIND[:3, :3].T + BIND[:3, 3] + [0, 6 * share, 0]
        expected.append(found)
    assert_shows(clip, expected)


@pytest.mark.parametrize(
    ("joints", "instance"),
    [
        (source("j", ["root", "tip"], 1, "IDREF"), INSTANCE),
        (source("j", ["root", "tip"], 1, "Name"), INSTANCE.replace("<skeleton>#root</skeleton>", "")),
    ],
)
def test_joints_are_found_by_id_and_without_a_skeleton(tmp_path: Path, joints: str, instance: str) -> None:
    nodes = SKELETON + node("shown", instance)
    content = document(nodes, KEYS, libraries=library(skin(COUNTS, PAIRS, STORED, joints)))
    clip = bake(write(tmp_path, content), 2)
    assert_shows(clip, [skinned(s, WEIGHTS, np.array(TETRA, float)) for s in (0, 1)])


def test_skeletons_with_the_same_sids_are_told_apart(tmp_path: Path) -> None:
    """A decoy with the same sids comes first; only the one that the instance names counts."""
    decoy = '<node id="decoy" sid="root"><translate>50 0 0</translate><node sid="tip"/></node>'
    real = SKELETON.replace('id="tip" sid="tip"', 'id="real tip" sid="tip"')
    content = document(
        decoy + real + MOVED, KEYS.replace("tip/r", "real tip/r"), libraries=library(skin(COUNTS, PAIRS, STORED))
    )
    clip = bake(write(tmp_path, content), 2)
    assert_shows(clip, [skinned(s, WEIGHTS, np.array(TETRA, float)) for s in (0, 1)])


def test_a_skeleton_that_is_instanced_twice_moves_each_skin_in_its_own_place(tmp_path: Path) -> None:
    libraries = f"<library_nodes>{node('figure', SKELETON + node('shown', INSTANCE))}</library_nodes>"
    nodes = '<node><instance_node url="#figure"/></node>'
    nodes += '<node><translate>0 30 0</translate><instance_node url="#figure"/></node>'
    content = document(nodes, KEYS, libraries=libraries + library(skin(COUNTS, PAIRS, STORED)))
    clip = bake(write(tmp_path, content), 2)
    one = [skinned(s, WEIGHTS, np.array(TETRA, float)) for s in (0, 1)]
    assert_shows(clip, [np.concatenate([points, points + [0, 30, 0]]) for points in one])


def test_normals_follow_the_joints(tmp_path: Path) -> None:
    normals = source("n", [(0, 0, 1)], 3)
    primitive = (
        '<triangles count="4"><input semantic="VERTEX" source="#g-v" offset="0"/>'
        '<input semantic="NORMAL" source="#n" offset="1"/><p>'
        + " ".join(f"{index} 0" for index in TETRA_FACES.split())
        + "</p></triangles>"
    )
    rigid = skin([1] * 4, [(1, 0)] * 4, [1.0])
    content = document(
        SKELETON + MOVED,
        KEYS,
        geometry(primitives=primitive, extra=normals),
        library(rigid.replace(text(BIND), text(np.eye(4)))),
    )
    tilted = content.replace('<rotate sid="r">0 0 1 0</rotate>', '<rotate sid="r">0 1 0 0</rotate>')
    clip = bake(write(tmp_path, tilted), 3)
    for frame, angle in zip(clip.frames, np.radians([0, 45, 90]), strict=True):
        expected = [np.sin(angle), 0, np.cos(angle)]
        np.testing.assert_allclose(frame.normals, np.broadcast_to(expected, frame.normals.shape), atol=1e-5)


TALL = np.array([(0, 0, 0), (2, 0, 0), (0, 3, 0), (1, 1, 9)], float)
WIDE = np.array([(0, -1, 0), (6, 0, 0), (0, 3, 2), (0, 0, 4)], float)


def morph(method: str, weights: Sequence[float] = (0, 0), base: str = "g", kind: str = "IDREF") -> str:
    stated = f'method="{method}"' if method else ""
    return (
        f'<controller id="morph"><morph {stated} source="#{base}">{source("mt", ["tall", "wide"], 1, kind)}'
        f'{source("mw", weights)}<targets><input semantic="MORPH_TARGET" source="#mt"/>'
        '<input semantic="MORPH_WEIGHT" source="#mw"/></targets></morph></controller>'
    )


SHAPES = geometry() + geometry("tall", TALL.tolist()) + geometry("wide", WIDE.tolist())
SHOWN_MORPH = node("n", '<instance_controller url="#morph"/>')
RISES = (
    animation("mw(0)", [0, 1], [0, 1]),
    animation("mw-array(0)", [0, 1], [0, 1]),
    animation("morph/mw(0)", [0, 1], [0, 1]),
    animation("mw", [0, 1], [[0, 0.5], [1, 0.5]]),
)


@pytest.mark.parametrize("method", ["NORMALIZED", "", "RELATIVE"])
@pytest.mark.parametrize("target", range(4))
def test_morphs_with_animated_weights(tmp_path: Path, method: str, target: int) -> None:
    libraries = library(morph(method, (0, 0.5)).replace('<source id="mw"', '<source id="mw" sid="mw"'))
    clip = bake(write(tmp_path, document(SHOWN_MORPH, RISES[target], SHAPES, libraries)), 5)
    base = np.array(TETRA, float)
    expected = []
    for share in np.linspace(0, 1, 5):
        if method == "RELATIVE":
            expected.append(base + share * TALL + 0.5 * WIDE)
        else:
            expected.append((1 - share - 0.5) * base + share * TALL + 0.5 * WIDE)
    assert_shows(clip, expected)
    assert clip.warnings == ()


def test_a_skin_of_a_morph(tmp_path: Path) -> None:
    libraries = library(morph("NORMALIZED", kind="Name"), skin(COUNTS, PAIRS, STORED, base="morph"))
    keys = KEYS + animation("mw(1)", [0, 1], [0, 1])
    clip = bake(write(tmp_path, document(SKELETON + MOVED, keys, SHAPES, libraries)), 3)
    base = np.array(TETRA, float)
    assert_shows(clip, [skinned(s, WEIGHTS, (1 - s) * base + s * WIDE) for s in (0, 0.5, 1)])


def test_normals_of_morph_targets(tmp_path: Path) -> None:
    parts = []
    for name, points, normal in (("g", TETRA, (0, 0, 1)), ("tall", TALL, (1, 0, 0)), ("wide", WIDE, (0, 1, 0))):
        primitive = (
            f'<triangles count="4"><input semantic="VERTEX" source="#{name}-v" offset="0"/>'
            f'<input semantic="NORMAL" source="#{name}-n" offset="1"/><p>'
            + " ".join(f"{index} 0" for index in TETRA_FACES.split())
            + "</p></triangles>"
        )
        parts.append(geometry(name, points, primitive, source(f"{name}-n", [normal], 3)))
    content = document(SHOWN_MORPH, RISES[0], "".join(parts), library(morph("NORMALIZED")))
    clip = bake(write(tmp_path, content), 3)
    for frame, normal in zip(clip.frames, ([0, 0, 1], [0.5**0.5, 0, 0.5**0.5], [1, 0, 0]), strict=True):
        np.testing.assert_allclose(frame.normals, np.broadcast_to(normal, frame.normals.shape), atol=1e-6)


GOOD = skin(COUNTS, PAIRS, STORED)


@pytest.mark.parametrize(
    ("old", "new", "code", "problem"),
    [
        (">root tip<", ">root gone<", ReasonCode.INVALID_SCENE_GRAPH, "follow the joint 'gone'"),
        (
            "<vcount>1 2 2 1</vcount>",
            "<vcount>1 2 2</vcount>",
            ReasonCode.INVALID_ACCESSOR,
            "4 positions, but 3 weight counts",
        ),
        ("<vcount>1 2 2 1</vcount>", "<vcount>1 2 2 9</vcount>", ReasonCode.INVALID_ACCESSOR, "6 weights"),
        ("<vcount>1 2 2 1<", "<vcount>9e15 9e15 2 1<", ReasonCode.INVALID_ACCESSOR, "6 weights"),
        ("<v>0 0", "<v>2 0", ReasonCode.INVALID_ACCESSOR, "does not exist"),
        ("<v>0 0", "<v>0 4", ReasonCode.INVALID_ACCESSOR, "does not exist"),
        (">1.0 0.25 0.75 0.5<", ">1 NaN 1 1<", ReasonCode.NON_FINITE_GEOMETRY, "weights are NaN"),
        ('count="2" stride="16"', 'count="1" stride="16"', ReasonCode.INVALID_ACCESSOR, r"but 1 × 16"),
        ('<skin source="#g">', '<skin source="#skin">', ReasonCode.INVALID_SCENE_GRAPH, "neither a skin of a geometry"),
        ('<skin source="#g">', '<skin source="#no">', ReasonCode.INVALID_SCENE_GRAPH, "refers to '#no'"),
        ("<bind_shape_matrix>1.0", "<bind_shape_matrix>", ReasonCode.CORRUPT_FILE, "must contain 16 numbers, found 15"),
    ],
)
def test_skins_that_do_not_fit_are_refused(tmp_path: Path, old: str, new: str, code: ReasonCode, problem: str) -> None:
    assert old in GOOD
    path = write(tmp_path, document(SKELETON + MOVED, KEYS, libraries=library(GOOD.replace(old, new))))
    with pytest.raises(AssetError, match=problem) as caught:
        bake(path, 2)
    assert caught.value.code is code


def test_morph_targets_of_another_size_are_refused(tmp_path: Path) -> None:
    shapes = geometry() + geometry("tall", TALL.tolist()) + geometry("wide", WIDE[:3].tolist(), "<lines/>")
    path = write(tmp_path, document(SHOWN_MORPH, RISES[0], shapes, library(morph("NORMALIZED"))))
    with pytest.raises(AssetError, match="'wide' has 3 positions, but the mesh has 4") as caught:
        bake(path, 2)
    assert caught.value.code is ReasonCode.INVALID_ACCESSOR


def test_weights_that_do_not_exist_and_other_arrays_cost_a_warning(tmp_path: Path) -> None:
    lost = animation("mw(2)", [0, 1], [0, 1], name="x") + animation("g-p(0)", [0, 1], [0, 1], name="y")
    lost += animation("mw", [0, 1], [[0, 0.5, 3], [1, 0.5, 3]], name="z")
    clip = bake(write(tmp_path, document(SHOWN_MORPH, lost, SHAPES, library(morph("RELATIVE")))), 2)
    base = np.array(TETRA, float)
    assert_shows(clip, [base + s * TALL + 0.5 * WIDE for s in (0, 1)])
    assert clip.warnings == (
        "a channel to <source> 'mw': animates morph weight 2, but there are 2 morph targets: ignored",
        "a channel to <source> 'g-p': animates no weights of a visible morph: ignored",
    )

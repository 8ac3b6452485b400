"""Primitives, their attributes, and documents that are damaged or hostile."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from helix4d.assets import Clip, bake, list_clips, validate
from helix4d.assets.limits import DEFAULT_LIMITS, Limits
from helix4d.assets.triangles import areas
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
    source,
    write,
)

MOVING = '<translate sid="t">0 0 0</translate>'
KEYS = animation("n/t.X", [0, 1], [0, 5])
GRID = [(x, y, 0) for y in range(4) for x in range(4)]
VERTEX = '<input semantic="VERTEX" source="#g-v" offset="0"/>'


def moving(points: Sequence[Sequence[float]], primitives: str, extra: str = "") -> str:
    return document(node("n", MOVING + shown()), KEYS, geometry("g", points, primitives, extra))


def area(clip: Clip) -> float:
    return float(areas(clip.frames[0].triangles()).sum())


L_SHAPE = [0, 3, 7, 5, 13, 12]
"""A concave polygon over the grid: a 3 × 1 foot, and a leaning leg. Its area, by the shoelace formula, is 5."""

PRIMITIVES = {
    "triangles": ('<triangles count="2">{}<p>0 1 4 1 5 4</p></triangles>', 2, 1.0),
    "two triangles elements": (2 * '<triangles count="1">{}<p>0 1 4</p></triangles>', 2, 1.0),
    "polylist": ('<polylist count="2">{}<vcount>4 3</vcount><p>0 1 5 4 1 2 5</p></polylist>', 3, 1.5),
    "polylist of a concave polygon": (
        f'<polylist count="1">{{}}<vcount>6</vcount><p>{" ".join(map(str, L_SHAPE))}</p></polylist>',
        4,
        5.0,
    ),
    "polygons": ('<polygons count="2">{}<p>0 1 5 4</p><p>1 2 5</p></polygons>', 3, 1.5),
    "polygons with a hole": (
        '<polygons count="1">{}<ph><p>0 3 15 12</p><h>5 9 10 6</h></ph></polygons>',
        8,
        8.0,
    ),
    "polygons with a hole that turns the other way": (
        '<polygons count="1">{}<ph><p>12 15 3 0</p><h>5 9 10 6</h></ph></polygons>',
        8,
        8.0,
    ),
    "tristrips": ('<tristrips count="2">{}<p>0 1 4 5 8 9</p><p>2 3 6</p></tristrips>', 5, 2.5),
    "trifans": ('<trifans count="1">{}<p>0 1 2 6 10 4</p></trifans>', 4, 3.0),
    "without a count": ("<triangles>{}<p>0 1 4</p></triangles>", 1, 0.5),
}


@pytest.mark.parametrize("name", PRIMITIVES)
def test_primitives(tmp_path: Path, name: str) -> None:
    text, faces, expected = PRIMITIVES[name]
    clip = bake(write(tmp_path, moving(GRID, text.format(VERTEX, VERTEX))), 2)
    assert len(clip.frames[0].faces) == faces
    assert area(clip) == pytest.approx(expected)
    normals = clip.frames[0].normals
    # Strips alternate, but all of their triangles face the same way; so do all parts of a polygon.
    assert np.abs(normals[:, 2]).min() == pytest.approx(1)
    assert len(np.unique(np.sign(normals[:, 2]))) == 1
    assert clip.warnings == ()


def test_triangles_around_holes_cover_what_the_holes_leave(tmp_path: Path) -> None:
    """A square on a tilted plane with five holes, in all orders and orientations."""
    outline = [(0, 0), (10, 0), (10, 10), (0, 10)]
    squares = [(x, y) for x, y in ((1, 1), (7, 1), (4, 4), (1, 7), (7, 7))]
    holes = [
        [(x, y), (x, y + 2), (x + 2, y + 2), (x + 2, y)][:: 1 if n % 2 else -1] for n, (x, y) in enumerate(squares)
    ]
    points = [(x, y, 2 * x + y) for ring in (outline, *holes) for x, y in ring]
    for order in ((0, 1, 2, 3, 4), (4, 3, 2, 1, 0), (2, 0, 4, 1, 3)):
        rings = [range(4), *(range(4 + 4 * n, 8 + 4 * n) for n in order)]
        first, *others = (" ".join(map(str, ring)) for ring in rings)
        text = f"<ph><p>{first}</p>{''.join(f'<h>{ring}</h>' for ring in others)}</ph>"
        clip = bake(write(tmp_path, moving(points, f'<polygons count="1">{VERTEX}{text}</polygons>')), 2)
        assert len(clip.frames[0].faces) == 24 + 2 * 5 - 2
        assert area(clip) == pytest.approx((100 - 5 * 4) * 6**0.5)
        centers = clip.frames[0].triangles().mean(axis=1)[:, :2]
        assert all((np.abs(centers - [x + 1, y + 1]).max(axis=1) > 1 - 1e-6).all() for x, y in squares)


def test_lines_are_ignored_with_a_warning(tmp_path: Path) -> None:
    lines = f'<lines count="1">{VERTEX}<p>0 1</p></lines><linestrips count="1">{VERTEX}<p>0 1 2</p></linestrips>'
    clip = bake(write(tmp_path, moving(GRID, PRIMITIVES["triangles"][0].format(VERTEX) + lines)), 2)
    assert len(clip.frames[0].faces) == 2
    assert clip.warnings == ("<geometry> 'g': lines are ignored",)
    with pytest.raises(AssetError, match="lines are ignored") as caught:
        bake(write(tmp_path, moving(GRID, lines)), 2)
    assert caught.value.code is ReasonCode.NO_MESH


def test_splines_are_not_shown_with_a_warning(tmp_path: Path) -> None:
    other = '<geometry id="h"><spline/></geometry>'
    content = document(node("n", MOVING + shown() + shown("h")), KEYS, geometry() + other)
    clip = bake(write(tmp_path, content), 2)
    assert clip.warnings == ("<geometry> 'h': <spline> is not supported: not shown",)


def test_attributes_have_indices_of_their_own(tmp_path: Path) -> None:
    """Positions, normals, two sets of UVs, and colors; the vertices at the same place differ."""
    extra = source("nn", [(0, 0, 1), (0, 1, 0)], 3) + source("c", [(1, 0.5, 0, 1), (0, 0, 1, 1)], 4)
    extra += source("u", [(0, 0), (1, 0.25), (0.5, 2)], 2) + source("w", [(9, 9)], 2)
    inputs = (
        VERTEX + '<input semantic="NORMAL" source="#nn" offset="1"/><input semantic="COLOR" source="#c" offset="2"/>'
    )
    inputs += '<input semantic="TEXCOORD" source="#u" offset="3" set="2"/>'
    inputs += '<input semantic="TEXCOORD" source="#w" offset="4" set="0"/>'
    rows = [(0, 0, 0, 0, 0), (1, 0, 0, 1, 0), (4, 0, 0, 2, 0), (0, 1, 1, 0, 0), (1, 1, 1, 2, 0), (4, 1, 1, 1, 0)]
    corners = " ".join(str(value) for row in rows for value in row)
    clip = bake(write(tmp_path, moving(GRID, f'<triangles count="2">{inputs}<p>{corners}</p></triangles>', extra)), 2)
    frame = clip.frames[0]
    np.testing.assert_allclose(frame.normals[frame.faces][:, 0], [(0, 0, 1), (0, 1, 0)], atol=1e-6)
    assert frame.topology.colors is not None
    # 0.5 in sRGB is 0.2140 in linear light.
    np.testing.assert_allclose(frame.topology.colors[:, 0], [(1, 0.21404, 0, 1), (0, 0, 1, 1)], atol=1e-4)
    assert len(frame.vertices) == 6


def test_corners_that_look_the_same_share_a_vertex(tmp_path: Path) -> None:
    """Exporters write normals and UVs once per corner."""
    extra = source("nn", [(0, 0, 1)] * 6, 3) + source("u", [(0, 0), (1, 0), (1, 1), (0, 0), (1, 1), (0, 1)], 2)
    inputs = VERTEX + '<input semantic="NORMAL" source="#nn" offset="1"/>'
    inputs += '<input semantic="TEXCOORD" source="#u" offset="1"/>'
    corners = " ".join(f"{point} {number}" for number, point in enumerate((0, 1, 5, 0, 5, 4)))
    clip = bake(write(tmp_path, moving(GRID, f'<triangles count="2">{inputs}<p>{corners}</p></triangles>', extra)), 2)
    assert len(clip.frames[0].vertices) == 4


def test_normals_that_are_no_directions_become_flat(tmp_path: Path) -> None:
    for normal in ((0, 0, 0), ("NaN", 0, 1)):
        inputs = VERTEX + '<input semantic="NORMAL" source="#nn" offset="0"/>'
        primitive = f'<triangles count="1">{inputs}<p>0 1 4</p></triangles>'
        clip = bake(write(tmp_path, moving(GRID, primitive, source("nn", [normal] * 5, 3))), 2)
        np.testing.assert_allclose(clip.frames[0].normals, [(0, 0, 1)] * 3, atol=1e-6)
        assert "normals have length 0, or are NaN or infinite: ignored" in clip.warnings[0]


def test_sources_with_offset_stride_and_unnamed_parameters(tmp_path: Path) -> None:
    packed = (
        '<source id="g-p"><float_array id="f" count="16">7 7 9 0 0 0 8 2 0 0 8 0 3 0 8 7</float_array>'
        '<technique_common><accessor source="#f" count="3" offset="2" stride="4"><param type="float"/>'
        '<param name="X" type="float"/><param name="Y" type="float"/><param name="Z" type="float"/></accessor>'
        "</technique_common></source>"
    )
    content = moving(GRID, f'<triangles count="1">{VERTEX}<p>0 1 2</p></triangles>')
    start, end = content.index('<source id="g-p">'), content.index("<vertices")
    clip = bake(write(tmp_path, content[:start] + packed + content[end:]), 2)
    points = np.array([(0, 0, 0), (2, 0, 0), (0, 3, 0)], float)
    assert_shows(clip, [points, points + [5, 0, 0]])


# --- documents ---

GOOD = document(node("n", MOVING + shown()), KEYS)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-8-sig", "iso-8859-1", "gb2312", "shift_jis"])
def test_encodings(tmp_path: Path, encoding: str) -> None:
    declared = {"utf-16-le": "utf-16", "utf-8-sig": "utf-8"}.get(encoding, encoding)
    content = GOOD.replace('encoding="utf-8"', f'encoding="{declared}"').replace(
        '"n"', '"日本"' if encoding != "iso-8859-1" else '"né"'
    )
    content = content.replace("n/t.X", "日本/t.X" if encoding != "iso-8859-1" else "né/t.X")
    mark = "\ufeff" if encoding == "utf-16-le" else ""
    clip = bake(write(tmp_path, (mark + content).encode(encoding)), 2)
    assert_shows(clip, [np.array(TETRA, float), np.array(TETRA) + [5.0, 0, 0]])


@pytest.mark.parametrize("namespace", ["", ' xmlns="http://www.collada.org/2008/03/COLLADASchema"', ' xmlns:c="c"'])
def test_namespaces(tmp_path: Path, namespace: str) -> None:
    content = GOOD.replace(' xmlns="http://www.collada.org/2005/11/COLLADASchema"', namespace)
    if ":c" in namespace:
        content = content.replace("<COLLADA", "<c:COLLADA").replace("</COLLADA", "</c:COLLADA")
    assert len(bake(write(tmp_path, content), 2).frames) == 2


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"<html></html>", ReasonCode.NOT_GLTF),
        (b"nothing", ReasonCode.NOT_GLTF),
        (b"\0\0\0\0", ReasonCode.NOT_GLTF),
        (b'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "b">]><COLLADA>&a;</COLLADA>', ReasonCode.NOT_GLTF),
        ('<!DOCTYPE x [<!ENTITY a "b">]><COLLADA>&a;</COLLADA>'.encode("utf-16"), ReasonCode.NOT_GLTF),
        (b'<?x <COLLADA ?><!DOCTYPE x [<!ENTITY a "b">]><COLLADA>&a;</COLLADA>', ReasonCode.NOT_GLTF),
        (b'<!-- <COLLADA --><!DOCTYPE x SYSTEM "file:///etc/passwd"><COLLADA>&a;</COLLADA>', ReasonCode.NOT_GLTF),
        (b"<COLLADA>&a;</COLLADA>", ReasonCode.CORRUPT_FILE),
        (b"<COLLADA><x", ReasonCode.CORRUPT_FILE),
        (b"<COLLADA>\xff</COLLADA>", ReasonCode.CORRUPT_FILE),
        (b'<?xml version="1.0" encoding="gb2312"?><COLLADA>\xff</COLLADA>', ReasonCode.CORRUPT_FILE),
        (b'<?xml version="1.0" encoding="no-such"?><COLLADA></COLLADA>', ReasonCode.CORRUPT_FILE),
        (b"<COLLADA></COLLADA>", ReasonCode.NO_MESH),
        (b"", ReasonCode.EMPTY_FILE),
    ],
)
def test_what_is_not_collada_is_refused(tmp_path: Path, data: bytes, code: ReasonCode) -> None:
    with pytest.raises(AssetError) as caught:
        bake(write(tmp_path, data), 2)
    assert caught.value.code is code


def test_a_truncated_file_is_corrupt(tmp_path: Path) -> None:
    for size in (len(GOOD) - 5, len(GOOD) // 2, len(GOOD) // 4):
        with pytest.raises(AssetError, match="truncated or corrupt") as caught:
            bake(write(tmp_path, GOOD[:size]), 2)
        assert caught.value.code is ReasonCode.CORRUPT_FILE


DAMAGES = [
    ('url="#g"', 'url="#gone"', ReasonCode.INVALID_SCENE_GRAPH, "refers to '#gone'"),
    ('url="#g"', 'url="other.dae#g"', ReasonCode.UNSUPPORTED_EXTENSION, "in another document"),
    ('url="#g"', 'url="../other.dae#g"', ReasonCode.URI_OUTSIDE_ASSET, "outside the asset's folder"),
    ('url="#g"', 'url="http://example.org/other.dae#g"', ReasonCode.URI_OUTSIDE_ASSET, "outside the asset's folder"),
    ('url="#scene"', 'url="#g"', ReasonCode.INVALID_SCENE_GRAPH, "not a <visual_scene>"),
    ('source="#g-p"', 'source="#g-v"', ReasonCode.INVALID_SCENE_GRAPH, "not a <source>"),
    ("<p>0 2 1", "<p>0 2 4", ReasonCode.INVALID_ACCESSOR, r"index 4 of POSITION is out of range \(there are 4\)"),
    ("<p>0 2 1", "<p>0 2 -1", ReasonCode.INVALID_ACCESSOR, "index -1"),
    ("<p>0 2 1", "<p>0 2 x", ReasonCode.CORRUPT_FILE, "a value that is not a number"),
    ("<p>0 2 1", "<p>0 2 1e300", ReasonCode.CORRUPT_FILE, "not indices"),
    ("<p>0 2 1 ", "<p>", ReasonCode.INVALID_ACCESSOR, "4 triangles are declared, but there are indices for 3"),
    ('count="4" stride="3"', 'count="5" stride="3"', ReasonCode.INVALID_ACCESSOR, "needs 15 numbers"),
    ('count="4" stride="3"', 'count="99999999999" stride="3"', ReasonCode.INVALID_ACCESSOR, "but the array has 12"),
    ('count="4" stride="3"', 'count="4" stride="2"', ReasonCode.INVALID_ACCESSOR, "POSITION needs 3 numbers"),
    (">0 0 0 2 0", ">0 0 0 NaN 0", ReasonCode.NON_FINITE_GEOMETRY, "a position is NaN"),
    (">0 0 0 2 0", ">0 0 0 1.#QNAN 0", ReasonCode.NON_FINITE_GEOMETRY, "a position is NaN"),
    (">0 0 0</translate>", ">0 0</translate>", ReasonCode.CORRUPT_FILE, "must contain 3 numbers, found 2"),
    (">0 0 0</translate>", ">0 0 INF</translate>", ReasonCode.NON_FINITE_GEOMETRY, "NaN or infinity"),
    ("<translate sid", "<skew>90 1 0 0 0 1 0</skew><translate sid", ReasonCode.NON_FINITE_GEOMETRY, "not a valid"),
    ("<translate sid", "<lookat>1 1 1 1 1 1 0 1 0</lookat><translate sid", ReasonCode.NON_FINITE_GEOMETRY, "<lookat>"),
    ('source="#antX-s"', 'source="#gone"', ReasonCode.INVALID_SCENE_GRAPH, "refers to '#gone'"),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "code", "problem"), DAMAGES)
def test_damaged_documents(tmp_path: Path, old: str, new: str, code: ReasonCode, problem: str) -> None:
    assert old in GOOD
    with pytest.raises(AssetError, match=problem) as caught:
        bake(write(tmp_path, GOOD.replace(old, new, 1)), 2)
    assert caught.value.code is code


def test_counts_that_overflow_are_refused(tmp_path: Path) -> None:
    text = f'<polylist count="3">{VERTEX}<vcount>{" 9e15" * 2000}</vcount><p>0 1 5 4 1 2 5</p></polylist>'
    with pytest.raises(AssetError, match="more corners than there are indices") as caught:
        bake(write(tmp_path, moving(GRID, text)), 2)
    assert caught.value.code is ReasonCode.INVALID_ACCESSOR


def test_many_warnings_are_cut(tmp_path: Path) -> None:
    lost = "".join(animation(f"gone{k}/t.X", [0, 1], [0, 1]) for k in range(150))
    warnings = bake(write(tmp_path, document(node("n", MOVING + shown()), KEYS + lost)), 2).warnings
    assert len(warnings) == 101
    assert warnings[-1] == "further warnings are omitted"


def test_elements_that_are_nested_very_deep_are_harmless(tmp_path: Path) -> None:
    depth = 200_000
    content = document(node("n", MOVING + shown() + "<extra>" * depth + "</extra>" * depth), KEYS)
    assert len(bake(write(tmp_path, content), 2).frames) == 2


def test_decimal_commas_are_read_with_a_warning(tmp_path: Path) -> None:
    content = GOOD.replace(">0 0 0</translate>", ">0 1,5 -2,25e1</translate>")
    clip = bake(write(tmp_path, content), 2)
    assert_shows(clip, [np.array(TETRA) + [x, 1.5, -22.5] for x in (0, 5)])
    assert clip.warnings == ("numbers have decimal commas, which COLLADA does not allow: read as decimal points",)
    with pytest.raises(AssetError, match="a value that is not a number"):
        bake(write(tmp_path, GOOD.replace(">0 0 0</translate>", ">0,0,0</translate>")), 2)


def test_urls_of_the_document_itself_and_without_a_mark(tmp_path: Path) -> None:
    for url in ("a.dae#g", "./a.dae#g", "file:///C:/work/a.dae#g", "g"):
        assert len(bake(write(tmp_path, GOOD.replace('url="#g"', f'url="{url}"')), 2).frames) == 2


def test_nodes_that_contain_themselves_are_refused(tmp_path: Path) -> None:
    libraries = "<library_nodes>" + node("a", '<instance_node url="#b"/>') + node("b", '<instance_node url="#a"/>')
    content = document(
        node("n", MOVING + shown() + '<instance_node url="#a"/>'), KEYS, libraries=libraries + "</library_nodes>"
    )
    with pytest.raises(AssetError, match="contains an instance of itself") as caught:
        validate(write(tmp_path, content))
        bake(tmp_path / "a.dae", 2)
    assert caught.value.code is ReasonCode.INVALID_SCENE_GRAPH


def test_limits(tmp_path: Path) -> None:
    """Instances that double twenty times, deep nesting, and everything else that grows."""
    doubling = "".join(node(f"d{k}", 2 * f'<instance_node url="#d{k + 1}"/>') for k in range(20)) + node("d20", shown())
    nested = "<node>" * 2500 + shown() + "</node>" * 2500
    huge = document(
        node("n", MOVING + '<instance_node url="#d0"/>'), KEYS, libraries=f"<library_nodes>{doubling}</library_nodes>"
    )
    cases: list[tuple[str, Limits]] = [
        (huge, DEFAULT_LIMITS),
        (GOOD, replace(DEFAULT_LIMITS, json_bytes=100)),
        (GOOD, replace(DEFAULT_LIMITS, triangles=3)),
        (GOOD, replace(DEFAULT_LIMITS, vertices=3)),
        (GOOD, replace(DEFAULT_LIMITS, primitives=0)),
        (GOOD, replace(DEFAULT_LIMITS, frame_vertices=10)),
        (GOOD, replace(DEFAULT_LIMITS, nodes=1)),
        (GOOD, replace(DEFAULT_LIMITS, animations=0)),
    ]
    for content, limits in cases:
        with pytest.raises(AssetError, match="limit") as caught:
            bake(write(tmp_path, content), 2, limits=limits)
        assert caught.value.code is ReasonCode.OUT_OF_MEMORY
    with pytest.raises(AssetError, match="nested deeper than the limit") as caught:
        bake(write(tmp_path, document(nested, KEYS)), 2)
    assert caught.value.code is ReasonCode.INVALID_SCENE_GRAPH


def test_a_deep_hierarchy_is_read(tmp_path: Path) -> None:
    content = document("<node>" * 900 + node("n", MOVING + shown()) + "</node>" * 900, KEYS)
    assert_shows(bake(write(tmp_path, content), 2), [placed(np.eye(4)), placed(np.eye(4)) + [5, 0, 0]])


def test_a_static_document_has_no_animation(tmp_path: Path) -> None:
    path = write(tmp_path, document(node("n", shown())))
    assert list_clips(path) == []
    with pytest.raises(AssetError) as caught:
        bake(path)
    assert caught.value.code is ReasonCode.NO_ANIMATION


def test_facts_about_the_document(tmp_path: Path) -> None:
    asset = "<contributor><author>A. Person</author><authoring_tool>Tool 1</authoring_tool></contributor>"
    asset += "<title>Thing</title><created>2020-01-01T00:00:00</created>"
    clip = bake(write(tmp_path, document(node("n", MOVING + shown()), KEYS, asset=asset)), 2)
    assert clip.extras == {"generator": "Tool 1", "author": "A. Person", "title": "Thing"}

"""Damaged documents are baked, or refused by an `AssetError`; nothing else is raised."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from helix4d.assets import bake_clips
from helix4d.assets.limits import DEFAULT_LIMITS
from helix4d.core import AssetError
from helix4d.core.rng import generator
from tests.assets.collada.documents import animation, document, effect, node, write
from tests.assets.collada.test_deformers import (
    COUNTS,
    KEYS,
    MOVED,
    PAIRS,
    SHAPES,
    SKELETON,
    STORED,
    library,
    morph,
    skin,
)
from tests.assets.collada.test_materials import SAMPLER, TEXTURED, images
from tests.assets.collada.test_motion import CLIPS
from tests.assets.collada.test_shapes import GRID, PRIMITIVES, VERTEX

MUTANTS = 60
_NUMBERS = ("NaN", "INF", "-1", "0", "1e400", "1e38", "1e-320", "2147483648", "9223372036854775808", "x", "")
_NUMBER = re.compile(r"(?<=[ >\"])-?\d+(?:\.\d+)?(?=[ <\"])")
_VALUE = re.compile(r'(?<==")[^"]*(?=")')
_NAME = re.compile(r'(?<=id=")[^"]*(?=")')
_ELEMENT = re.compile(r"<(\w+)(?: [^>]*)?(?:/>|>[^<]*</\1>)")
_BLOCK = re.compile(r"<(source|sampler|animation|controller|node|mesh|technique|effect)\b.*?</\1>")


def everything() -> str:
    """Return a document with a bit of everything."""
    shapes = SHAPES
    for number, (text, _, _) in enumerate(PRIMITIVES.values()):
        points = f'<vertices id="g-v"><input semantic="POSITION" source="#g{number}-p"/></vertices>'
        values = " ".join(str(value) for point in GRID for value in point)
        array = f'<float_array id="g{number}-a" count="48">{values}</float_array><technique_common>'
        array += (
            f'<accessor source="#g{number}-a" count="16" stride="3"><param name="X"/><param name="Y"/><param name="Z"/>'
        )
        mesh = f'<source id="g{number}-p">{array}</accessor></technique_common></source>{points}'
        mesh += text.format(VERTEX, VERTEX)
        shapes += f'<geometry id="g{number}"><mesh>{mesh.replace("g-v", f"g{number}-v")}</mesh></geometry>'
    stack = '<lookat sid="l">0 0 0 0 0 -1 0 1 0</lookat><skew sid="k">10 0 1 0 1 0 0</skew>'
    stack += '<matrix sid="m">1 0 0 0 0 1 0 0 0 0 1 0 0 0 0 1</matrix>'
    shown = "".join(f'<instance_geometry url="#g{number}"/>' for number in range(len(PRIMITIVES)))
    nodes = SKELETON + MOVED + node("n", stack + shown + '<instance_controller url="#morph"/>')
    nodes += node("i", '<instance_node url="#n"/>')
    keys = (
        KEYS + animation("n/m", [0, 1], [np.eye(4), np.eye(4)], name="x") + animation("mw(0)", [0, 1], [0, 1], name="y")
    )
    keys += animation("n/l.PX", [0, 3], [0, 9], "BEZIER", tangents=([[-1, 0], [1, 6]], [[0, 6], [4, 9]]))
    libraries = library(skin(COUNTS, PAIRS, STORED), morph("NORMALIZED")) + CLIPS
    libraries += images() + effect(TEXTURED.replace("<lambert>", '<lambert><transparent opaque="RGB_ZERO">'
        '<color>0 0 0 1</color></transparent>'), SAMPLER.format("<wrap_s>CLAMP</wrap_s>"))  # fmt: skip
    return document(nodes, keys, shapes, libraries)


def mutated(text: str, number: int) -> str:
    random = generator(18, "collada mutant", number)

    def pick(pattern: re.Pattern[str]) -> re.Match[str] | None:
        found = list(pattern.finditer(text))
        return found[int(random.integers(len(found)))] if found else None

    for _ in range(int(random.integers(1, 4))):
        kind = int(random.integers(7))
        match = pick((_NUMBER, _VALUE, _VALUE, _ELEMENT, _ELEMENT, _BLOCK, _BLOCK)[kind])
        if match is None:
            continue
        new = ""
        if kind == 0:
            new = _NUMBERS[int(random.integers(len(_NUMBERS)))]
        elif kind == 1:  # a reference to something else, or a name that is not unique
            other = pick(_NAME)
            new = ("#" if match[0].startswith("#") else "") + (other[0] if other else "")
        elif kind in (4, 6):
            new = match[0] * 2
        text = text[: match.start()] + new + text[match.end() :]
    return text


def test_the_document_is_valid(tmp_path: Path) -> None:
    clips = bake_clips(write(tmp_path, everything()), 2)
    assert len(clips) == 3
    assert len(clips[0].frames[0].faces) > 60


@pytest.mark.parametrize("start", range(0, MUTANTS, 30))
def test_damaged_documents_raise_nothing_else(tmp_path: Path, start: int) -> None:
    text, ends = everything(), {"done": 0, "refused": 0}
    for number in range(start, start + 30):
        try:
            for clip in bake_clips(write(tmp_path, mutated(text, number)), 2, limits=DEFAULT_LIMITS):
                assert all(np.isfinite(frame.vertices[frame.faces]).all() for frame in clip.frames)
            ends["done"] += 1
        except AssetError:
            ends["refused"] += 1
    assert min(ends.values()) > 2

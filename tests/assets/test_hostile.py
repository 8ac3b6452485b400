"""Each hostile file ends with the outcome that the index records."""

from __future__ import annotations

import csv
from functools import cache
from pathlib import Path

import pytest

from helix4d.assets import bake, check_clip, content_hash, normalize, validate
from helix4d.core import AssetError
from tests.conftest import ASSETS, NO_ASSETS, files

_HOSTILE = [path for path in files(ASSETS / "hostile", "*") if path.is_file()]
pytestmark = pytest.mark.skipif(not _HOSTILE, reason=NO_ASSETS)


@cache
def _index() -> dict[str, dict[str, str]]:
    with open(ASSETS / "INDEX.tsv", newline="") as stream:
        return {row["file"]: row for row in csv.DictReader(stream, delimiter="\t")}


def _verdict(path: Path) -> str:
    try:
        validate(path)
        clip = bake(path)
        check_clip(clip)
        normalize(clip)
    except AssetError as error:
        return f"reject:{error.code}"
    return "accept"


@pytest.mark.parametrize("path", _HOSTILE, ids=lambda path: path.name)
def test_the_verdict_is_the_expected_one(path: Path) -> None:
    row = _index().get(f"hostile/{path.name}")
    if row is None:
        pytest.skip("not in the index")
    allowed = {verdict.strip() for verdict in row["expected"].split(" or ")}
    assert _verdict(path) in allowed


@pytest.mark.parametrize("path", _HOSTILE, ids=lambda path: path.name)
def test_every_file_has_a_hash(path: Path) -> None:
    row = _index().get(f"hostile/{path.name}")
    assert row is None or content_hash(path)[:16] == row["sha256_16"]

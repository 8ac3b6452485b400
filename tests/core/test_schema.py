from __future__ import annotations

from typing import Any

import pytest

from helix4d import __version__
from helix4d.core import FormatError, NewerError, Schema

SCHEMA = Schema("shard sidecar", version=3, oldest=2, rewrite="curate again")


@pytest.mark.parametrize("version", [2, 3])
def test_supported_versions_are_accepted(version: int) -> None:
    assert SCHEMA.check({"version": version}, "x.json") == version


def test_a_newer_version_is_refused_with_what_was_found_what_is_read_and_what_to_do() -> None:
    with pytest.raises(NewerError) as refused:
        SCHEMA.check({"version": 4}, "x.json")
    assert str(refused.value) == (
        f"x.json: shard sidecar version 4, but helix4d {__version__} reads 2 to 3: "
        "it was written by a newer helix4d; to read it, upgrade helix4d"
    )


def test_an_older_version_is_refused_with_what_to_do() -> None:
    with pytest.raises(FormatError, match=r"version 1, .* reads 2 to 3: .* older helix4d; to read it, curate again"):
        SCHEMA.check({"version": 1}, "x.json")


def test_a_file_without_a_version_is_version_0() -> None:
    with pytest.raises(FormatError, match="version 0"):
        SCHEMA.check({}, "x.json")
    assert Schema("plan", version=1, oldest=0, rewrite="").check({}, "plan.json") == 0


@pytest.mark.parametrize("version", ["3", 3.0, True, None, -1])
def test_a_version_must_be_a_whole_number(version: Any) -> None:
    with pytest.raises(FormatError, match="version must be a whole number"):
        SCHEMA.check({"version": version}, "x.json")


def test_json_that_is_not_an_object_is_refused() -> None:
    with pytest.raises(FormatError, match="expected a JSON object, found list"):
        SCHEMA.check([1], "x.json")

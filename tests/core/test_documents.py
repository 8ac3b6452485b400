"""JSON of unknown origin is parsed strictly."""

from __future__ import annotations

import pytest

from helix4d.core import FormatError, NewerError, Schema
from helix4d.core.documents import parse_document, parse_json

SCHEMA = Schema("plan", version=2, oldest=1, rewrite="write it again")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"{", "truncated or corrupt"),
        (b"\xff\xfe{}", "truncated or corrupt"),
        ("[" * 100_000, "nested too deeply"),
        ('{"a":' * 100_000, "nested too deeply"),
        ('{"version": 2, "a": NaN}', "NaN is not a JSON number"),
        ('{"version": 2, "a": -Infinity}', "-Infinity is not a JSON number"),
        ('{"version": 2, "a": 1e999}', "1e999 exceeds the range"),
        ("9" * 5000, "truncated or corrupt"),
    ],
)
def test_damaged_documents_are_format_errors(data: str | bytes, reason: str) -> None:
    with pytest.raises(FormatError, match=reason) as caught:
        parse_document(data, SCHEMA, "plan.json")
    assert str(caught.value).startswith("plan.json: not valid JSON")
    assert len(str(caught.value)) < 400


def test_values_are_those_of_json() -> None:
    assert parse_json('{"a": [1, 2.5, "x", null, true]}', "x", "file") == {"a": [1, 2.5, "x", None, True]}
    assert parse_document(b'{"version": 1}', SCHEMA, "plan.json") == {"version": 1}


def test_the_version_is_checked() -> None:
    with pytest.raises(NewerError):
        parse_document(b'{"version": 3}', SCHEMA, "plan.json")
    with pytest.raises(FormatError, match="expected a JSON object"):
        parse_document(b"[]", SCHEMA, "plan.json")

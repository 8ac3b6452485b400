from __future__ import annotations

from helix4d.core import differences


def test_equal_settings_have_no_differences() -> None:
    assert differences({"a": {"b": [1, 2]}}, {"a": {"b": (1, 2)}}) == []


def test_each_differing_value_is_named() -> None:
    then = {"generator": {"steps": 2, "size": 64}, "matting": "color", "old": 1}
    now = {"generator": {"steps": 3, "size": 64}, "matting": {"name": "u2net"}}
    assert differences(then, now) == [
        "generator.steps was 2, is 3",
        "matting was 'color', is {'name': 'u2net'}",
        "old was 1, is None",
    ]

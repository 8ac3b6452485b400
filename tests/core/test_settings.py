from __future__ import annotations

import re
import time
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

import pytest

from helix4d.core import ConfigError
from helix4d.core.settings import read_settings, read_values
from helix4d.core.typed import build


class Color(StrEnum):
    RED = "red"
    BLUE = "blue"


@dataclass(frozen=True)
class Part:
    width: float
    color: Color = Color.RED


@dataclass(frozen=True)
class Whole:
    name: str
    part: Part
    parts: dict[str, Part] = field(default_factory=dict)
    many: tuple[Part, ...] = ()
    pair: tuple[int, float] = (1, 2.0)
    note: str | None = None
    free: dict[str, Any] | None = None


VALUES = {"name": "a", "part": {"width": "2e-5"}}


def test_nested_values_are_converted() -> None:
    whole = build(
        Whole,
        VALUES | {"parts": {"x": {"width": 1, "color": "blue"}}, "many": [{"width": 3}], "pair": [4, 5], "note": None},
        "test",
    )
    assert whole == Whole("a", Part(2e-5), {"x": Part(1.0, Color.BLUE)}, (Part(3.0),), (4, 5.0))
    assert isinstance(whole.many[0].width, float)
    assert build(Whole, VALUES | {"free": {"any": [1, "b"]}}, "test").free == {"any": [1, "b"]}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"nam": 1, "zzz": 2}, r"^test: unknown settings \['nam', 'zzz'\]; known settings are \['free', 'many', "),
        ({"part": {}}, r"^test: part: missing settings \['width'\]$"),
        ({"part": 3}, r"^test: part: expected a mapping, found 3$"),
        ({"parts": {"x": {"width": "wide"}}}, r"^test: parts\.x: width: expected float, found 'wide'$"),
        ({"parts": [1]}, r"^test: parts: expected a mapping, found \[1\]$"),
        ({"many": [{"width": 1}, {"width": True}]}, r"^test: many\[1\]: width: expected float, found True$"),
        ({"many": "x"}, r"^test: many: expected a list, found 'x'$"),
        ({"pair": [1]}, r"^test: pair: expected 2 values, found 1$"),
        ({"pair": [True, 1]}, r"^test: pair\[0\]: expected int, found True$"),
        ({"note": 3}, r"^test: note: expected str, found 3$"),
        ({"part": {"width": 1, "color": "green"}}, r"^test: part: color: 'green' is not one of \['red', 'blue'\]$"),
    ],
)
def test_every_wrong_key_is_named(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build(Whole, VALUES | change, "test")


def test_missing_keys_are_listed_together() -> None:
    with pytest.raises(ConfigError, match=r"^test: missing settings \['name', 'part'\]$"):
        build(Whole, {}, "test")


def test_files_inherit_and_changes_come_last(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text("name: base\npart: {width: 1, color: blue}\n")
    (tmp_path / "sub").mkdir()
    child = tmp_path / "sub" / "child.yaml"
    child.write_text("inherits: ../base.yaml\nname: child\npart: {width: 2}\n")
    assert read_settings(Whole, child) == Whole("child", Part(2.0, Color.BLUE))
    assert read_settings(Whole, child, ["part.width=3e2", "note=x y"]) == Whole(
        "child", Part(300.0, Color.BLUE), note="x y"
    )


def test_files_that_hold_no_settings_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    with pytest.raises(ConfigError, match=r"a\.yaml: cannot be read .*No such file"):
        read_settings(Whole, path)
    for content, message in ((b"[1]", "expected a mapping of settings, found list"), (b"\xff", "cannot be read")):
        path.write_bytes(content)
        with pytest.raises(ConfigError, match=message):
            read_settings(Whole, path)


def _laughs(levels: int) -> str:
    """Return lists of ten aliases to the previous list: 10 to the power of `levels` values."""
    lines = ["x0: &x0 [a, a, a, a, a, a, a, a, a, a]"]
    lines += [f"x{n}: &x{n} [{', '.join([f'*x{n - 1}'] * 10)}]" for n in range(1, levels)]
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (_laughs(9), "expands to more than 100,000 values: use fewer aliases"),
        (
            "b: &b {x: 1}\n" + "\n".join(f"c{n}: &c{n} {{<<: [{', '.join(['*b'] * 99)}]}}" for n in range(999)),
            "100,000",
        ),
        ("a: &a [1, *a]", "an alias refers to the list or mapping that contains it"),
        ("a: " + "[" * 200 + "]" * 200, "nested more than 100 levels deep"),
        ("a: " + "[" * 50_000, "nested more than 100 levels deep"),
        ("a: 2001-13-41", "month must be in 1..12"),
        ("inherits: [a.yaml]", "inherits: expected the name of a file, found"),
    ],
)
def test_hostile_yaml_is_refused_quickly(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(text)
    begun = time.process_time()
    with pytest.raises(ConfigError, match=re.escape(message)):
        read_values(tmp_path / "a.yaml")
    assert time.process_time() - begun < 20, "CPU seconds"


def test_hostile_overrides_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("name: a\npart: {width: 1}")
    for change in ("name=&a [*a]", "name=2001-13-41", f"name={'[' * 5000}"):
        with pytest.raises(ConfigError, match="the value is not YAML"):
            read_settings(Whole, tmp_path / "a.yaml", [change])


def test_aliases_and_merge_keys_still_work(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("name: a\npart: &p {width: 1, color: blue}\nparts: {x: *p, y: {<<: *p, width: 2}}")
    whole = read_settings(Whole, tmp_path / "a.yaml")
    assert whole.parts == {"x": Part(1.0, Color.BLUE), "y": Part(2.0, Color.BLUE)}
    (tmp_path / "b.yaml").write_text(_laughs(4))
    assert len(read_values(tmp_path / "b.yaml")["x3"]) == 10

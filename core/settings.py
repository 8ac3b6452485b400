"""YAML files become dataclasses, see `typed.py`.

A file may inherit from another: `inherits: OTHER.yaml` (relative to the file) is read first and overridden key by key.
Single values are changed by `key.key=value`, as given to `--set`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from helix4d.core.errors import ConfigError
from helix4d.core.typed import build
from helix4d.core.yaml_values import parse_yaml

_Settings = TypeVar("_Settings")


def read_settings(kind: type[_Settings], path: Path, changes: Sequence[str] = ()) -> _Settings:
    """Read a dataclass from a YAML file.

    Args:
        kind: the dataclass.
        path: the YAML file.
        changes: overrides such as `optimizer.lr=1e-4`, whose values are YAML.

    Raises:
        ConfigError: if a key is unknown, missing or ill-typed, or the dataclass rejects a value.
    """
    values = read_values(path)
    for change in changes:
        values = _merge(values, _parse_change(change))
    return build(kind, values, str(path))


def read_values(path: Path) -> dict[str, Any]:
    """Return the mapping in a YAML file, merged over the files that it inherits from.

    Raises:
        ConfigError: if a file cannot be read, holds no mapping, or inherits from itself.
    """
    return _read(path.resolve(), ())


def _read(path: Path, children: tuple[Path, ...]) -> dict[str, Any]:
    if path in children:
        raise ConfigError(f"{path}: inherits from itself")
    try:
        values = parse_yaml(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: cannot be read ({' '.join(str(error).split())})") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: expected a mapping of settings, found {type(values).__name__}")
    parent = values.pop("inherits", None)
    if parent is not None and not isinstance(parent, str):
        raise ConfigError(f"{path}: inherits: expected the name of a file, found {parent!r}")
    return values if parent is None else _merge(_read((path.parent / parent).resolve(), (*children, path)), values)


def _parse_change(change: str) -> dict[str, Any]:
    """`a.b=1` as {"a": {"b": 1}}."""
    name, equals, text = change.partition("=")
    if not equals:
        raise ConfigError(f"{change!r}: expected key=value, such as optimizer.lr=1e-4")
    try:
        value = parse_yaml(text)
    except ValueError as error:
        raise ConfigError(f"{change!r}: the value is not YAML ({error})") from error
    for key in reversed(name.split(".")):
        value = {key: value}
    return dict(value)


def _merge(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for name, value in changes.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(name), Mapping)
        merged[name] = _merge(merged[name], value) if both else value
    return merged

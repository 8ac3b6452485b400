"""YAML files become dataclasses, strictly: every unknown, missing or ill-typed key is an error that names it.

A file may inherit from another: `inherits: OTHER.yaml` (relative to the file) is read first and overridden key by key.
Single values are changed by `key.key=value`, as given to `--set`.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar

import yaml

from helix4d.core.errors import ConfigError

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


def build(kind: type[_Settings], values: Mapping[str, Any], where: str) -> _Settings:
    """Build a dataclass from a mapping; nested dataclasses, enums, tuples, dicts and optional values are converted.

    Args:
        kind: the dataclass.
        values: its fields by name.
        where: origin of the values, which opens every message.

    Raises:
        ConfigError: if a key is unknown, missing or ill-typed, or the dataclass rejects a value.
    """
    hints = typing.get_type_hints(kind)
    fields = {field.name: field for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    if unknown := sorted(map(str, values.keys() - fields.keys())):
        raise ConfigError(f"{where}: unknown settings {unknown}; known settings are {sorted(fields)}")
    required = {name for name, field in fields.items() if _is_required(field)}
    if missing := sorted(required - values.keys()):
        raise ConfigError(f"{where}: missing settings {missing}")
    converted = {name: _convert(hints[name], value, f"{where}: {name}") for name, value in values.items()}
    try:
        return kind(**converted)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error


def _read(path: Path, children: tuple[Path, ...]) -> dict[str, Any]:
    if path in children:
        raise ConfigError(f"{path}: inherits from itself")
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: cannot be read ({' '.join(str(error).split())})") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: expected a mapping of settings, found {type(values).__name__}")
    parent = values.pop("inherits", None)
    return values if parent is None else _merge(_read((path.parent / parent).resolve(), (*children, path)), values)


def _parse_change(change: str) -> dict[str, Any]:
    """`a.b=1` as {"a": {"b": 1}}."""
    name, equals, text = change.partition("=")
    if not equals:
        raise ConfigError(f"{change!r}: expected key=value, such as optimizer.lr=1e-4")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{change!r}: the value is not YAML ({' '.join(str(error).split())})") from error
    for key in reversed(name.split(".")):
        value = {key: value}
    return dict(value)


def _is_required(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _convert(kind: Any, value: Any, where: str) -> Any:
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        if value is None and type(None) in inner:
            return None
        return _convert(next(k for k in inner if k is not type(None)), value, where)
    if dataclasses.is_dataclass(kind):
        return build(kind, _mapping(value, where), where)  # type: ignore[arg-type]
    if origin is dict:
        entries = _mapping(value, where)
        return {str(name): _convert(inner[1], entry, f"{where}.{name}") for name, entry in entries.items()}
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise ConfigError(f"{where}: expected a list, found {value!r}")
        if inner[-1] is not Ellipsis and len(value) != len(inner):
            raise ConfigError(f"{where}: expected {len(inner)} values, found {len(value)}")
        kinds = inner[:1] * len(value) if inner[-1] is Ellipsis else inner
        return tuple(_convert(k, v, f"{where}[{i}]") for i, (k, v) in enumerate(zip(kinds, value, strict=True)))
    return value if kind is Any else _scalar(kind, value, where)


def _scalar(kind: Any, value: Any, where: str) -> Any:
    if issubclass(kind, StrEnum):
        try:
            return kind(value)
        except ValueError as error:
            raise ConfigError(f"{where}: {value!r} is not one of {[str(k) for k in kind]}") from error
    if kind is float and not isinstance(value, bool):
        try:
            return float(value)  # also of text: YAML 1.1 takes 2e-5 for a string, only 2.0e-5 for a number
        except (TypeError, ValueError):
            pass
    elif isinstance(value, kind) and not (kind is int and isinstance(value, bool)):
        return value
    raise ConfigError(f"{where}: expected {kind.__name__}, found {value!r}")


def _mapping(value: Any, where: str) -> Mapping[Any, Any]:
    if not isinstance(value, Mapping):
        raise ConfigError(f"{where}: expected a mapping, found {value!r}")
    return value


def _merge(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for name, value in changes.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(name), Mapping)
        merged[name] = _merge(merged[name], value) if both else value
    return merged

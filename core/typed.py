"""Untyped values become dataclasses, strictly: every unknown, missing or ill-typed key is an error that names it."""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Mapping
from enum import StrEnum
from functools import cache
from typing import Any, TypeVar

from helix4d.core.errors import ConfigError

_Kind = TypeVar("_Kind")


def build(kind: type[_Kind], values: Mapping[str, Any], where: str) -> _Kind:
    """Build a dataclass from a mapping; nested dataclasses, enums, tuples, dicts and optional values are converted.

    Args:
        kind: the dataclass.
        values: its fields by name.
        where: origin of the values, which opens every message.

    Raises:
        ConfigError: if a key is unknown, missing or ill-typed, or the dataclass rejects a value.
    """
    hints, fields = _fields(kind)  # type: ignore[arg-type]
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


@cache
def _fields(kind: Any) -> tuple[dict[str, Any], dict[str, dataclasses.Field[Any]]]:
    """Return types and fields by name."""
    return typing.get_type_hints(kind), {field.name: field for field in dataclasses.fields(kind)}


def _is_required(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _convert(kind: Any, value: Any, where: str) -> Any:
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        if value is None and type(None) in inner:
            return None
        options = [k for k in inner if k is not type(None)]
        return _convert(str if str in options and isinstance(value, str) else options[0], value, where)
    if dataclasses.is_dataclass(kind):
        return build(kind, _mapping(value, where), where)  # type: ignore[arg-type]
    if origin in (dict, Mapping):
        entries = _mapping(value, where)
        return {str(name): _convert(inner[1], entry, f"{where}.{name}") for name, entry in entries.items()}
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise ConfigError(f"{where}: expected a list, found {_short(value)}")
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
            raise ConfigError(f"{where}: {_short(value)} is not one of {[str(k) for k in kind]}") from error
    if kind is float and not isinstance(value, bool):
        try:
            number = float(value)  # also of text: YAML 1.1 takes 2e-5 for a string, only 2.0e-5 for a number
            if math.isfinite(number) or not isinstance(value, str):
                return number
        except (TypeError, ValueError, OverflowError):
            pass
    elif isinstance(value, kind) and not (kind is int and isinstance(value, bool)):
        return value
    raise ConfigError(f"{where}: expected {kind.__name__}, found {_short(value)}")


def _mapping(value: Any, where: str) -> Mapping[Any, Any]:
    if not isinstance(value, Mapping):
        raise ConfigError(f"{where}: expected a mapping, found {_short(value)}")
    return value


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:197]}..."

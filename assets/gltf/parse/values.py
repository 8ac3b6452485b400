"""Typed access to untrusted JSON: a value of the wrong type raises an `AssetError` that says where it is.

The rest of this package does not index raw JSON, so a malformed file cannot cause a `KeyError` or `TypeError`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn, TypeAlias

from helix4d.core import AssetError, ReasonCode

Json: TypeAlias = "dict[str, Json] | list[Json] | str | int | float | bool | None"
"""A parsed JSON value."""

_LARGEST_INTEGER = 2**53  # most writers store JSON numbers as doubles


@dataclass(frozen=True)
class JsonObject:
    """One JSON object of the file.

    Attributes:
        values: parsed object.
        where: location in the file, for messages, such as `meshes[3].primitives[0]`; "" for the top level.
        path: path of the file.
        code: reason code for errors in this object.
    """

    values: dict[str, Json]
    where: str
    path: Path
    code: ReasonCode = ReasonCode.INVALID_GLTF

    def fail(self, message: str, code: ReasonCode | None = None) -> NoReturn:
        """Raise an `AssetError` that locates this object."""
        raise AssetError(code or self.code, f"{self.where}: {message}" if self.where else message, self.path)

    def has(self, key: str) -> bool:
        """Return whether the key is present and not null."""
        return self.values.get(key) is not None

    def integer(self, key: str, default: int | None = None, minimum: int = 0) -> int:
        """Return a whole number of at least `minimum`; 5.0 is accepted as 5, true is not accepted as 1."""
        value = self._get(key, default)
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool) or abs(value) > _LARGEST_INTEGER:
            self.fail(f"{key} must be a whole number, found {_short(value)}")
        if value < minimum:
            self.fail(f"{key} must be at least {minimum}, found {value}")
        return value

    def index(self, key: str, size: int, code: ReasonCode | None = None) -> int:
        """Return a reference to an element of another array: a whole number in [0, size)."""
        value = self.integer(key)
        if value >= size:
            self.fail(f"{key} {value} does not exist ({_valid_indices(size)})", code)
        return value

    def optional_index(self, key: str, size: int) -> int | None:
        """Return `index(key, size)`, or None if the key is absent."""
        return self.index(key, size) if self.has(key) else None

    def number(self, key: str, default: float | None = None) -> float:
        """Return a finite number."""
        return self._number(key, self._get(key, default))

    def numbers(self, key: str, length: int | None = None) -> tuple[float, ...] | None:
        """Return finite numbers, exactly `length` if given; None if the key is absent."""
        if not self.has(key):
            return None
        values = tuple(self._number(f"{key}[{n}]", value) for n, value in enumerate(self._list(key)))
        if length is not None and len(values) != length:
            self.fail(f"{key} must contain {length} numbers, found {len(values)}")
        return values

    def indices(self, key: str, size: int, code: ReasonCode | None = None) -> tuple[int, ...]:
        """Return references to elements of another array of `size` elements; () if the key is absent."""
        if not self.has(key):
            return ()
        indices = []
        for value in self._list(key):
            if not isinstance(value, int) or isinstance(value, bool):
                self.fail(f"{key} must contain whole numbers, found {_short(value)}")
            if not 0 <= value < size:
                self.fail(f"{key} contains {_short(value)}, which does not exist ({_valid_indices(size)})", code)
            indices.append(value)
        return tuple(indices)

    def text(self, key: str, default: str | None = None) -> str:
        """Return a string; lone surrogates, which JSON allows but UTF-8 cannot encode, are replaced."""
        value = self._get(key, default)
        if not isinstance(value, str):
            self.fail(f"{key} must be a string, found {_short(value)}")
        return clean_text(value)

    def choice(self, key: str, choices: Iterable[str], default: str | None = None) -> str:
        """Return a string that is one of `choices`."""
        value = self.text(key, default)
        if value not in choices:
            self.fail(f"{key} must be {alternatives(choices)}, found {_short(value)}")
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        """Return strings; () if the key is absent."""
        if not self.has(key):
            return ()
        texts = []
        for value in self._list(key):
            if not isinstance(value, str):
                self.fail(f"{key} must contain strings, found {_short(value)}")
            texts.append(clean_text(value))
        return tuple(texts)

    def boolean(self, key: str, default: bool = False) -> bool:
        """Return true or false."""
        value = self._get(key, default)
        if not isinstance(value, bool):
            self.fail(f"{key} must be true or false, found {_short(value)}")
        return value

    def child(self, key: str, code: ReasonCode | None = None) -> JsonObject:
        """Return the object under the key; an empty one if the key is absent."""
        value = self.values.get(key)
        return self._wrap({} if value is None else value, self._locate(key), code)

    def children(self, key: str, code: ReasonCode | None = None) -> tuple[JsonObject, ...]:
        """Return the objects in the array under the key; () if the key is absent."""
        if not self.has(key):
            return ()
        where = self._locate(key)
        return tuple(self._wrap(value, f"{where}[{n}]", code) for n, value in enumerate(self._list(key)))

    def extension(self, name: str) -> JsonObject | None:
        """Return the extension's object, or None if it is absent."""
        extensions = self.child("extensions")
        return extensions.child(name) if extensions.has(name) else None

    def _locate(self, key: str) -> str:
        return f"{self.where}.{key}" if self.where else key

    def _get(self, key: str, default: Json) -> Json:
        value = self.values.get(key)
        if value is None:
            value = default
        if value is None:
            self.fail(f"{key} is missing")
        return value

    def _list(self, key: str) -> list[Json]:
        value = self.values.get(key)
        if not isinstance(value, list):
            self.fail(f"{key} must be an array, found {_short(value)}")
        return value

    def _number(self, key: str, value: Json) -> float:
        if not isinstance(value, int | float) or isinstance(value, bool):
            self.fail(f"{key} must be a number, found {_short(value)}")
        if abs(value) > 1e300 or not math.isfinite(value):
            self.fail(f"{key} must be finite, found {_short(value)}")
        return float(value)

    def _wrap(self, value: Json, where: str, code: ReasonCode | None) -> JsonObject:
        if not isinstance(value, dict):
            raise AssetError(code or self.code, f"{where} must be an object, found {_short(value)}", self.path)
        return JsonObject(value, where, self.path, code or self.code)


def alternatives(values: Iterable[object]) -> str:
    """Return the values as text: "A, B or C"."""
    *first, last = map(str, values)
    return f"{', '.join(first)} or {last}" if first else last


def clean_text(value: str) -> str:
    """Replace lone surrogates in a string, so that it can be written as UTF-8."""
    return value.encode("utf-8", "replace").decode()


def _valid_indices(size: int) -> str:
    if size == 0:
        return "none are defined"
    return "the only valid index is 0" if size == 1 else f"valid indices: 0 to {size - 1:,}"


def _short(value: Json) -> str:
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    if isinstance(value, int | float | str):
        return clean_text(f"{value!r:.40}" if isinstance(value, str | float) else f"{str(value)[:40]}")
    return "an object" if isinstance(value, dict) else "an array"

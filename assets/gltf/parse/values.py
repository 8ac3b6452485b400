"""Untrusted JSON behind typed readers: a value of the wrong type is an `AssetError` that says where it stands.

Nothing else in this package indexes raw JSON, so a `KeyError` or a `TypeError` cannot come from a file.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from helix4d.core import AssetError, ReasonCode

_LARGEST_INTEGER = 2**53  # JSON numbers are doubles to most writers


@dataclass(frozen=True)
class JsonObject:
    """One JSON object of the file.

    Attributes:
        values: the parsed object.
        where: its place, for messages: `meshes[3].primitives[0]`.
        path: the file.
        code: the reason code of anything wrong in here.
    """

    values: dict[str, Any]
    where: str
    path: Path
    code: ReasonCode = ReasonCode.INVALID_GLTF

    def fail(self, message: str, code: ReasonCode | None = None) -> NoReturn:
        """Raise an `AssetError` that names this object."""
        raise AssetError(code or self.code, f"{self.where}: {message}", self.path)

    def has(self, key: str) -> bool:
        """Whether the key is there at all (null counts as absent)."""
        return self.values.get(key) is not None

    def integer(self, key: str, default: int | None = None, minimum: int = 0) -> int:
        """A whole number of at least `minimum`; 5.0 passes for 5, true does not pass for 1."""
        value = self._get(key, default)
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool) or abs(value) > _LARGEST_INTEGER:
            self.fail(f"{key} must be a whole number, found {_short(value)}")
        if value < minimum:
            self.fail(f"{key} must be at least {minimum}, found {value}")
        return value

    def index(self, key: str, size: int, code: ReasonCode | None = None) -> int:
        """A whole number in [0, size): a reference to an element of another list."""
        value = self.integer(key)
        if value >= size:
            self.fail(f"{key} {value} does not exist (the file has {size})", code)
        return value

    def optional_index(self, key: str, size: int) -> int | None:
        """`index`, or None where the key is absent."""
        return self.index(key, size) if self.has(key) else None

    def number(self, key: str, default: float | None = None) -> float:
        """A finite number."""
        return self._number(key, self._get(key, default))

    def numbers(self, key: str, length: int | None = None) -> tuple[float, ...] | None:
        """Finite numbers, `length` of them where given; None where the key is absent."""
        if not self.has(key):
            return None
        values = tuple(self._number(key, value) for value in self._list(key))
        if length is not None and len(values) != length:
            self.fail(f"{key} must hold {length} numbers, found {len(values)}")
        return values

    def indices(self, key: str, size: int, code: ReasonCode | None = None) -> tuple[int, ...]:
        """References to elements of a list of `size`; () where the key is absent."""
        if not self.has(key):
            return ()
        found = []
        for value in self._list(key):
            if not isinstance(value, int) or isinstance(value, bool):
                self.fail(f"{key} must hold whole numbers, found {_short(value)}")
            if not 0 <= value < size:
                self.fail(f"{key} names {value}, which does not exist (the file has {size})", code)
            found.append(value)
        return tuple(found)

    def text(self, key: str, default: str | None = None) -> str:
        """A string, without the lone surrogates that JSON allows and UTF-8 does not."""
        value = self._get(key, default)
        if not isinstance(value, str):
            self.fail(f"{key} must be a string, found {_short(value)}")
        return clean_text(value)

    def texts(self, key: str) -> tuple[str, ...]:
        """Strings; () where the key is absent."""
        if not self.has(key):
            return ()
        values = self._list(key)
        if not all(isinstance(value, str) for value in values):
            self.fail(f"{key} must hold strings")
        return tuple(clean_text(value) for value in values)

    def boolean(self, key: str, default: bool = False) -> bool:
        """true or false."""
        value = self._get(key, default)
        if not isinstance(value, bool):
            self.fail(f"{key} must be true or false, found {_short(value)}")
        return value

    def child(self, key: str, code: ReasonCode | None = None) -> JsonObject:
        """The object under the key; an empty one where the key is absent."""
        value = self.values.get(key)
        return self._wrap({} if value is None else value, f"{self.where}.{key}", code)

    def children(self, key: str, code: ReasonCode | None = None) -> tuple[JsonObject, ...]:
        """The objects of the list under the key; () where the key is absent."""
        if not self.has(key):
            return ()
        prefix = f"{self.where}.{key}" if self.where != "file" else key
        return tuple(self._wrap(value, f"{prefix}[{n}]", code) for n, value in enumerate(self._list(key)))

    def extension(self, name: str) -> JsonObject | None:
        """The extension's object, or None where it is absent."""
        extensions = self.child("extensions")
        return extensions.child(name) if extensions.has(name) else None

    def _get(self, key: str, default: Any) -> Any:
        value = self.values.get(key)
        if value is None:
            value = default
        if value is None:
            self.fail(f"{key} is missing")
        return value

    def _list(self, key: str) -> list[Any]:
        value = self.values.get(key)
        if not isinstance(value, list):
            self.fail(f"{key} must be a list, found {_short(value)}")
        return value

    def _number(self, key: str, value: Any) -> float:
        if not isinstance(value, int | float) or isinstance(value, bool):
            self.fail(f"{key} must be a number, found {_short(value)}")
        if abs(value) > 1e300 or not math.isfinite(value):
            self.fail(f"{key} must be finite, found {_short(value)}")
        return float(value)

    def _wrap(self, value: Any, where: str, code: ReasonCode | None) -> JsonObject:
        if not isinstance(value, dict):
            raise AssetError(code or self.code, f"{where} must be an object, found {_short(value)}", self.path)
        return JsonObject(value, where, self.path, code or self.code)


def clean_text(value: str) -> str:
    """The string with lone surrogates replaced, so that it can be written as UTF-8."""
    return value.encode("utf-8", "replace").decode()


def _short(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool | int | float | str):
        return clean_text(f"{value!r:.40}" if isinstance(value, str | float) else f"{str(value)[:40]}")
    return "an object" if isinstance(value, dict) else "a list"

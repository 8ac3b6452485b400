"""Validates names from files and listings before they are used as file names.

Nothing from a file is used as a path unless it has passed one of these functions.
"""

from __future__ import annotations

import re

from helix4d.core.errors import FormatError

_KEY = re.compile(r"[0-9a-f]{16}_[0-9]{1,6}(w[0-9]{2,6})?")
_SUFFIX = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")
_LONGEST_SUFFIX = 100
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def check_key(value: object, where: object) -> str:
    """Return the key of a sample: the first 16 hex digits of the asset's hash, `_`, the index of the clip, and for
    windows `w` and the index of the window.

    Raises:
        FormatError: if it is anything else.
    """
    if isinstance(value, str) and _KEY.fullmatch(value):
        return value
    raise FormatError(f"{where}: key {_short(value)}: expected 16 lowercase hexadecimal digits, `_` and a number")


def check_suffix(value: object, where: object) -> str:
    """Return the suffix of a sample's member, such as `view_00_frame_00.webp`.

    Raises:
        FormatError: if it contains anything but letters, digits, `_`, `-` and single dots.
    """
    if isinstance(value, str) and len(value) <= _LONGEST_SUFFIX and _SUFFIX.fullmatch(value):
        return value
    raise FormatError(f"{where}: member name {_short(value)}: expected letters, digits, `_`, `-` and single dots")


def check_relative(value: object, where: object) -> str:
    """Return the name of a file relative to a folder, with slashes, which cannot leave that folder.

    Raises:
        FormatError: if it is absolute or empty, climbs with `..`, or contains backslashes or control characters.
    """
    if isinstance(value, str) and value and "\\" not in value and not _CONTROL.search(value):
        parts = value.split("/")
        if not any(part in ("", ".", "..") for part in parts):
            return value
    raise FormatError(f"{where}: file name {_short(value)}: expected a relative path without `..`, inside the folder")


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 100 else f"{text[:97]}..."

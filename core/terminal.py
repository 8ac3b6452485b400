"""Makes text from files safe to print: characters that a terminal would interpret are escaped.

Escape sequences could clear the screen or retitle the window, direction marks reorder a line, and a line break in a
name could imitate a line of this program's output.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable

_ACTIVE = (
    "\x00-\x09\x0b-\x1f\x7f-\x9f"  # controls, all but the line feed
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # direction marks
    "\u2028\u2029\ufeff\ud800-\udfff"  # other line breaks, byte order marks, halves of surrogate pairs
)
_PATTERN = re.compile(f"[{_ACTIVE}]")
_LINE_PATTERN = re.compile(f"[{_ACTIVE}\n]")


def printable(text: str) -> str:
    """Return a text of several lines with every character that a terminal would interpret escaped, as in `\\x1b`."""
    return _PATTERN.sub(_escaped, text)


def printable_line(text: str) -> str:
    """Return a text as one line: `printable`, with line feeds escaped as well."""
    return _LINE_PATTERN.sub(_escaped, text)


def shell_command(words: Iterable[str]) -> str:
    """Return a command for bash or zsh in one line; words with control characters are written as `$'...'`."""
    return " ".join(_quoted(word) for word in words)


def _quoted(word: str) -> str:
    if not _LINE_PATTERN.search(word):
        return shlex.quote(word)
    escaped = word.replace("\\", "\\\\").replace("'", "\\'")
    return "$'" + _LINE_PATTERN.sub(_escaped, escaped) + "'"


def _escaped(match: re.Match[str]) -> str:
    code = ord(match[0])
    if match[0] == "\n":
        return "\\n"
    return f"\\x{code:02x}" if code < 0x80 else f"\\u{code:04x}"

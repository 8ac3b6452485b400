"""Removes from messages what differs between runs, so that two runs record the same bytes.

Messages of libraries contain memory addresses and paths of temporary files. Every message that is recorded about an
asset passes through here.
"""

from __future__ import annotations

import os
import re
import tempfile

_STREAM = re.compile(r"\s*<_io\.\w+ object at 0x[0-9a-fA-F]+>")
"""An in-memory file, whose representation Pillow quotes in place of a file name."""
_ADDRESS = re.compile(r"(<[^<>\n]*?) at 0x[0-9a-fA-F]+(?=[^<>\n]*>)")
_RANDOM = r"[a-z0-9_]{8}"  # what `tempfile` appends to a prefix
_SCRATCH = rf"/helix4d-[a-z0-9-]*{_RANDOM}(?:/content)?"  # see `scratch_folder`


def reproducible(text: str) -> str:
    """Return a message without memory addresses, with paths in temporary folders relative to those folders."""
    if " at 0x" in text:
        text = _ADDRESS.sub(r"\1", _STREAM.sub("", text))
    given = tempfile.gettempdir()
    for root in sorted({given, os.path.realpath(given)}, key=len, reverse=True):
        if root in text:
            text = re.sub(rf"{re.escape(root)}(?:{_SCRATCH})*/tmp{_RANDOM}\b", "temporary file", text)
            # A worker's temporary folder is itself a scratch folder.
            folders = rf"(?:{_SCRATCH}){'*' if re.search(_SCRATCH, root) else '+'}"
            text = re.sub(rf"{re.escape(root)}{folders}/", "", text)
    return text


def path_end(path: str, most: int = 80) -> str:
    """Return a path for a message: its last characters if it is longer than `most`, as they say which file it is."""
    return path if len(path) <= most else f"…{path[1 - most :]}"


def reason(error: BaseException, most: int = 200) -> str:
    """Return the `reproducible` message of an error in one line of at most `most` characters.

    If the message is empty, return the name of the error's type.
    """
    return " ".join(reproducible(str(error)).split())[:most] or type(error).__name__

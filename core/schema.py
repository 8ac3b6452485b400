"""Versions of the files that we write: newer ones are refused, older ones read or explained.

A file says its version as `"version": N`; one that says nothing is of version 0. Every reader checks it here, so every
refusal says the same three things: what was found, what is understood, what to do.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from helix4d import __version__
from helix4d.core.errors import FormatError


class NewerError(FormatError):
    """A file was written by a newer version of this program. It is not damaged: nothing of it should be rewritten."""


@dataclass(frozen=True)
class Schema:
    """One kind of file.

    Attributes:
        name: what people call it.
        version: what this program writes, and the newest that it reads.
        oldest: the oldest that it reads; 0 where a file without a version is harmless.
        rewrite: for older files, what to do: a half sentence after "to read it".
    """

    name: str
    version: int
    oldest: int
    rewrite: str

    def check(self, content: Any, where: object) -> int:
        """The version of `content`, a file's parsed JSON.

        Args:
            content: what the file holds.
            where: the file, for the message.

        Raises:
            NewerError: if this program is too old for it.
            FormatError: if it is too old for this program, or no version can be found.
        """
        if not isinstance(content, Mapping):
            raise FormatError(f"{where}: not a {self.name}: expected an object, found {type(content).__name__}")
        found = content.get("version", 0)
        if type(found) is not int or found < 0:
            raise FormatError(f"{where}: {self.name} version {found!r}: expected a whole number, at least 0")
        if self.oldest <= found <= self.version:
            return found
        reads = f"{self.version}" if self.oldest == self.version else f"{self.oldest} to {self.version}"
        told = f"{where}: {self.name} version {found}, this program (helix4d {__version__}) reads {reads}"
        if found > self.version:
            raise NewerError(f"{told}: it was written by a newer helix4d; to read it, update this one")
        raise FormatError(f"{told}: it was written by an older helix4d; to read it, {self.rewrite}")

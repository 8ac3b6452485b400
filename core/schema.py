"""Version checks for the files that helix4d writes.

A file records its version as `"version": N`; a file without one is version 0. Every reader checks versions here, so
every error states the version found, the versions supported, and what to do.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from helix4d import __version__
from helix4d.core.errors import FormatError


class NewerError(FormatError):
    """A file was written by a newer version of helix4d. It is not damaged and must not be rewritten."""


@dataclass(frozen=True)
class Schema:
    """Versions of one kind of file.

    Attributes:
        name: name of the file kind, used in messages.
        version: version written, and newest version read.
        oldest: oldest version read; 0 also accepts files without a version.
        rewrite: what to do about an older file; completes the sentence "to read it, ...".
    """

    name: str
    version: int
    oldest: int
    rewrite: str

    def check(self, content: object, where: object) -> int:
        """Return the version of a file, or raise if it is not supported.

        Args:
            content: parsed JSON of the file.
            where: path of the file, for messages.

        Raises:
            NewerError: if the file was written by a newer helix4d.
            FormatError: if the file is too old, is not a JSON object, or its version is not a whole number.
        """
        if not isinstance(content, Mapping):
            raise FormatError(f"{where}: not a {self.name}: expected a JSON object, found {type(content).__name__}")
        found = content.get("version", 0)
        if type(found) is not int or found < 0:
            raise FormatError(f"{where}: {self.name} version must be a whole number of at least 0, found {found!r}")
        if self.oldest <= found <= self.version:
            return found
        reads = f"{self.version}" if self.oldest == self.version else f"{self.oldest} to {self.version}"
        mismatch = f"{where}: {self.name} version {found}, but helix4d {__version__} reads {reads}"
        if found > self.version:
            raise NewerError(f"{mismatch}: it was written by a newer helix4d; to read it, upgrade helix4d")
        raise FormatError(f"{mismatch}: it was written by an older helix4d; to read it, {self.rewrite}")

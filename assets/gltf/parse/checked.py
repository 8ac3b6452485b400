"""A list whose invalid entries raise their errors when they are used, so that unused data may be invalid."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Generic, TypeVar

from helix4d.core import AssetError, ReasonCode

S = TypeVar("S")
T = TypeVar("T")

_LIMITS = frozenset({ReasonCode.OUT_OF_MEMORY, ReasonCode.URI_OUTSIDE_ASSET})


class Checked(Generic[T]):
    """A list some of whose entries may be invalid."""

    def __init__(self, entries: Iterable[T | AssetError]) -> None:
        self._entries = tuple(entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __getitem__(self, index: int) -> T:
        """Return an entry.

        Raises:
            AssetError: the error of an invalid entry.
        """
        entry = self._entries[index]
        if isinstance(entry, AssetError):
            raise entry
        return entry

    def valid(self) -> Iterator[tuple[int, T]]:
        """Iterate over the indices and values of the valid entries."""
        return ((n, entry) for n, entry in enumerate(self._entries) if not isinstance(entry, AssetError))

    def error(self, index: int) -> AssetError | None:
        """Return the error of an invalid entry, None for a valid one."""
        entry = self._entries[index]
        return entry if isinstance(entry, AssetError) else None


def parse_each(entries: Iterable[S], parse: Callable[[S], T]) -> Checked[T]:
    """Parse entries one by one; those that exceed a limit or leave the asset's folder are refused at once.

    Raises:
        AssetError: out_of_memory, uri_outside_asset.
    """

    def parsed(entry: S) -> T | AssetError:
        try:
            return parse(entry)
        except AssetError as error:
            if error.code in _LIMITS:
                raise
            return error

    return Checked(map(parsed, entries))

"""Reports when numba compiles kernels, which takes up to half a minute for the first asset on a machine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from numba.core import event

COMPILING = "compiling kernels, once per machine"


@contextmanager
def announced(note: Callable[[str], None]) -> Iterator[None]:
    """Call `note` with `COMPILING` when numba begins to compile during the block, and with "" when it has finished.

    Kernels that are loaded from numba's cache on disk are not reported.
    """
    listener = _Listener(note)
    event.register("numba:compile", listener)
    try:
        yield
    finally:
        event.unregister("numba:compile", listener)


class _Listener(event.Listener):
    """Counts nested compilations: compiling a kernel also compiles the functions that it calls."""

    def __init__(self, note: Callable[[str], None]) -> None:
        self._note, self._depth = note, 0

    def on_start(self, event: object) -> None:
        self._depth += 1
        if self._depth == 1:
            self._note(COMPILING)

    def on_end(self, event: object) -> None:
        self._depth -= 1
        if self._depth == 0:
            self._note("")

"""Requests to stop: SIGTERM and SIGUSR1, received by this process or by another rank of the run.

torchrun forwards a signal only to the processes of its own node, and kills them after a timeout. A rank that received a
signal therefore sets a key in the store of the process group, which all ranks check.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager

from torch.distributed import Store

SIGNALS = (signal.SIGTERM, signal.SIGUSR1)
"""torchrun, Slurm and Kubernetes send SIGTERM; Slurm's `--signal` sends SIGUSR1 a given time before the limit."""


class StopRequest:
    """Whether the run was asked to stop.

    Attributes:
        received: name of the signal that this process received; empty if there was none.
    """

    def __init__(self) -> None:
        self.received = ""
        self._store: Store | None = None
        self._key = ""

    def share(self, store: Store, key: str) -> None:
        """Exchange requests with the other ranks through this key of a store."""
        self._store, self._key = store, key

    def __call__(self) -> bool:
        """Return whether this or another rank was asked to stop. Takes one request to the store."""
        if self._store is None:
            return bool(self.received)
        if self.received:
            self._store.set(self._key, self.received)
            return True
        return bool(self._store.check([self._key]))


@contextmanager
def stop_signals() -> Iterator[StopRequest]:
    """Record SIGTERM and SIGUSR1 in the request while the block runs, instead of terminating."""
    request = StopRequest()

    def handle(number: int, _frame: object) -> None:
        request.received = signal.Signals(number).name

    previous = {number: signal.signal(number, handle) for number in SIGNALS}
    try:
        yield request
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)

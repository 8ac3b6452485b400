"""Work for a `FramePool` of the tests; a spawned process imports it, so it imports little."""

from __future__ import annotations

import os
import time


def work(number: int) -> int:
    """Return the square of a number, unless it is one that fails: 3 crashes the process."""
    if number == 2:
        raise ValueError("two is refused")
    if number == 3:
        os._exit(9)
    time.sleep(0.05)
    return number * number


def missing(number: int) -> int:
    """Fail as where a package is not installed."""
    from helix4d.core.extras import missing_package

    raise missing_package("unwrapping meshes", "xatlas")

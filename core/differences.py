"""Compare stored settings with new ones and name every value that differs."""

from __future__ import annotations

import json
from collections.abc import Mapping


def differences(then: Mapping[str, object], now: Mapping[str, object], prefix: str = "") -> list[str]:
    """Return lines such as `a.b was 1, is 2`, sorted by name; [] if the settings agree.

    Values are compared as JSON, so a tuple equals a list.
    """
    lines: list[str] = []
    for name in sorted(then.keys() | now.keys()):
        before, after = (json.loads(json.dumps(side.get(name))) for side in (then, now))
        if isinstance(before, dict) and isinstance(after, dict):
            lines += differences(before, after, f"{prefix}{name}.")
        elif before != after:
            lines.append(f"{prefix}{name} was {before!r}, is {after!r}")
    return lines

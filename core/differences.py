"""What a stored mapping of settings and a new one do not agree in, named down to the single value."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


def differences(then: Mapping[str, Any], now: Mapping[str, Any], prefix: str = "") -> list[str]:
    """`a.b was 1, is 2`, sorted by name; both compared as JSON, so that a tuple is a list. [] where they agree."""
    found = []
    for name in sorted(then.keys() | now.keys()):
        before, after = (json.loads(json.dumps(side.get(name))) for side in (then, now))
        if isinstance(before, dict) and isinstance(after, dict):
            found += differences(before, after, f"{prefix}{name}.")
        elif before != after:
            found.append(f"{prefix}{name} was {before!r}, is {after!r}")
    return found

"""Removes files and ledger lines from an output at a URL, so that the next run rebuilds them.

It does there what `rm` and `sed` do in a local folder.
"""

from __future__ import annotations

import json
from collections.abc import Collection

from helix4d.core import ConfigError
from helix4d.curation.places.folder import is_far
from helix4d.curation.places.store import Store
from helix4d.curation.shards.layout import LEDGER_FILE, LEDGER_PIECES
from helix4d.curation.shards.ledger import ledger_bytes


def discard(output: str, files: Collection[str], assets: Collection[str], lines: Collection[int]) -> None:
    """Remove files and ledger lines.

    Args:
        output: URL of the output.
        files: names of files in it; missing ones are ignored.
        assets: names of assets whose ledger lines are removed.
        lines: numbers of ledger lines, counted from 1 as `helix4d verify` does.

    Raises:
        ConfigError: if `output` is not a URL, or nothing is to be removed.
        StoreError: if the store refuses a change.
    """
    if not is_far(output):
        raise ConfigError(f"{output}: not a URL: in a local folder, use the commands that `helix4d verify` prints")
    if not (files or assets or lines):
        raise ConfigError("nothing to discard: name files, --assets or --lines")
    store = Store(output)
    if assets or lines:
        _shorten_ledger(store, frozenset(assets), frozenset(lines))
    # Sidecars first: a shard without its sidecar does not exist, so no shard is ever half removed.
    for name in sorted(files, key=lambda name: not name.endswith(".json")):
        store.remove(name)


def _shorten_ledger(store: Store, assets: frozenset[str], lines: frozenset[int]) -> None:
    kept = [
        line
        for number, line in enumerate(ledger_bytes(store).split(b"\n"), 1)
        if line and number not in lines and _asset(line) not in assets
    ]
    store.write(LEDGER_FILE, b"".join(line + b"\n" for line in kept))
    for name in store.names(LEDGER_PIECES):
        store.remove(name)


def _asset(line: bytes) -> object:
    """Return the asset of a ledger line, None if the line cannot be read."""
    try:
        content = json.loads(line)
    except ValueError:
        return None
    return content.get("asset") if isinstance(content, dict) else None

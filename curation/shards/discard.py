"""Files and ledger lines taken out of an output at a URL, so that the next run makes them again: its `rm` and `sed`."""

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
        output: URL.
        files: names in it; those that are not there are no problem.
        assets: whose ledger lines are removed.
        lines: numbers of ledger lines, from 1, as `helix4d verify` counts them.

    Raises:
        ConfigError: if it is no URL, or nothing is named.
        StoreError: if the store refuses it.
    """
    if not is_far(output):
        raise ConfigError(f"{output}: no URL: in a folder, rm and sed do this, as `helix4d verify` says")
    if not (files or assets or lines):
        raise ConfigError("name files, --assets or --lines to discard")
    store = Store(output)
    if assets or lines:
        _shorten_ledger(store, frozenset(assets), frozenset(lines))
    # Sidecars first: without its sidecar a shard does not exist, so none is ever there by half.
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
    """Whose line it is; None where that cannot be read."""
    try:
        content = json.loads(line)
    except ValueError:
        return None
    return content.get("asset") if isinstance(content, dict) else None

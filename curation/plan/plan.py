"""Assigns assets to shards by content hash, before any work starts.

The plan does not depend on the outcome of the assets: filtered and failed ones leave gaps. The shards are therefore the
same however often a run is interrupted, and in whatever order the assets finish.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from helix4d.core import ConfigError, ReasonCode
from helix4d.core.redaction import redact_url, redact_values
from helix4d.curation.remote.files import RemoteFile
from helix4d.curation.shards.layout import SPLITS
from helix4d.curation.sources.listing import Exclusion, SourceAsset

SHARD_NAME = "helix4d"
KEY_DIGITS = 16


@dataclass(frozen=True)
class PlannedAsset:
    """An asset with its content hash (64 hex digits)."""

    source: SourceAsset
    content_sha256: str

    @property
    def key_prefix(self) -> str:
        """First half of the keys of its samples, which is followed by `_` and the clip's index."""
        return self.content_sha256[:KEY_DIGITS]


@dataclass(frozen=True)
class PlannedShard:
    """A shard and its assets, sorted by key."""

    split: str
    number: int
    assets: tuple[PlannedAsset, ...]

    @property
    def name(self) -> str:
        """Path relative to the output, without a suffix: `train/helix4d-000000`."""
        return f"{self.split}/{SHARD_NAME}-{self.number:06d}"


@dataclass(frozen=True)
class Plan:
    """Every asset of the source, either in exactly one shard or left out.

    Attributes:
        shards: shards in the order of SPLITS, then of their numbers.
        left_out: name of a left-out asset -> why: a duplicate, excluded, or unreachable.
    """

    shards: tuple[PlannedShard, ...]
    left_out: Mapping[str, Exclusion]

    def assets(self) -> list[tuple[PlannedShard, PlannedAsset]]:
        """Return every planned asset with its shard, shard by shard."""
        return [(shard, asset) for shard in self.shards for asset in shard.assets]


def make_plan(
    hashes: Mapping[SourceAsset, str],
    assets_per_shard: int,
    exclusions: Mapping[str, Exclusion] = MappingProxyType({}),
    unreachable: Mapping[str, Exclusion] = MappingProxyType({}),
) -> Plan:
    """Group assets by split, sort by hash, and cut into shards. Of files with equal content, the first name is kept.

    Args:
        hashes: content hash of every reachable asset.
        assets_per_shard: maximum number of assets per shard.
        exclusions: key prefix -> why assets with this content are excluded.
        unreachable: name of an asset that could not be read or downloaded -> why.
    """
    kept: dict[str, SourceAsset] = {}
    left_out: dict[str, Exclusion] = dict(unreachable)
    for source in sorted(hashes):
        first = kept.setdefault(hashes[source][:KEY_DIGITS], source)
        if first is not source:
            left_out[source.name] = Exclusion(ReasonCode.DUPLICATE, f"same content as {first.name}")
    for prefix in sorted(kept.keys() & exclusions.keys()):
        left_out[kept.pop(prefix).name] = exclusions[prefix]
    by_split: dict[str, list[PlannedAsset]] = {split: [] for split in SPLITS}
    for prefix in sorted(kept):
        asset = PlannedAsset(kept[prefix], hashes[kept[prefix]])
        by_split[split_of(asset.content_sha256)].append(asset)
    shards = [
        PlannedShard(split, number, tuple(assets[start : start + assets_per_shard]))
        for split, assets in by_split.items()
        for number, start in enumerate(range(0, len(assets), assets_per_shard))
    ]
    return Plan(tuple(shards), left_out)


def split_of(content_sha256: str) -> str:
    """Return the split of an asset, by its hash: 98 % train, 1 % val, 1 % test. All its clips share it."""
    percent = int(content_sha256[:KEY_DIGITS], 16) % 100
    return "test" if percent == 99 else "val" if percent == 98 else "train"


def sources_to_json(hashes: Mapping[SourceAsset, str]) -> dict[str, Any]:
    """Return the sources as JSON, with what a later run needs to recognize them without hashing again."""
    return {source.name: _to_json(source, hashes[source]) for source in sorted(hashes)}


def source_from_json(name: str, entry: Mapping[str, Any], folder: Path) -> SourceAsset:
    """Return an asset recorded by `sources_to_json`. Paths of local assets are relative to `folder`."""
    remote = RemoteFile.from_json(entry["remote"]) if "remote" in entry else None
    path = Path(remote.name) if remote else folder / name
    return SourceAsset(
        name, path, entry["size"], entry["mtime_ns"], remote=remote, metadata=redact_values(entry.get("metadata", {}))
    )


def _to_json(source: SourceAsset, digest: str) -> dict[str, Any]:
    entry: dict[str, Any] = {"sha256": digest, "size": source.size, "mtime_ns": source.mtime_ns}
    if source.remote is not None:
        entry["remote"] = _shown(source.remote)
    if source.metadata:
        entry["metadata"] = dict(source.metadata)
    return entry


def full_urls(sources: Iterable[SourceAsset]) -> dict[str, str]:
    """Return the full URLs whose secrets the plan hides: name of an asset -> URL."""
    return {
        source.name: source.remote.url
        for source in sources
        if source.remote is not None and redact_url(source.remote.url) != source.remote.url
    }


def _shown(remote: RemoteFile) -> dict[str, Any]:
    """Return a remote file as JSON without the secrets of its URL, so a new signature does not change the result."""
    return {**remote.to_json(), "url": redact_url(remote.url)}


def known_hashes(sources: list[SourceAsset], stored: Mapping[str, Any]) -> dict[SourceAsset, str]:
    """Return the recorded hashes of unchanged assets: same location, size and modification time.

    Args:
        sources: assets found now.
        stored: record from `sources_to_json`.
    """
    known = {}
    for source in sources:
        entry = stored.get(source.name)
        remote = _shown(source.remote) if source.remote else None
        before = _shown(RemoteFile.from_json(entry["remote"])) if entry and entry.get("remote") else None
        if entry and (entry["size"], entry["mtime_ns"], before) == (source.size, source.mtime_ns, remote):
            known[source] = entry["sha256"]
    return known


def check_same_sources(hashes: Mapping[SourceAsset, str], stored: Mapping[str, Any], output: Path) -> None:
    """Check that the assets, with their licenses and metadata, are those that the output was planned for.

    Raises:
        ConfigError: if assets were added, removed or changed.
    """
    now = {source.name: (digest, dict(source.metadata)) for source, digest in hashes.items()}
    # Plans of older versions do not hide the secrets of URLs in metadata.
    before = {name: (entry["sha256"], redact_values(entry.get("metadata", {}))) for name, entry in stored.items()}
    if now == before:
        return
    changes = {
        "added": sorted(now.keys() - before.keys()),
        "removed": sorted(before.keys() - now.keys()),
        "changed": sorted(name for name in now.keys() & before.keys() if now[name] != before[name]),
    }
    parts = []
    for what, names in changes.items():
        if names:
            parts.append(f"{len(names)} {what} ({names[0]}{', ...' if len(names) > 1 else ''})")
    summary = "; ".join(parts)
    raise ConfigError(
        f"{output}: its shards were planned for a different set of assets: {summary}. "
        "Restore the source (with the same --limit), or choose a new --output."
    )

"""`plan.json`: what an output was begun with, so that a later run goes on with the same and a repair can name it.

Version 0, without a version, lacks the source and the limit; it is read as a plan that does not know them. Versions
before 2 lack the exclusions: there were none. Version 3 may name assets that lie elsewhere, and those that could not be
had.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from helix4d.core import ConfigError, FormatError, ReasonCode, Schema, sha256_json, write_json
from helix4d.curation.config import CurateConfig
from helix4d.curation.places.folder import Place, folder_at
from helix4d.curation.plan.exclusions import exclusions_from_json, exclusions_to_json
from helix4d.curation.plan.plan import Plan, make_plan, source_from_json
from helix4d.curation.shards.layout import PLAN_FILE
from helix4d.curation.sources.listing import Exclusion
from helix4d.curation.sources.source import absolute

PLAN = Schema("plan", version=3, oldest=0, rewrite="use a new --output")
_DIGEST = frozenset("0123456789abcdef")


@dataclass(frozen=True)
class StoredPlan:
    """The content of `plan.json`.

    Attributes:
        sample: the settings that decide a sample's bytes, as they were written.
        sources: name of an asset -> its sha256, size and mtime_ns; `remote` and `metadata` where it has them.
        source: `--source` of the last run, absolute; None where version 0 did not say.
        limit: `--limit` of the last run.
        exclusions: first half of a key -> why no asset with this content goes into a shard.
        exclude: the list that they came from, absolute; None where none was given.
        hdri: folder of the environment maps of the last run, absolute; None for none.
        unreachable: name of an asset that could not be had when the plan was made -> why.
        revisions: repository -> the commit that was listed.
    """

    sample: Mapping[str, Any]
    sources: Mapping[str, Mapping[str, Any]]
    source: str | None = None
    limit: int | None = None
    exclusions: Mapping[str, Exclusion] = field(default_factory=dict)
    exclude: str | None = None
    hdri: str | None = None
    unreachable: Mapping[str, Exclusion] = field(default_factory=dict)
    revisions: Mapping[str, str] = field(default_factory=dict)

    @property
    def config_sha256(self) -> str:
        """Hash of the settings: what the sidecars of this plan's shards name."""
        return sha256_json(self.sample)

    def plan(self) -> Plan:
        """The shards, made from the recorded hashes; no asset is looked at."""
        folder = Path(self.source or "")
        hashes = {source_from_json(name, entry, folder): entry["sha256"] for name, entry in self.sources.items()}
        return make_plan(hashes, self.sample["assets_per_shard"], self.exclusions, self.unreachable)


@dataclass(frozen=True)
class SourceRecord:
    """What a run writes into its plan of where its assets came from; the fields are `StoredPlan`'s."""

    sources: Mapping[str, Any]
    unreachable: Mapping[str, Exclusion]
    revisions: Mapping[str, str]


def write_plan(config: CurateConfig, record: SourceRecord, exclusions: Mapping[str, Exclusion]) -> None:
    """Atomically write the plan of a run."""
    before = read_plan(config.output)
    given = config.run.exclude
    content = {
        "version": PLAN.version,
        "source": absolute(config.source),
        "limit": config.run.limit,
        "sample": config.sample.to_json(),
        "sources": record.sources,
        "unreachable": {
            name: {"reason": why.reason, "message": why.message} for name, why in record.unreachable.items()
        },
        "revisions": dict(record.revisions),
        "exclude": str(given.resolve()) if given else before.exclude if before else None,
        "exclusions": exclusions_to_json(exclusions),
    }
    if config.hdri is not None:
        content["hdri"] = str(config.hdri.resolve())
    write_json(config.output / PLAN_FILE, content)


def read_plan(output: Place) -> StoredPlan | None:
    """The plan of an output, near or far, or None if it has none.

    Raises:
        FormatError: if it is damaged.
        NewerError: if it is newer than this program.
        ConfigError: if the folder was written by another command.
        StoreError: if a far one cannot be had.
    """
    folder = folder_at(output)
    path = folder.address(PLAN_FILE)
    try:
        content = json.loads(folder.read(PLAN_FILE))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise FormatError(f"{path}: not a plan ({error})") from error
    if isinstance(content, Mapping) and "encoders" in content:
        raise ConfigError(f"{output}: latent shards of `helix4d encode`, not an output of `helix4d curate`")
    PLAN.check(content, path)
    wrong = _mistakes(content)
    if wrong:
        raise FormatError(f"{path}: not a plan ({'; '.join(wrong[:3])})")
    return StoredPlan(
        sample=content["sample"],
        sources=content["sources"],
        source=content.get("source"),
        limit=content.get("limit"),
        exclusions=exclusions_from_json(content.get("exclusions", {}), path),
        exclude=content.get("exclude"),
        hdri=content.get("hdri"),
        unreachable={
            name: Exclusion(ReasonCode(entry["reason"]), entry["message"])
            for name, entry in content.get("unreachable", {}).items()
        },
        revisions=content.get("revisions", {}),
    )


def _mistakes(content: Mapping[str, Any]) -> list[str]:
    sample, sources = content.get("sample"), content.get("sources")
    wrong = []
    if not isinstance(sample, Mapping) or type(sample.get("assets_per_shard")) is not int:
        wrong.append("no settings under sample")
    elif sample["assets_per_shard"] < 1:
        wrong.append(f"assets_per_shard is {sample['assets_per_shard']}")
    if not isinstance(sources, Mapping):
        return [*wrong, "no assets under sources"]
    for name, entry in sources.items():
        digest = entry.get("sha256") if isinstance(entry, Mapping) else None
        if not isinstance(digest, str) or len(digest) != 64 or not set(digest) <= _DIGEST:
            wrong.append(f"{name} has no sha256")
        elif not all(type(entry.get(field)) is int for field in ("size", "mtime_ns")):
            wrong.append(f"{name} has no size or mtime_ns")
        elif not _is_remote(entry.get("remote")) or not isinstance(entry.get("metadata", {}), Mapping):
            wrong.append(f"{name} has an unreadable remote or metadata")
    unreachable = content.get("unreachable", {})
    if not isinstance(unreachable, Mapping) or not all(map(_is_reason, unreachable.values())):
        wrong.append("unreachable does not give reasons")
    if not isinstance(content.get("revisions", {}), Mapping):
        wrong.append("revisions are no object")
    if not isinstance(content.get("source", ""), str):
        wrong.append("source is not a path")
    if not isinstance(content.get("exclude"), str | None):
        wrong.append("exclude is not a path")
    if not isinstance(content.get("hdri"), str | None):
        wrong.append("hdri is not a path")
    if not isinstance(content.get("limit"), int | None):
        wrong.append("limit is not a number")
    return wrong


def _is_remote(entry: Any) -> bool:
    """Whether it is what `RemoteFile.to_json` gives, or nothing."""
    if entry is None:
        return True
    kinds = {"url": str, "size": int, "sha256": str, "version": str}
    return isinstance(entry, Mapping) and {name: type(value) for name, value in entry.items()} == kinds


def _is_reason(entry: Any) -> bool:
    return (
        isinstance(entry, Mapping) and entry.get("reason") in set(ReasonCode) and isinstance(entry.get("message"), str)
    )

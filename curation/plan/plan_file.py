"""`plan.json`: the inputs of an output, so that a later run can resume it and a repair command can name them.

Version 0 has no version number, source or limit; the latter two are read as unknown. Version 2 adds exclusions, version
3 remote and unreachable assets.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from helix4d.core import ConfigError, FormatError, ReasonCode, Schema, sha256_json, write_json
from helix4d.core.documents import parse_json
from helix4d.core.redaction import redact_url
from helix4d.curation.config import CurateConfig
from helix4d.curation.places.folder import Place, folder_at, is_far
from helix4d.curation.plan.exclusions import exclusions_from_json, exclusions_to_json
from helix4d.curation.plan.plan import Plan, make_plan, source_from_json
from helix4d.curation.shards.layout import PLAN_FILE, SECRETS_FILE
from helix4d.curation.sources.listing import Exclusion
from helix4d.curation.sources.source import absolute

PLAN = Schema("plan", version=3, oldest=0, rewrite="use a new --output")
_DIGEST = frozenset("0123456789abcdef")


@dataclass(frozen=True)
class StoredPlan:
    """The content of `plan.json`.

    Attributes:
        sample: settings that define a sample, as written.
        sources: name of an asset -> sha256, size and mtime_ns; also `remote` and `metadata` if it has them.
        source: absolute `--source` of the last run; None if unknown (version 0).
        limit: `--limit` of the last run.
        exclusions: key prefix -> why assets with this content are excluded.
        exclude: absolute path of the exclusion list; None if there was none.
        hdri: absolute folder of the environment maps of the last run; None if there were none.
        unreachable: name of an asset that could not be read or downloaded when the plan was made -> why.
        revisions: repository -> commit that was listed.
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
    full_urls: Mapping[str, str] | None = field(default=None, repr=False)
    """Full URLs of assets whose secrets the plan hides: name of an asset -> URL. None if not stored in this folder."""

    @property
    def config_sha256(self) -> str:
        """Hash of the settings, which the sidecars of this plan's shards record."""
        return sha256_json(self.sample)

    def plan(self) -> Plan:
        """Compute the plan from the recorded hashes, without reading any asset."""
        folder = Path(self.source or "")
        hashes = {source_from_json(name, entry, folder): entry["sha256"] for name, entry in self.sources.items()}
        return make_plan(hashes, self.sample["assets_per_shard"], self.exclusions, self.unreachable)


@dataclass(frozen=True)
class SourceRecord:
    """Origin of a run's assets, as stored in its plan and beside it. The fields are those of `StoredPlan`."""

    sources: Mapping[str, Any]
    unreachable: Mapping[str, Exclusion]
    revisions: Mapping[str, str]
    full_urls: Mapping[str, str] = field(default_factory=dict, repr=False)


def write_plan(config: CurateConfig, record: SourceRecord, exclusions: Mapping[str, Exclusion]) -> None:
    """Atomically write the plan of a run. It is published; secrets of URLs go to a file readable by its owner only."""
    before = read_plan(config.output)
    _write_secrets(config.output, record.full_urls)
    given = config.run.exclude
    content = {
        "version": PLAN.version,
        "source": redact_url(absolute(config.source)),
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
    """Read the plan of an output, in a folder or at a URL. None if there is none.

    Raises:
        FormatError: if the plan is damaged.
        NewerError: if it was written by a newer version.
        ConfigError: if the folder was written by another command.
        StoreError: if a URL cannot be read.
    """
    folder = folder_at(output)
    path = folder.address(PLAN_FILE)
    try:
        data = folder.read(PLAN_FILE)
    except FileNotFoundError:
        return None
    content = parse_json(data, path, PLAN.name)
    if isinstance(content, Mapping) and "encoders" in content:
        raise ConfigError(f"{output}: contains latent shards of `helix4d encode`, not an output of `helix4d curate`")
    PLAN.check(content, path)
    mistakes = _mistakes(content)
    if mistakes:
        raise FormatError(f"{path}: malformed plan ({'; '.join(mistakes[:3])})")
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
        full_urls=None if is_far(output) else _read_secrets(Path(output)),
    )


def _write_secrets(output: Path, urls: Mapping[str, str]) -> None:
    """Write the full URLs that the plan hides, readable by the owner only; no file if nothing is hidden."""
    path = output / SECRETS_FILE
    path.unlink(missing_ok=True)
    if not urls:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as stream:
        json.dump(dict(urls), stream)


def _read_secrets(output: Path) -> dict[str, str] | None:
    try:
        content = parse_json((output / SECRETS_FILE).read_bytes(), output / SECRETS_FILE, "list of URLs")
    except (FileNotFoundError, FormatError):  # a crash may have truncated it: the source is listed again
        return None
    if not isinstance(content, Mapping) or not all(isinstance(url, str) for url in content.values()):
        return None
    return dict(content)


def _mistakes(content: Mapping[str, Any]) -> list[str]:
    sample, sources = content.get("sample"), content.get("sources")
    mistakes = []
    if not isinstance(sample, Mapping) or type(sample.get("assets_per_shard")) is not int:
        mistakes.append("sample contains no settings")
    elif sample["assets_per_shard"] < 1:
        mistakes.append(f"assets_per_shard is {sample['assets_per_shard']}")
    if not isinstance(sources, Mapping):
        return [*mistakes, "sources contains no assets"]
    for name, entry in sources.items():
        digest = entry.get("sha256") if isinstance(entry, Mapping) else None
        if not isinstance(digest, str) or len(digest) != 64 or not set(digest) <= _DIGEST:
            mistakes.append(f"{name} has no sha256")
        elif not all(type(entry.get(field)) is int for field in ("size", "mtime_ns")):
            mistakes.append(f"{name} has no size or mtime_ns")
        elif not _is_remote(entry.get("remote")) or not isinstance(entry.get("metadata", {}), Mapping):
            mistakes.append(f"{name} has a malformed remote or metadata")
    unreachable = content.get("unreachable", {})
    if not isinstance(unreachable, Mapping) or not all(map(_is_reason, unreachable.values())):
        mistakes.append("unreachable contains entries without a reason")
    if not isinstance(content.get("revisions", {}), Mapping):
        mistakes.append("revisions is not an object")
    if not isinstance(content.get("source", ""), str):
        mistakes.append("source is not a path")
    if not isinstance(content.get("exclude"), str | None):
        mistakes.append("exclude is not a path")
    if not isinstance(content.get("hdri"), str | None):
        mistakes.append("hdri is not a path")
    if not isinstance(content.get("limit"), int | None):
        mistakes.append("limit is not a number")
    return mistakes


def _is_remote(entry: Any) -> bool:
    """Return whether a value is None or has the form of `RemoteFile.to_json`."""
    if entry is None:
        return True
    kinds = {"url": str, "size": int, "sha256": str, "version": str}
    return isinstance(entry, Mapping) and {name: type(value) for name, value in entry.items()} == kinds


def _is_reason(entry: Any) -> bool:
    return (
        isinstance(entry, Mapping) and entry.get("reason") in set(ReasonCode) and isinstance(entry.get("message"), str)
    )

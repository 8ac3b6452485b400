"""`plan.json`: what an output was begun with, so that a later run goes on with the same and a repair can name it.

Version 0, without a version, lacks the source and the limit; it is read as a plan that does not know them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core import ConfigError, FormatError, Schema, sha256_json, write_json
from curation.config import CurateConfig
from curation.plan import Plan, make_plan
from curation.sources import SourceAsset

PLAN = Schema("plan", version=1, oldest=0, rewrite="use a new --output")
PLAN_FILE = "plan.json"
_DIGEST = frozenset("0123456789abcdef")


@dataclass(frozen=True)
class StoredPlan:
    """The content of `plan.json`.

    Attributes:
        sample: the settings that decide a sample's bytes, as they were written.
        sources: name of an asset -> its sha256, size and mtime_ns.
        source: folder of the last run, absolute; None where version 0 did not say.
        limit: `--limit` of the last run.
        hdri: folder of the environment maps of the last run, absolute; None for none.
    """

    sample: Mapping[str, Any]
    sources: Mapping[str, Mapping[str, Any]]
    source: str | None = None
    limit: int | None = None
    hdri: str | None = None

    @property
    def config_sha256(self) -> str:
        """Hash of the settings: what the sidecars of this plan's shards name."""
        return sha256_json(self.sample)

    def plan(self) -> Plan:
        """The shards, made from the recorded hashes; no asset is looked at."""
        folder = Path(self.source or "")
        hashes = {
            SourceAsset(name, folder / name, entry["size"], entry["mtime_ns"]): entry["sha256"]
            for name, entry in self.sources.items()
        }
        return make_plan(hashes, self.sample["assets_per_shard"])


def write_plan(config: CurateConfig, sources: Mapping[str, Any]) -> None:
    """Atomically write the plan of a run."""
    content = {
        "version": PLAN.version,
        "source": str(config.source.resolve()),
        "limit": config.run.limit,
        "sample": config.sample.to_json(),
        "sources": sources,
    }
    if config.hdri is not None:
        content["hdri"] = str(config.hdri.resolve())
    write_json(config.output / PLAN_FILE, content)


def read_plan(output: Path) -> StoredPlan | None:
    """The plan of an output folder, or None if it has none.

    Raises:
        FormatError: if it is damaged.
        NewerError: if it is newer than this program.
        ConfigError: if the folder was written by another command.
    """
    path = output / PLAN_FILE
    try:
        content = json.loads(path.read_bytes())
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
        content["sample"], content["sources"], content.get("source"), content.get("limit"), content.get("hdri")
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
    if not isinstance(content.get("source", ""), str):
        wrong.append("source is not a path")
    if not isinstance(content.get("hdri"), str | None):
        wrong.append("hdri is not a path")
    if not isinstance(content.get("limit"), int | None):
        wrong.append("limit is not a number")
    return wrong

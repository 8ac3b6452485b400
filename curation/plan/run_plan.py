"""Plans a run: lists and hashes the source, and compares it to the plan that the output was started with."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from helix4d.core import ConfigError
from helix4d.core.redaction import HIDDEN, redact_url
from helix4d.curation.config import EARLIER, CurateConfig, flat_settings
from helix4d.curation.plan.exclusions import read_exclusions
from helix4d.curation.plan.plan import (
    Plan,
    check_same_sources,
    full_urls,
    known_hashes,
    make_plan,
    source_from_json,
    sources_to_json,
)
from helix4d.curation.plan.plan_file import SourceRecord, StoredPlan, read_plan
from helix4d.curation.remote.cache import Cache
from helix4d.curation.shards.sidecar import read_sidecar
from helix4d.curation.sources.hashing import hash_sources
from helix4d.curation.sources.listing import Exclusion, Listing
from helix4d.curation.sources.source import absolute, is_listed_once, list_source


def plan_run(config: CurateConfig) -> tuple[Plan, SourceRecord]:
    """Return the plan, and the record of the sources that it was made from.

    Raises:
        ConfigError: if the output was started with different settings or assets.
    """
    cache = Cache(config.downloads)
    stored = _stored_plan(config)
    retry = config.run.retry_failed and stored is not None and not _has_shards(config.output, stored)
    given_up = {} if stored is None or retry else stored.unreachable
    listing = _stored_listing(config, None if retry else stored) or list_source(
        config.source, config.run.limit, cache, config.run.follow_links
    )
    sources = [source for source in listing.assets if source.name not in given_up]
    hashes = known_hashes(sources, stored.sources) if stored else {}
    new, failed = hash_sources([source for source in sources if source not in hashes], cache)
    hashes.update(new)
    unreachable = {**listing.unreachable, **failed, **given_up}
    if stored:
        same = {source: digest for source, digest in hashes.items() if source.name not in stored.unreachable}
        check_same_sources(same, stored.sources, config.output)
    plan = make_plan(hashes, config.sample.assets_per_shard, exclusions_of(config), unreachable)
    return plan, SourceRecord(sources_to_json(hashes), unreachable, listing.revisions, full_urls(hashes))


def _stored_listing(config: CurateConfig, stored: StoredPlan | None) -> Listing | None:
    """Return the listing in the output's plan, if the source is too expensive to list again and has not changed."""
    if stored is None or not is_listed_once(config.source):
        return None
    if (stored.source, stored.limit) != (redact_url(absolute(config.source)), config.run.limit):
        return None
    urls = stored.full_urls or {}
    entries = {name: _with_url(entry, urls.get(name)) for name, entry in stored.sources.items()}
    if any(HIDDEN in str(entry.get("remote", {}).get("url")) for entry in entries.values()):
        return None  # planned on another machine, which keeps the secrets: list the source again
    assets = [source_from_json(name, entry, Path()) for name, entry in entries.items()]
    return Listing(sorted(assets), stored.unreachable, stored.revisions)


def _with_url(entry: Mapping[str, Any], url: str | None) -> Mapping[str, Any]:
    return entry if url is None else {**entry, "remote": {**entry["remote"], "url": url}}


def _has_shards(output: Path, stored: StoredPlan) -> bool:
    """Return whether any shard is committed. Then there is no place left for assets that were unreachable."""
    return any(read_sidecar(output / f"{shard.name}.tar") is not None for shard in stored.plan().shards)


def exclusions_of(config: CurateConfig) -> Mapping[str, Exclusion]:
    """Return the exclusions of `--exclude`, or without it those that the output was started with.

    Raises:
        ConfigError: if the output was started with a different list.
    """
    stored = read_plan(config.output)
    if config.run.exclude is None:
        return stored.exclusions if stored else {}
    given = read_exclusions(config.run.exclude)
    if stored and stored.exclusions != given:
        raise ConfigError(
            f"{config.output}: was started with a different exclusion list ({len(stored.exclusions)} assets, "
            f"{config.run.exclude} has {len(given)}): omit --exclude to resume, or choose a new --output"
        )
    return given


def _stored_plan(config: CurateConfig) -> StoredPlan | None:
    stored = read_plan(config.output)
    if stored is None:
        return None
    now, before = (flat_settings({**EARLIER, **settings}) for settings in (config.sample.to_json(), stored.sample))
    # Thresholds that are off may be omitted.
    different = [
        f"{name} was {before.get(name)!r}, now {now.get(name)!r}"
        for name in sorted(now.keys() | before.keys())
        if before.get(name) != now.get(name)
    ]
    if different:
        raise ConfigError(
            f"{config.output}: was started with different settings ({'; '.join(different)}): "
            "use the same settings to resume, or choose a new --output"
        )
    return stored

"""Animated assets in, WebDataset shards out: `python curation/pipeline.py --source DIR --output DIR`.

The driver plans, hands assets to Ray, writes the ledger, and has a shard written as soon as all of its assets have
ended. Everything it knows is in the output folder, so it can be killed at any moment and started again.
"""

from __future__ import annotations

import sys
from pathlib import Path

if __package__ in (None, ""):
    # Run as a script (`ray submit` does): Python has put this folder on the path, where its parent belongs. Away from
    # a checkout, the installed packages are used.
    here = Path(__file__).resolve().parent
    sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != here]
    if (here / "__init__.py").exists():
        sys.path.insert(0, str(here.parent))

import logging
import os
import shutil
import time
from collections.abc import Mapping
from importlib import metadata
from typing import Any

from core import AssetState, ConfigError, Helix4DError, setup_logging, write_json
from core.locks import locked
from core.version import VERSION
from curation.config import CurateConfig, flat_settings, parse_config
from curation.engine import Engine, Tick
from curation.exclusions import read_exclusions
from curation.hashing import hash_sources
from curation.jobs import WORK_FOLDER, AssetJob, ShardJob, asset_job
from curation.ledger import LEDGER_FILE, Ledger, Outcome
from curation.mirror import Mirror
from curation.plan import (
    Plan,
    PlannedAsset,
    PlannedShard,
    check_same_sources,
    known_hashes,
    make_plan,
    source_from_json,
    sources_to_json,
)
from curation.progress import Display
from curation.remote.cache import Cache
from curation.shard import read_sidecar, split_shard
from curation.sources import Exclusion, Listing, absolute, is_listed_once, is_url, list_source
from curation.stored_plan import PLAN_FILE, SourceRecord, StoredPlan, read_plan, write_plan
from curation.summary import SUMMARY_FILE, Summary, print_plan, print_summary, summarize, write_contact_sheet

log = logging.getLogger("curation")

CONTACT_SHEET_FILE = "contact_sheet.webp"


def main(arguments: list[str] | None = None, program: str = "python curation/pipeline.py") -> int:
    """The command. Returns the exit status: 0 unless the run itself could not be done."""
    setup_logging()
    try:
        config = parse_config(arguments, program)
        if config.run.verbose:
            log.setLevel(logging.DEBUG)
        if config.run.dry_run:
            if config.remote is not None:
                with locked(config.output):
                    mirror_of(config).pull()
            print_plan(plan_run(config)[0], config.sample)
        else:
            print_summary(curate(config), config)
    except Helix4DError as error:
        log.error("%s", error)
        return 2
    return 0


def curate(config: CurateConfig) -> Summary:
    """Run the pipeline to its end and return what came of it.

    Raises:
        ConfigError: if the source or the output does not fit the configuration.
    """
    start = time.monotonic()
    _check_folders(config)
    with locked(config.output):
        mirror = mirror_of(config)
        mirror.pull()
        plan, record = plan_run(config)
        write_plan(config, record, exclusions_of(config))
        mirror.push(PLAN_FILE)
        ledger = Ledger(config.output / LEDGER_FILE)
        for name, why in plan.left_out.items():
            if name not in ledger.outcomes:
                ledger.append(Outcome(name, why.reason.state, why.reason, stage="plan", message=why.message))
        if config.run.retry_failed:
            _reopen_failed(plan, ledger, config.output, mirror)
        _fill_shards(config, plan, ledger, mirror)
        shutil.rmtree(config.output / WORK_FOLDER, ignore_errors=True)
        summary = summarize(plan, ledger, config.output, time.monotonic() - start)
        write_json(config.output / SUMMARY_FILE, summary.to_json())
        write_contact_sheet(config.output / CONTACT_SHEET_FILE, plan, config.remote or config.output)
        mirror.finish(SUMMARY_FILE, CONTACT_SHEET_FILE)
    return summary


def mirror_of(config: CurateConfig) -> Mirror:
    """The published side of the output."""
    return Mirror(config.output, config.remote, config.run.downloads)


def _check_folders(config: CurateConfig) -> None:
    # A job's driver runs in an unpacked copy of the working directory, which is gone when the job ends.
    in_a_job = "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ
    for name, folder in (("source", config.source), ("output", str(config.output))):
        if in_a_job and not is_url(folder) and folder != absolute(folder):
            raise ConfigError(f"--{name} {folder}: a Ray job needs an absolute path that every node sees")


def plan_run(config: CurateConfig) -> tuple[Plan, SourceRecord]:
    """The plan, and the record of the sources that it was made from.

    Raises:
        ConfigError: if the output was begun with other settings or other assets.
    """
    cache = Cache(config.run.downloads)
    stored = _stored_plan(config)
    again = config.run.retry_failed and stored is not None and not _has_shards(config.output, stored)
    given_up = {} if stored is None or again else stored.unreachable
    listing = _stored_listing(config, None if again else stored) or list_source(config.source, config.run.limit, cache)
    sources = [source for source in listing.assets if source.name not in given_up]
    hashes = known_hashes(sources, stored.sources) if stored else {}
    new, failed = hash_sources([source for source in sources if source not in hashes], cache)
    hashes.update(new)
    unreachable = {**listing.unreachable, **failed, **given_up}
    if stored:
        same = {source: digest for source, digest in hashes.items() if source.name not in stored.unreachable}
        check_same_sources(same, stored.sources, config.output)
    plan = make_plan(hashes, config.sample.assets_per_shard, exclusions_of(config), unreachable)
    return plan, SourceRecord(sources_to_json(hashes), unreachable, listing.revisions)


def _stored_listing(config: CurateConfig, stored: StoredPlan | None) -> Listing | None:
    """What the output's plan lists, where listing again costs too much and asks for the same."""
    if stored is None or not is_listed_once(config.source):
        return None
    if (stored.source, stored.limit) != (absolute(config.source), config.run.limit):
        return None
    assets = [source_from_json(name, entry, Path()) for name, entry in stored.sources.items()]
    return Listing(sorted(assets), stored.unreachable, stored.revisions)


def _has_shards(output: Path, stored: StoredPlan) -> bool:
    """Whether one is committed: then what could not be had when they were planned has no place any more."""
    return any(read_sidecar(_tar(output, shard)) is not None for shard in stored.plan().shards)


def exclusions_of(config: CurateConfig) -> Mapping[str, Exclusion]:
    """What `--exclude` names; without it, what the output was begun with.

    Raises:
        ConfigError: if the output was begun with another list.
    """
    stored = read_plan(config.output)
    if config.run.exclude is None:
        return stored.exclusions if stored else {}
    given = read_exclusions(config.run.exclude)
    if stored and stored.exclusions != given:
        raise ConfigError(
            f"{config.output}: begun with {len(stored.exclusions)} excluded assets, {config.run.exclude} has other "
            f"ones ({len(given)}): leave --exclude out to go on, or use a new --output"
        )
    return given


def _stored_plan(config: CurateConfig) -> StoredPlan | None:
    stored = read_plan(config.output)
    if stored is None:
        return None
    now, before = flat_settings(config.sample.to_json()), flat_settings(stored.sample)
    different = [
        f"{name} was {before.get(name)!r}, is {now.get(name)!r}"
        for name in sorted(now.keys() | before.keys())
        if name not in before or name not in now or before[name] != now[name]
    ]
    if different:
        raise ConfigError(f"{config.output}: begun with other settings ({'; '.join(different)}): use a new --output")
    return stored


def _reopen_failed(plan: Plan, ledger: Ledger, output: Path, mirror: Mirror) -> None:
    """Forget failures; shards that were already written without them become parts again."""
    for shard in plan.shards:
        failed = [a for a in shard.assets if _state(ledger, a) is AssetState.FAILED]
        if not failed:
            continue
        tar = _tar(output, shard)
        sidecar = read_sidecar(tar)
        if sidecar is not None:
            mirror.take_back(tar)
            split_shard(tar, sidecar, {asset.key_prefix: _part(output, shard, asset) for asset in shard.assets})
            tar.with_suffix(".json").unlink()
        for asset in failed:
            del ledger.outcomes[asset.source.name]


def _fill_shards(config: CurateConfig, plan: Plan, ledger: Ledger, mirror: Mirror) -> None:
    output = config.output
    open_shards = {shard.name: shard for shard in plan.shards if read_sidecar(_tar(output, shard)) is None}
    todo: dict[str, set[str]] = {}
    jobs: list[AssetJob] = []
    shard_of: dict[str, PlannedShard] = {}
    for shard in open_shards.values():
        todo[shard.name] = set()
        for asset in shard.assets:
            part = _part(output, shard, asset)
            state = _state(ledger, asset)
            if state is None or (state is AssetState.DONE and not part.exists()):
                todo[shard.name].add(asset.source.name)
                shard_of[asset.source.name] = shard
                jobs.append(asset_job(config, asset, part.resolve()))
    if not open_shards:
        return
    total = sum(len(shard.assets) for shard in plan.shards)
    with Engine(config.run) as engine, Display(total, total - len(jobs)) as display:
        writing: list[Any] = []

        def write_if_complete(shard: PlannedShard) -> None:
            if not todo[shard.name]:
                mirror.push_ledger()
                writing.append(engine.start_shard(_shard_job(config, shard, ledger)))

        for shard in open_shards.values():
            write_if_complete(shard)
        for news in engine.work(jobs):
            if isinstance(news, Tick):
                display.show(news.stages)
                continue
            ledger.append(news)
            display.advance(news)
            shard = shard_of[news.asset]
            todo[shard.name].discard(news.asset)
            write_if_complete(shard)
        engine.finish_shards(writing)


def _shard_job(config: CurateConfig, shard: PlannedShard, ledger: Ledger) -> ShardJob:
    parts, gaps = [], []
    for asset in shard.assets:
        outcome = ledger.outcomes[asset.source.name]
        if outcome.state is AssetState.DONE:
            parts.append(_part(config.output, shard, asset).resolve())
        else:
            gaps.append({"asset": asset.source.name, "state": outcome.state, "reason": outcome.reason})
    facts = {
        "split": shard.split,
        "config": config.sample.to_json(),
        "config_sha256": config.sample.sha256(),
        "tools": tool_versions(),
        "gaps": gaps,
    }
    return ShardJob(
        tar=_tar(config.output, shard).resolve(),
        parts=tuple(parts),
        facts=facts,
        folder=config.output.resolve(),
        remote=config.remote,
        downloads=config.run.downloads,
    )


def tool_versions() -> Mapping[str, str]:
    """Versions of everything that can change a byte of a shard."""
    packages = ("bpy", "DracoPy", "meshoptimizer", "numba", "numpy", "OpenEXR", "pillow", "zstandard")
    python = ".".join(map(str, sys.version_info[:3]))
    return {"helix4d": VERSION, "python": python, **{name: metadata.version(name) for name in packages}}


def _state(ledger: Ledger, asset: PlannedAsset) -> AssetState | None:
    outcome = ledger.outcomes.get(asset.source.name)
    return None if outcome is None else outcome.state


def _tar(output: Path, shard: PlannedShard) -> Path:
    return output / f"{shard.name}.tar"


def _part(output: Path, shard: PlannedShard, asset: PlannedAsset) -> Path:
    return output / WORK_FOLDER / shard.name / f"{asset.key_prefix}.part"


if __name__ == "__main__":
    sys.exit(main())

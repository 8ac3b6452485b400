"""Turns animated assets into WebDataset shards: `python curation/pipeline.py --source DIR --output DIR`.

The driver makes the plan, submits assets to Ray, writes the ledger, and has a shard written as soon as all its assets
have ended. Its whole state is in the output folder, so a run resumes after a crash: rerun the same command.
"""

from __future__ import annotations

import sys
from pathlib import Path

if not __package__:
    # Run as a script (as `ray job submit` does), this folder is on the path: replace it by the checkout.
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import functools
import json
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Mapping
from dataclasses import replace
from importlib import metadata

from helix4d import __version__
from helix4d.core import AssetState, ConfigError, Helix4DError, insist, setup_logging, write_json
from helix4d.core.locks import locked
from helix4d.curation.command import parse_config
from helix4d.curation.config import CurateConfig
from helix4d.curation.index.table import check_pyarrow, write_index
from helix4d.curation.places.names import is_url
from helix4d.curation.plan.plan import Plan, PlannedAsset, PlannedShard
from helix4d.curation.plan.plan_file import write_plan
from helix4d.curation.plan.run_plan import exclusions_of, plan_run
from helix4d.curation.publish.describe import DESCRIPTION_FILES, write_description
from helix4d.curation.report.page import PICTURED_BY_CURATE, write_report
from helix4d.curation.report.summary import (
    RunFigures,
    Summary,
    print_plan,
    print_summary,
    summarize,
    write_contact_sheet,
)
from helix4d.curation.shards.layout import (
    CONTACT_SHEET_FILE,
    LEDGER_FILE,
    PLAN_FILE,
    REPORT_FOLDER,
    SUMMARY_FILE,
    WORK_FOLDER,
)
from helix4d.curation.shards.ledger import Ledger
from helix4d.curation.shards.mirror import Mirror
from helix4d.curation.shards.sidecar import read_sidecar
from helix4d.curation.shards.writer import split_shard
from helix4d.curation.sources.source import is_absolute
from helix4d.curation.work.cluster import Cluster
from helix4d.curation.work.curate_task import curate_task, reserve_gpus
from helix4d.curation.work.events import follow
from helix4d.curation.work.gpus import render_device
from helix4d.curation.work.jobs import ShardJob, asset_job
from helix4d.curation.work.progress import Display
from helix4d.curation.work.ray_loop import run_tasks
from helix4d.curation.work.shard_writer import ShardWriter
from helix4d.render import EngineOption, check_engine, load_engine
from helix4d.render.scene.environment import load_map

log = logging.getLogger("helix4d.curation")

_TOOLS_FILE = "tools.json"


def main(arguments: list[str] | None = None, program: str = "python curation/pipeline.py") -> int:
    """Run the command. Returns the exit status: 0 unless the run itself failed, 2 otherwise."""
    setup_logging()
    try:
        config = parse_config(arguments, program)
        if config.run.verbose:
            log.setLevel(logging.DEBUG)
        if config.run.dry_run:
            _show_plan(config.with_environment_maps())
        else:
            print_summary(curate(config), config)
    except Helix4DError as error:
        log.error("%s", error)
        return 2
    return 0


def curate(config: CurateConfig) -> Summary:
    """Run the pipeline to its end and return its summary.

    Raises:
        ConfigError: if the source or the output does not match the configuration.
    """
    start = time.monotonic()
    _check_folders(config)
    check_pyarrow("helix4d curate: writing the index")
    check_engine(config.sample.engine, config.run.hdf5)  # fail here, once, and not for every asset
    config = config.with_environment_maps()
    if config.hdri is not None:
        for name, sha256 in config.sample.environment_maps.items():
            load_map(config.hdri, name, sha256)  # likewise
    if config.sample.engine in ("raster", "auto"):
        load_engine("raster")  # fails if there is no OpenGL driver
    with locked(config.output):
        mirror = mirror_of(config)
        mirror.pull()
        plan, record = plan_run(config)
        exclusions = exclusions_of(config)
        patience_s = config.run.limits.patience_s
        insist(lambda: write_plan(config, record, exclusions), config.output, patience_s)
        mirror.push(PLAN_FILE)
        ledger = Ledger(config.output / LEDGER_FILE, patience_s)
        ledger.append_left_out(plan.left_out)
        tools = tool_versions(config.sample.engine)
        insist(lambda: _keep_parts_of(tools, config.output / WORK_FOLDER), config.output, patience_s)
        if config.run.retry_failed:
            _reopen_failed(plan, ledger, config.output, mirror, tools)
        work = _fill_shards(config, plan, ledger, mirror)
        shutil.rmtree(config.output / WORK_FOLDER, ignore_errors=True)
        summary = summarize(plan, ledger, config.output, replace(work, wall_s=time.monotonic() - start))

        def write_summary() -> None:
            write_json(config.output / SUMMARY_FILE, summary.to_json())
            write_contact_sheet(config.output / CONTACT_SHEET_FILE, plan, config.remote or config.output)

        insist(write_summary, config.output, patience_s)
        mirror.finish(SUMMARY_FILE, CONTACT_SHEET_FILE)
        place, report = config.remote or config.output, config.output / REPORT_FOLDER
        shards = [shard.name for shard in plan.shards]
        mirror.push(*insist(lambda: write_index(place, shards, config.output), config.output, patience_s))
        insist(lambda: write_description(config.output), config.output, patience_s)
        mirror.push(*DESCRIPTION_FILES)
        insist(lambda: write_report(place, PICTURED_BY_CURATE, config.run.workers, report), config.output, patience_s)
        mirror.push_report()
    return summary


def _show_plan(config: CurateConfig) -> None:
    if config.remote is None:
        print_plan(plan_run(config)[0], config.sample)
        return
    # Use a temporary folder: synchronizing the working folder could publish or delete shards.
    with tempfile.TemporaryDirectory(prefix="helix4d-") as folder:
        copied = replace(config, output=Path(folder))
        mirror_of(copied).pull()
        print_plan(plan_run(copied)[0], config.sample)


def mirror_of(config: CurateConfig) -> Mirror:
    """Return the published copy of the output."""
    return Mirror(config.output, config.remote, config.downloads)


def _check_folders(config: CurateConfig) -> None:
    # The driver of a Ray job runs in an unpacked copy of the working directory, which is deleted when the job ends.
    in_a_job = "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ
    folders = {"source": config.source, "output": config.output, "hdri": config.hdri, "hdf5": config.run.hdf5}
    for name, folder in folders.items():
        if in_a_job and folder is not None and not is_absolute(str(folder)):
            raise ConfigError(f"--{name} {folder}: in a Ray job, this must be an absolute path that every node sees")
    if config.remote is None and not is_url(config.source) and config.output.resolve() == Path(config.source).resolve():
        raise ConfigError(f"--output {config.output}: is the same folder as --source: choose a folder for the shards")


def _keep_parts_of(tools: Mapping[str, str], work: Path) -> None:
    """Delete parts made with different package versions: a shard records a single version of each package."""
    path = work / _TOOLS_FILE
    if work.exists() and not (path.exists() and json.loads(path.read_bytes()) == tools):
        log.warning("%s: was made with different package versions: processing its assets again", work)
        shutil.rmtree(work)
    write_json(path, tools)


def _reopen_failed(plan: Plan, ledger: Ledger, output: Path, mirror: Mirror, tools: Mapping[str, str]) -> None:
    """Forget failures. Committed shards without them are split into parts again, if the package versions match."""
    for shard in plan.shards:
        failed = [a for a in shard.assets if _state(ledger, a) is AssetState.FAILED]
        if not failed:
            continue
        tar = _tar(output, shard)
        sidecar = read_sidecar(tar)
        if sidecar is not None:
            mirror.take_back(tar)
            if sidecar["tools"] == tools:
                split_shard(tar, sidecar, {asset.key_prefix: _part(output, shard, asset) for asset in shard.assets})
            tar.with_suffix(".json").unlink()
        for asset in failed:
            del ledger.outcomes[asset.source.name]


def _fill_shards(config: CurateConfig, plan: Plan, ledger: Ledger, mirror: Mirror) -> RunFigures:
    output = config.output
    open_shards = {shard.name: shard for shard in plan.shards if read_sidecar(_tar(output, shard)) is None}
    todo: dict[str, set[str]] = {}
    waiting: list[tuple[PlannedShard, PlannedAsset]] = []
    shard_of: dict[str, PlannedShard] = {}
    for shard in open_shards.values():
        todo[shard.name] = set()
        for asset in shard.assets:
            part = _part(output, shard, asset)
            state = _state(ledger, asset)
            if state is None or (state is AssetState.DONE and not part.exists()):
                todo[shard.name].add(asset.source.name)
                shard_of[asset.source.name] = shard
                waiting.append((shard, asset))
    if not open_shards:
        return RunFigures()
    total = sum(len(shard.assets) for shard in plan.shards)
    stage = "render" if config.sample.views or config.sample.fixed_views else ""
    with Cluster(config.run) as cluster, Display(total, total - len(waiting), stage=stage) as display:
        writer = ShardWriter(cluster)

        def write_if_complete(shard: PlannedShard) -> None:
            if not todo[shard.name]:
                mirror.push_ledger()
                writer.start(_shard_job(config, shard, ledger))

        for shard in open_shards.values():
            write_if_complete(shard)
        gpus = reserve_gpus(cluster, config.run, config.sample.engine)
        task = curate_task(config.run, gpus, render_device(config.sample.engine, gpus))
        # Jobs are created when they start: a million of them would take 0.8 GB of the driver's memory.
        jobs = (asset_job(config, asset, _part(output, shard, asset).resolve()) for shard, asset in waiting)
        workers, busy_s, begun = task.places(cluster), 0.0, time.monotonic()
        # End the run as soon as a shard cannot be written, instead of at the very end.
        for outcome in follow(run_tasks(cluster, [task], jobs), ledger, display, writer.check):
            busy_s += sum(outcome.timings_s.values())
            shard = shard_of[outcome.asset]
            todo[shard.name].discard(outcome.asset)
            write_if_complete(shard)
        work_s = time.monotonic() - begun
        writer.finish()
    return RunFigures(len(waiting), workers, busy_s, work_s)


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
        "tools": tool_versions(config.sample.engine),
        "gaps": gaps,
    }
    return ShardJob(
        tar=_tar(config.output, shard).resolve(),
        parts=tuple(parts),
        facts=facts,
        patience_s=config.run.limits.patience_s,
        folder=config.output.resolve(),
        remote=config.remote,
        downloads=config.downloads,
    )


@functools.cache
def tool_versions(engine: EngineOption = "cycles") -> Mapping[str, str]:
    """Return the versions of all packages that can change a byte of a shard."""
    packages = ["bpy", "DracoPy", "meshoptimizer", "numba", "numpy", "OpenEXR", "pillow", "zstandard"]
    packages += {"auto": ["moderngl"], "cycles": [], "raster": ["moderngl"], "blenderproc": ["blenderproc"]}[engine]
    python = ".".join(map(str, sys.version_info[:3]))
    return {"helix4d": __version__, "python": python, **{name: metadata.version(name) for name in packages}}


def _state(ledger: Ledger, asset: PlannedAsset) -> AssetState | None:
    outcome = ledger.outcomes.get(asset.source.name)
    return None if outcome is None else outcome.state


def _tar(output: Path, shard: PlannedShard) -> Path:
    return output / f"{shard.name}.tar"


def _part(output: Path, shard: PlannedShard, asset: PlannedAsset) -> Path:
    return output / WORK_FOLDER / shard.name / f"{asset.key_prefix}.part"


if __name__ == "__main__":
    sys.exit(main())

"""Measure every clip of a source without making samples: writes a plan and a ledger like a run, but no shards.

Resumable like a run, and readable like an output.
"""

from __future__ import annotations

from pathlib import Path

from helix4d.core.locks import locked
from helix4d.curation.config import CurateConfig, RunConfig, SampleConfig
from helix4d.curation.plan.plan_file import write_plan
from helix4d.curation.plan.run_plan import plan_run
from helix4d.curation.shards.layout import LEDGER_FILE, WORK_FOLDER
from helix4d.curation.shards.ledger import Ledger
from helix4d.curation.work.cluster import Cluster
from helix4d.curation.work.curate_task import curate_task
from helix4d.curation.work.events import follow
from helix4d.curation.work.jobs import asset_job
from helix4d.curation.work.progress import Display
from helix4d.curation.work.ray_loop import run_tasks


def measure_source(source: str, folder: Path, sample: SampleConfig, run: RunConfig) -> None:
    """Bake and measure the assets that `folder` has no measures of yet.

    Args:
        source: a source as `helix4d curate` takes it.
        folder: folder for the plan and the ledger.
        sample: settings of the samples; only `frames` and `clip` matter, and its filters reject nothing.
        run: workers and limits.

    Raises:
        ConfigError: if `folder` was started with different settings or assets.
    """
    config = CurateConfig(source, folder, sample=sample, run=run)
    with locked(folder):
        plan, record = plan_run(config)
        write_plan(config, record, {})
        ledger = Ledger(folder / LEDGER_FILE, run.limits.patience_s)
        ledger.append_left_out(plan.left_out)
        jobs = [
            asset_job(config, asset, (folder / WORK_FOLDER / f"{asset.key_prefix}.part").resolve(), measure_only=True)
            for _, asset in plan.assets()
            if asset.source.name not in ledger.outcomes
        ]
        if not jobs:
            return
        total = len(plan.assets())
        with Cluster(run) as cluster, Display(total, total - len(jobs)) as display:
            for _ in follow(run_tasks(cluster, [curate_task(run)], jobs), ledger, display):
                pass

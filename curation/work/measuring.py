"""Measures of every clip of a source without making samples: a plan and a ledger, as of a run, but no shards.

So it goes on where it stopped, as a run does, and is read as an output is.
"""

from __future__ import annotations

from pathlib import Path

from helix4d.core.locks import locked
from helix4d.curation.config import CurateConfig, RunConfig, SampleConfig
from helix4d.curation.plan.planning import plan_run
from helix4d.curation.plan.stored_plan import write_plan
from helix4d.curation.shards.layout import LEDGER_FILE, WORK_FOLDER
from helix4d.curation.shards.ledger import Ledger
from helix4d.curation.work.engine import Engine, Tick
from helix4d.curation.work.jobs import asset_job
from helix4d.curation.work.progress import Display


def measure_source(source: str, folder: Path, sample: SampleConfig, run: RunConfig) -> None:
    """Bake and measure what `folder` does not have yet.

    Args:
        source: as for `helix4d curate`.
        folder: where plan and ledger go.
        sample: its `frames` and `clip` count, its filters decide nothing.
        run: workers, limits, and so on.

    Raises:
        ConfigError: if `folder` was begun for other settings or assets.
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
        with Engine(run) as engine, Display(total, total - len(jobs)) as display:
            for news in engine.work(jobs):
                if isinstance(news, Tick):
                    display.show(news.stages)
                    continue
                ledger.append(*news.outcomes)
                for outcome in news.outcomes:
                    display.advance(outcome)

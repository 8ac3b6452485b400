"""`helix4d sample`: a video in, a textured mesh a frame out."""

from __future__ import annotations

import logging

import tyro
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from helix4d.core import Helix4DError, setup_logging


def run(arguments: list[str]) -> int:
    """Run the command; returns the exit status."""
    from helix4d.model.sampling.sample_run import SampleRun, run_sample

    setup_logging()
    try:
        config = tyro.cli(SampleRun, prog="helix4d sample", args=arguments)
        columns = (TextColumn("{task.description:16}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns) as bars:
            tasks: dict[str, int] = {}

            def tell(stage: str, done: int, steps: int) -> None:
                task = tasks.setdefault(stage, len(tasks))
                if task == len(bars.tasks):
                    bars.add_task(stage, total=steps)
                bars.update(bars.task_ids[task], completed=done)

            facts = run_sample(config, tell)
    except Helix4DError as error:
        logging.getLogger("helix4d.model").error("%s", error)
        return 2
    seconds = ", ".join(f"{stage} {value:.1f}" for stage, value in facts["seconds"].items())
    faces = sum(frame["faces"] for frame in facts["frames"])
    print(f"{config.output}: {len(facts['frames'])} frames, {faces:,} triangles; seconds: {seconds}")
    return 0

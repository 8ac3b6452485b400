"""`helix4d sample`: turns a video into one textured mesh per frame."""

from __future__ import annotations

import tyro
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)


def run(arguments: list[str]) -> int:
    """Run the command; returns the exit status."""
    from helix4d.model.sampling.sample_run import SampleRun, run_sample

    marks = (tyro.conf.EnumChoicesFromValues, tyro.conf.OmitArgPrefixes)
    config = tyro.cli(SampleRun, prog="helix4d sample", args=arguments, config=marks)
    columns = (
        TextColumn("{task.description:20}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns) as bars:
        tasks: dict[str, int] = {}

        def show(stage: str, done: int, steps: int) -> None:
            task = tasks.setdefault(stage, len(tasks))
            if task == len(bars.tasks):
                bars.add_task(stage, total=steps)
            bars.update(bars.task_ids[task], completed=done, total=steps)

        facts = run_sample(config, show)
    seconds = ", ".join(f"{stage} {value:.1f}" for stage, value in facts["seconds"].items())
    faces = sum(frame["faces"] for frame in facts["frames"])
    print(f"{config.output}: {len(facts['frames'])} frames, {faces:,} triangles; seconds per stage: {seconds}")
    failed = [number for number, frame in enumerate(facts["frames"]) if "error" in frame]
    if failed:
        print(f"frames {failed} failed: {config.output / 'run.json'} has the reasons")
    return 1 if failed else 0

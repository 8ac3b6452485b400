"""Tables 3 and 4 of the paper from our own runs: attention pattern, rotary variant, first-frame conditioning.

Each variant changes one of the three in a given configuration and is trained once per seed, in its own process.
Finished runs are not repeated; failed runs are listed as failed. The columns are chamfer distances (as in the paper,
but with another alignment), relative time and the training loss.
"""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from helix4d.core import ConfigError, write_bytes, write_json
from helix4d.core.processes import child_environment
from helix4d.train.checkpoint import list_checkpoints, load_checkpoint
from helix4d.train.config import TrainConfig
from helix4d.train.resume import check_same_run
from helix4d.train.study.held_out import HeldOut, RunFigures

log = logging.getLogger("helix4d.train")

Launch = Callable[[Path], int]
"""Trains the run of a settings file and returns the exit status."""


@dataclass(frozen=True)
class Variant:
    """A change to a configuration; the values are those of configs/ablations/."""

    name: str
    video: Mapping[str, Any] = field(default_factory=dict)
    first_frame: bool = True

    def apply(self, config: TrainConfig, seed: int, output: Path) -> TrainConfig:
        """Return the configuration of this variant's run with this seed."""
        ours = {"pattern": "window_anchor", "temporal": "repurposed"}
        video = replace(config.network.video, **{**ours, **self.video})
        return replace(
            config,
            name=f"{self.name}_seed{seed}",
            seed=seed,
            network=replace(config.network, video=video, first_frame=self.first_frame),
            run=replace(config.run, output=str(output), preview_every=0),
        )


OURS = Variant("ours")
GROUPS: Mapping[str, Mapping[str, Variant]] = {
    "Attention pattern (Table 4)": {
        "window and anchor (ours)": OURS,
        "full": Variant("attention_full", {"pattern": "full"}),
        "causal": Variant("attention_causal", {"pattern": "causal"}),
        "window": Variant("attention_window", {"pattern": "window"}),
        "spatial": Variant("attention_spatial", {"pattern": "spatial"}),
    },
    "Rotary (Table 3)": {
        "repurposed (ours)": OURS,
        "second rotation (SS4D)": Variant("rotary_ss4d", {"temporal": "ss4d", "kept": 1.0}),
        "no time": Variant("rotary_none", {"temporal": "none", "kept": 1.0}),
    },
    "First frame (Table 3)": {
        "given (ours)": OURS,
        "not given": Variant("first_frame_off", first_frame=False),
    },
}
_COLUMNS = ("CD, aligned", "CD, in place", "relative time", "loss")


@dataclass(frozen=True)
class StudyRun:
    """One variant with one seed: its figures, or the reason why it failed."""

    variant: str
    seed: int
    figures: RunFigures | None
    failure: str = ""


def study_ablations(
    config: TrainConfig,
    seeds: Sequence[int],
    output: Path,
    split: str,
    clips: int,
    groups: Mapping[str, Mapping[str, Variant]] = GROUPS,
    launch: Launch | None = None,
) -> str:
    """Train and evaluate every variant with every seed; write `ablations.json` and `ablations.md`, return the latter.

    Args:
        config: configuration that the variants change; its name and seed are ignored.
        seeds: seeds of initialization, data and noise.
        output: folder for the runs (`VARIANT_seedN`) and the two files.
        split: split to evaluate on.
        clips: maximum number of clips to evaluate on.
        groups: tables of variants by label; "ours" is one run shared by all tables.
        launch: function that trains a run; by default in its own process.

    Raises:
        ConfigError: if clips or decoders are missing, or an existing run has other settings.
    """
    if not seeds or len(set(seeds)) != len(seeds):
        raise ConfigError(f"seeds are {list(seeds)}: must be at least one, without duplicates")
    held_out = HeldOut(config, split, clips)
    variants = {v.name: v for rows in groups.values() for v in rows.values()}
    runs = []
    # Loop over seeds first, so that compared runs are close in time, with the machine in the same state.
    for seed in seeds:
        for variant in variants.values():
            run = variant.apply(config, seed, output)
            failure = "" if is_finished(run) else _train(run, launch or launch_process)
            runs.append(StudyRun(variant.name, seed, None if failure else held_out.measure(run), failure))
            log.info("%s: %s", run.name, f"failed: {failure}" if failure else "evaluated")
    facts = {
        "steps": config.steps,
        "batch": config.batch,
        "stage": config.stage.value,
        "seeds": list(seeds),
        "split": split,
        "keys": held_out.keys,
        "trained_on": config.data.split,
    }
    table = format_study(runs, groups, facts)
    write_json(output / "ablations.json", {**facts, "runs": [asdict(run) for run in runs]})
    write_bytes(output / "ablations.md", table.encode())
    return table


def is_finished(config: TrainConfig) -> bool:
    """Return whether a run has its final checkpoint.

    Raises:
        ConfigError: if the run was started with different settings, or has more steps than configured.
    """
    saved = list_checkpoints(config.folder)
    if not saved:
        return False
    state = load_checkpoint(saved[-1]).state
    check_same_run(state.config, config)
    if state.step > config.steps:
        raise ConfigError(
            f"{config.folder}: the run has {state.step} steps, more than the study's {config.steps}: use another output"
        )
    return state.step == config.steps


def launch_process(settings: Path) -> int:
    """Run `python -m helix4d.train` with its output in a `.log` file next to the settings."""
    with open(settings.with_suffix(".log"), "ab") as stream:
        command = [sys.executable, "-m", "helix4d.train", "--config", str(settings)]
        return subprocess.run(command, stdout=stream, stderr=stream, check=False, env=child_environment()).returncode


def format_study(
    runs: Sequence[StudyRun], groups: Mapping[str, Mapping[str, Variant]], facts: Mapping[str, Any]
) -> str:
    """Format the tables in Markdown: mean ± standard deviation over finished seeds, followed by the failures."""
    relation = "the training clips" if facts["split"] == facts["trained_on"] else "held out from training"
    lines = [
        f"{facts['stage']} stage, {facts['steps']} steps of {facts['batch']} clips, seeds "
        f"{', '.join(map(str, facts['seeds']))}; evaluated on {len(facts['keys'])} clips of the {facts['split']} split "
        f"({relation}).",
        "Mean ± standard deviation over seeds, excluding frame 0. CD: chamfer distance, both directions summed, in "
        "place (predictions are in the clip's frame) or with each frame aligned by a similarity transform. CD-3D and "
        "CD-4D of ActionBench use another alignment.",
        "",
    ]
    ours = {run.seed: run.figures for run in runs if run.variant == OURS.name}
    for title, rows in groups.items():
        lines += [
            f"| {title} | {' | '.join(_COLUMNS)} | runs | empty frames |",
            "|---|" + "---:|" * (len(_COLUMNS) + 2),
        ]
        for label, variant in rows.items():
            lines.append(f"| {label} | {' | '.join(_cells([r for r in runs if r.variant == variant.name], ours))} |")
        lines.append("")
    failed = [run for run in runs if run.figures is None]
    lines += [f"- {run.variant}_seed{run.seed} failed: {run.failure}" for run in failed]
    return "\n".join(lines).rstrip("\n") + "\n"


def _train(config: TrainConfig, launch: Launch) -> str:
    """Train a run and return the reason if it failed, else an empty string."""
    settings = config.folder.with_suffix(".json")
    write_json(settings, config.to_json())
    log.info("%s: training", config.name)
    status = launch(settings)
    if status == 0 and is_finished(config):
        return ""
    output = settings.with_suffix(".log")
    lines = output.read_text(errors="replace").strip().splitlines() if output.exists() else []
    return f"exit status {status}" + (f" ({lines[-1].strip()})" if lines else "")


def _cells(runs: Sequence[StudyRun], ours: Mapping[int, RunFigures | None]) -> list[str]:
    """Format the columns of one variant's runs."""
    done = [(run.seed, run.figures) for run in runs if run.figures is not None]
    failed = len(runs) - len(done)
    if not done:
        return ["failed"] * len(_COLUMNS) + [f"0 of {len(runs)}, {failed} failed", "failed"]
    ratios = [f.seconds_per_step / base.seconds_per_step for seed, f in done if (base := ours.get(seed)) is not None]
    return [
        _spread([f.aligned for _, f in done], 4),
        _spread([f.in_place for _, f in done], 4),
        _spread(ratios, 2),
        _spread([f.loss for _, f in done], 3),
        f"{len(done)} of {len(runs)}" + (f", {failed} failed" if failed else ""),
        f"{sum(f.empty for _, f in done)} of {sum(f.empty + f.frames for _, f in done)}",
    ]


def _spread(values: Sequence[float | None], digits: int) -> str:
    """Format mean ± sample standard deviation of the available values, or only the value if there is one."""
    known = [value for value in values if value is not None]
    if not known:
        return "-"
    spread = f" ± {stdev(known):.{digits}f}" if len(known) > 1 else ""
    return f"{fmean(known):.{digits}f}{spread}"

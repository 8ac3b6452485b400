"""`helix4d verify`: checks an output and prints the commands that repair it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import tyro

from helix4d.core import ConfigError
from helix4d.curation.places.folder import Place, place_of
from helix4d.curation.report.words import counted
from helix4d.curation.shards.problems import UNKNOWN_MAPS, UNKNOWN_SETTINGS, UNKNOWN_SOURCE, repair
from helix4d.curation.verify.output import Report, verify


@dataclass(frozen=True)
class Verify:
    """Check every hash, index, count and sample of an output of `helix4d curate`. Writes nothing.

    The checks cover the plan and its settings; each shard's SHA-256, member order, tar headers and index; every sample
    (complete, decodable, with the recorded counts); the agreement of ledger, plan and shards about every asset; the
    summary; and files left behind by killed runs.

    Each problem is printed on one line: file, sample, what was found and what was expected. Below are shell commands
    that rebuild the broken parts and nothing else. Rebuilt shards are byte-identical to the originals if the assets,
    package versions and render device are unchanged.

    Exit status: 0 if there are no problems, 1 if there are, 2 if the output could not be checked.
    """

    output: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="OUTPUT")]
    """Folder or URL written by `helix4d curate`. From a URL, every byte is downloaded once and nothing is stored."""
    workers: Annotated[int | None, tyro.conf.arg(metavar="N", help_behavior_hint="(default: one per CPU)")] = None
    """Number of shards to check at the same time."""


def run(arguments: list[str]) -> int:
    """Run the command; returns the exit status."""
    config = tyro.cli(Verify, prog="helix4d verify", args=arguments)
    if config.workers is not None and config.workers < 1:
        raise ConfigError(f"--workers {config.workers}: must be at least 1")
    output = place_of(config.output)
    report = verify(output, config.workers)
    _print(report, output)
    return 1 if report.problems else 0


def _print(report: Report, output: Place) -> None:
    for problem in report.problems:
        print(problem)
    totals = ", ".join(
        counted(number, noun)
        for number, noun in ((report.shards, "shard"), (report.samples, "sample"), (report.assets, "asset"))
    )
    print(f"{output}: {totals}: {counted(len(report.problems), 'problem') if report.problems else 'no problems'}")
    commands = repair(report.problems)
    if not commands:
        return
    print("\nRepair commands (they rebuild only what is broken):")
    for command in commands:
        print(f"  {command}")
    if any(f"--source {UNKNOWN_SOURCE} " in command for command in commands):
        print(
            f"Replace {UNKNOWN_SOURCE} by the --source of the first run, and add its --limit and --exclude: "
            "plan.json does not record them."
        )
    if any(f" --hdri {UNKNOWN_MAPS}" in command for command in commands):
        print(f"Replace {UNKNOWN_MAPS} by the --hdri of the first run: plan.json does not record it.")
    if any(command.endswith(f" {UNKNOWN_SETTINGS}") for command in commands):
        print(
            f"Replace {UNKNOWN_SETTINGS} by the settings of the first run, such as --resolution 512: "
            "neither plan.json nor a shard records them."
        )

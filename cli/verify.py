"""`helix4d verify`: is an output still what was written, and if not, which commands rewrite just that."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Annotated

import tyro

from helix4d.core import ConfigError, Helix4DError, setup_logging
from helix4d.curation.places.folder import Place, place_of
from helix4d.curation.shards.problems import UNKNOWN_SETTINGS, UNKNOWN_SOURCE, repair
from helix4d.curation.verify.output import Report, verify


@dataclass(frozen=True)
class Verify:
    """Check every hash, index, count and sample of an output of `helix4d curate`. Writes nothing.

    Checked are: the plan and its settings; that every planned shard and its sidecar are there; each tar's SHA-256, its
    members against the index, their order and their fixed headers; every sample (all members there, O-Voxels, images
    and cameras decodable, counts as recorded); that ledger, plan and shards tell the same of every asset; the
    summary; and what killed runs left behind.

    Each problem is one line: file, sample, what was found and what was expected. After them come the shell commands
    that rewrite what is broken and nothing else; the rebuilt shards have the bytes that they had, where source, package
    versions and render device are the same.

    Exit status: 0 without problems, 1 with problems, 2 if nothing could be checked.
    """

    output: Annotated[str, tyro.conf.Positional]
    """Folder that `helix4d curate` wrote, or a URL: there every byte is moved once and nothing is kept here."""
    workers: int | None = None
    """Shards checked at the same time. Default: one a core."""


def run(arguments: list[str]) -> int:
    """Run the command; returns the exit status."""
    config = tyro.cli(Verify, prog="helix4d verify", args=arguments)
    setup_logging()
    try:
        if config.workers is not None and config.workers < 1:
            raise ConfigError(f"--workers {config.workers}: at least 1 is needed")
        output = place_of(config.output)
        report = verify(output, config.workers)
    except Helix4DError as error:
        print(f"helix4d verify: {error}", file=sys.stderr)
        return 2
    _print(report, output)
    return 1 if report.problems else 0


def _print(report: Report, output: Place) -> None:
    for problem in report.problems:
        print(problem)
    found = f"{len(report.problems)} problem{'s' * (len(report.problems) != 1)}" if report.problems else "no problem"
    print(f"{output}: {report.shards} shards, {report.samples} samples, {report.assets} assets: {found}")
    commands = repair(report.problems)
    if not commands:
        return
    print("\nTo rewrite what is broken:")
    for command in commands:
        print(f"  {command}")
    if any(f"--source {UNKNOWN_SOURCE} " in command for command in commands):
        print(
            f"{UNKNOWN_SOURCE}: the folder of assets of the first run, with its --limit and --exclude; "
            "plan.json does not name it"
        )
    if any(command.endswith(f" {UNKNOWN_SETTINGS}") for command in commands):
        print(f"{UNKNOWN_SETTINGS}: those of the first run; neither plan.json nor a shard names them")

"""`helix4d bench build` turns stills into the videos of Helix4DBench; `helix4d bench verify` checks them."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

_USAGE = """usage: helix4d bench {build,verify} [--help] ...

  build   animate the stills of Helix4DBench with Wan2.2 and remove their backgrounds (resumable)
  verify  check a finished or unfinished build, and list the videos to review"""


@dataclass(frozen=True)
class Verify:
    """Check an output of `helix4d bench build`. Writes nothing.

    A problem is a file that differs from what was written: it is missing or altered, has the wrong number of frames,
    is not a square RGBA image, or disagrees with the manifest, the plan or the ledger.

    A doubt is a video to review: nearly empty or nearly opaque frames, a hazy matte, a flickering
    silhouette, or a first frame that differs from the still. docs/bench.md defines the measures and their limits.

    Exit status: 0 if there are no problems, 1 if there are, 2 if the output could not be checked.
    """

    output: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="OUTPUT")]
    """Folder written by `helix4d bench build`."""
    stills: Annotated[Path | None, tyro.conf.arg(metavar="DIR", help_behavior_hint="(default: OUTPUT/stills)")] = None
    """Folder of the stills that the build used."""
    strict: bool = False
    """Also exit with 1 if there are doubts, or if an entry of the manifest has not been built."""


def run(arguments: list[str]) -> int:
    """Run the command; returns the exit status."""
    if not arguments or arguments[0] not in ("build", "verify"):
        wants_help = bool(arguments) and arguments[0] in ("-h", "--help")
        print(_USAGE, file=sys.stdout if wants_help else sys.stderr)
        return 0 if wants_help else 2
    name, *rest = arguments
    return _build(rest) if name == "build" else _verify(rest)


def _build(arguments: list[str]) -> int:
    from helix4d.bench_builder.build import SHEET_FILE, VIDEOS, BuildConfig, build
    from helix4d.core.command_line import parse

    config = parse(BuildConfig, "helix4d bench build", arguments)
    counts = build(config)
    totals = ", ".join(f"{number} {state}" for state, number in sorted(counts.items()))
    print(f"{config.output / VIDEOS}: {totals}")
    if (sheet := config.output / SHEET_FILE).exists():
        print(f"contact sheet: {sheet}")
    return 0


def _verify(arguments: list[str]) -> int:
    from helix4d.bench_builder.verify import verify

    config = tyro.cli(Verify, prog="helix4d bench verify", args=arguments)
    report = verify(config.output, config.stills)
    for title, lines in (("problem", report.problems), ("doubt", report.doubts), ("failed", report.failed)):
        for line in lines:
            print(f"{title}: {line}")
    drift = "" if report.checked_stills else " (stills not found: drift is taken from entry.json)"
    numbers = f"{report.built} built, {len(report.failed)} failed, {len(report.missing)} not attempted"
    print(f"{config.output}: {numbers}; {len(report.problems)} problems, {len(report.doubts)} doubts{drift}")
    if report.problems:
        print("To rebuild the videos with problems, and no others, rerun the same `helix4d bench build` command.")
    bad = report.problems or (config.strict and (report.doubts or report.failed or report.missing))
    return 1 if bad else 0

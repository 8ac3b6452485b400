"""`helix4d bench`: `build`, stills to the videos of Helix4DBench, and `verify`, whether they are what was written."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from helix4d.core import Helix4DError, setup_logging

_USAGE = """usage: helix4d bench {build,verify} [--help] ...

  build   animates the stills of Helix4DBench with Wan2.2 and removes their backgrounds; goes on where it stopped
  verify  checks what was built, and names videos that a person should look at"""


@dataclass(frozen=True)
class Verify:
    """Check an output of helix4d bench build. Writes nothing.

    Problems are files that are not what was written: missing or altered ones, another number of frames, frames that
    are no square RGBA images, an entry.json that does not follow from manifest and plan, a ledger that says otherwise.

    Doubts are videos to look at: nearly empty or nearly opaque frames, hazy mattes, an area that flickers, a first
    frame that differs from the still. docs/bench.md has the definitions and the limits.

    Exit status: 0 without problems, 1 with problems, 2 if nothing could be checked.
    """

    output: Annotated[Path, tyro.conf.Positional]
    """Folder that helix4d bench build wrote."""
    stills: Path | None = None
    """Folder with the stills, if they were given to the build. Default: those that it downloaded."""
    strict: bool = False
    """Exit with 1 for doubts, too, and unless every entry of the manifest is built."""


def run(arguments: list[str]) -> int:
    """Run the command; returns the exit status."""
    if not arguments or arguments[0] not in ("build", "verify"):
        wants_help = bool(arguments) and arguments[0] in ("-h", "--help")
        print(_USAGE, file=sys.stdout if wants_help else sys.stderr)
        return 0 if wants_help else 2
    setup_logging()
    name, *rest = arguments
    try:
        return _build(rest) if name == "build" else _verify(rest)
    except Helix4DError as error:
        print(f"helix4d bench {name}: {error}", file=sys.stderr)
        return 2


def _build(arguments: list[str]) -> int:
    from helix4d.bench_builder.build import SHEET_FILE, VIDEOS, BuildConfig, build

    config = tyro.cli(BuildConfig, prog="helix4d bench build", args=arguments)
    counts = build(config)
    told = ", ".join(f"{number} {state}" for state, number in sorted(counts.items()))
    print(f"{config.output / VIDEOS}: {told}")
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
    drift = "" if report.checked_stills else " (drift as recorded: the stills are not here)"
    numbers = f"{report.built} built, {len(report.failed)} failed, {len(report.missing)} not tried"
    print(f"{config.output}: {numbers}; {len(report.problems)} problems, {len(report.doubts)} doubts{drift}")
    if report.problems:
        print("Running the same helix4d bench build again makes videos with problems anew, and no others.")
    bad = report.problems or (config.strict and (report.doubts or report.failed or report.missing))
    return 1 if bad else 0

"""Runs the real command as a user would, with small settings."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from helix4d.core import sha256_file

REPOSITORY = Path(__file__).resolve().parents[2]
SMALL = {
    "--resolution": 64,
    "--frames": 4,
    "--views": 2,
    "--image-size": 48,
    "--assets-per-shard": 2,
}


def arguments(source: Path | str, output: Path | str, **options: object) -> list[str]:
    """Return the command-line arguments of a small run. Options are spelled with underscores."""
    named = {"--source": source, "--output": output, **SMALL}
    named.update({f"--{name.replace('_', '-')}": value for name, value in options.items()})
    return [str(part) for name, value in named.items() for part in ([name] if value is True else [name, value])]


def start(source: Path | str, output: Path | str, **options: object) -> subprocess.Popen[str]:
    """Start `python curation/pipeline.py` in a process group of its own."""
    # A cluster that was started in this process asks for the token that this process has.
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_") or "AUTH" in name}
    return subprocess.Popen(
        [sys.executable, "curation/pipeline.py", *arguments(source, output, **options)],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        env=kept,
    )


def curate(source: Path | str, output: Path | str, **options: object) -> str:
    """Run the command and return its output; asserts that it succeeds."""
    process = start(source, output, **options)
    printed, _ = process.communicate(timeout=7000)
    assert process.returncode == 0, printed
    return printed


def hashes(output: Path) -> dict[str, str]:
    """Map the relative path of every shard, sidecar and index to its sha256."""
    return {
        path.relative_to(output).as_posix(): sha256_file(path)
        for folder in ("train", "val", "test", "index")
        for path in sorted((output / folder).glob("*"))
    }

"""Helpers that break an output and ask `verify` what is wrong with it."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from helix4d.core import write_json
from helix4d.curation.shards.problems import Problem
from helix4d.curation.shards.reader import ShardReader
from helix4d.curation.shards.writer import Sample, write_part, write_shard
from helix4d.curation.verify.output import verify
from tests.curation.runs import REPOSITORY


def problems(output: Path) -> list[Problem]:
    return list(verify(output, workers=1).problems)


def only(output: Path) -> Problem:
    found = problems(output)
    assert len(found) == 1, [str(problem) for problem in found]
    return found[0]


def first_shard(output: Path) -> Path:
    """Return the first shard with a sample."""
    return next(tar for tar in sorted(output.glob("*/*.tar")) if ShardReader(tar).keys())


def name_of(output: Path, path: Path) -> str:
    return path.relative_to(output).as_posix()


def edit_json(path: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    content = json.loads(path.read_bytes())
    edit(content)
    write_json(path, content)


def edit_bytes(path: Path, offset: int, change: Callable[[int], int] = lambda byte: byte ^ 1) -> None:
    data = bytearray(path.read_bytes())
    data[offset] = change(data[offset])
    path.write_bytes(data)


def rewrite(tar: Path, edit: Callable[[str, dict[str, bytes]], object]) -> None:
    """Change the first sample's members and rewrite the shard with a correct hash and index."""
    reader = ShardReader(tar)
    samples = []
    for number, key in enumerate(reader.keys()):
        members = {suffix: reader.read(key, suffix) for suffix in reader.members(key)}
        if number == 0:
            edit(key, members)
        samples.append(Sample(key, members))
    part = tar.with_suffix(".part")
    write_part(part, samples)
    write_shard(tar, [part], {k: reader.sidecar[k] for k in ("split", "config", "config_sha256", "tools", "gaps")})
    part.unlink()


def ledger_lines(output: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (output / "ledger.jsonl").read_bytes().splitlines()]


def write_ledger(output: Path, lines: list[dict[str, Any]]) -> None:
    text = "".join(json.dumps(line, ensure_ascii=False, sort_keys=True) + "\n" for line in lines)
    (output / "ledger.jsonl").write_text(text)


def run_commands(commands: list[str], cwd: Path) -> None:
    """Run shell commands as a user would paste them, with this checkout's `helix4d`."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    environment["PYTHONPATH"] = str(REPOSITORY)
    for command in commands:
        words = shlex.split(command)
        if words[0] == "helix4d":
            command = shlex.join([sys.executable, "-m", "helix4d", *words[1:]])
        done = subprocess.run(
            command, shell=True, cwd=cwd, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr

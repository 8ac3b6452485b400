"""What is broken in an output, and the shell commands that rewrite just that.

A run of `helix4d curate` makes again every shard without a sidecar and every asset without a ledger line, and nothing
else. So a remedy removes what is broken, then runs it once; a remedy that only removes things needs no run.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from helix4d.curation.places.folder import Place, file_in, is_far
from helix4d.curation.shards.layout import LEDGER_FILE, PLAN_FILE

UNKNOWN_SOURCE, UNKNOWN_SETTINGS, UNKNOWN_MAPS = "SOURCE", "SETTINGS", "HDRI"
"""Stand in a command for what no file of the output tells: folders, and the settings of the samples."""


_DISCARD, _LINES = ("helix4d", "discard"), "--lines"


@dataclass(frozen=True)
class Problem:
    """One thing that is not as it should be.

    Attributes:
        path: the file, relative to the output.
        key: the sample's key, or in the ledger the asset's name; "" where it concerns the whole file.
        what: what was found and what was expected.
        remedy: shell commands that rewrite just that, in order.
    """

    path: str
    key: str
    what: str
    remedy: tuple[str, ...]

    def __str__(self) -> str:
        return ": ".join(part for part in (self.path, self.key, self.what) if part)


@dataclass(frozen=True)
class Remedies:
    """The commands for one output.

    Attributes:
        output: the folder or URL, as the user named it.
        settings: of its samples.
        source: the folder with the assets; None if not known.
        limit: `--limit` of its run.
        exclude: `--exclude` of its run, which a new plan needs again.
        hdri: the folder with the environment maps; None if not known.
    """

    output: Place
    settings: Mapping[str, Any]
    source: str | None = None
    limit: int | None = None
    exclude: str | None = None
    hdri: str | None = None

    @property
    def curate(self) -> str:
        """The run that makes whatever is missing."""
        words = ["helix4d", "curate", "--source", self.source or UNKNOWN_SOURCE, "--output", str(self.output)]
        if self.limit is not None:
            words += ["--limit", str(self.limit)]
        settings = dict(self.settings)
        if settings.pop("environment_maps", None):
            words += ["--hdri", self.hdri or UNKNOWN_MAPS]
        return shlex.join(words + (_flags(settings) or [UNKNOWN_SETTINGS]))

    def resume(self) -> tuple[str, ...]:
        """For what is missing, or written at the end of every run."""
        return (self.curate,)

    def rebuild(self, shard: str) -> tuple[str, ...]:
        """For a damaged shard, `train/helix4d-000000`."""
        return (self._remove(f"{shard}.tar", f"{shard}.json"), self.curate)

    def replan(self) -> tuple[str, ...]:
        """For a damaged plan: the run hashes the source again."""
        again = f"{self.curate} {shlex.join(['--exclude', self.exclude])}" if self.exclude else self.curate
        return (self._remove(PLAN_FILE), again)

    def remove(self, path: str) -> tuple[str, ...]:
        """For a file that should not be there."""
        return (self._remove(path),)

    def forget(self, asset: str, shard: str | None = None) -> tuple[str, ...]:
        """For ledger lines of an asset that are not true; `shard` is the committed shard to make again with it."""
        rebuild = self.rebuild(shard) if shard else (self.curate,)
        if is_far(self.output):
            return (self._discard(f"--assets={asset}"), *rebuild)  # it may begin like an option
        # Quotes inside a JSON string are escaped, so this finds the field alone.
        field = f'"asset": {json.dumps(asset, ensure_ascii=False)}'
        pattern = "".join(f"\\{letter}" if letter in r"\/.*[]^$" else letter for letter in field)
        return (self._sed(f"/{pattern}/d"), *rebuild)

    def remove_lines(self, numbers: Iterable[int]) -> tuple[str, ...]:
        """For lines of the ledger that cannot be read."""
        if is_far(self.output):
            return (self._discard(_LINES, *map(str, numbers)), self.curate)
        return (self._sed(";".join(f"{number}d" for number in numbers)), self.curate)

    def update(self) -> tuple[str, ...]:
        """For a file that is newer than this program, and not broken."""
        return ("# nothing to rewrite: verify it with the newer helix4d that wrote it",)

    def _remove(self, *paths: str) -> str:
        if is_far(self.output):
            return self._discard(*paths)
        return shlex.join(["rm", "-f", *(str(file_in(self.output, path)) for path in paths)])

    def _sed(self, script: str) -> str:
        return shlex.join(["sed", "-i", script, str(file_in(self.output, LEDGER_FILE))])

    def _discard(self, *words: str) -> str:
        return shlex.join([*_DISCARD, str(self.output), *words])


def repair(problems: Iterable[Problem]) -> list[str]:
    """The remedies of all problems together: each command once, removals before runs."""
    commands = dict.fromkeys(command for problem in problems for command in problem.remedy)
    # Line numbers hold until a line is removed.
    return sorted(commands, key=lambda command: (command.startswith("helix4d curate "), not _by_line_number(command)))


def _by_line_number(command: str) -> bool:
    words = shlex.split(command, comments=True)
    if tuple(words[:2]) == _DISCARD:
        return words[3] == _LINES
    return words[:2] == ["sed", "-i"] and words[2][0].isdigit()


def _flags(settings: Mapping[str, Any]) -> list[str]:
    words = []
    for name, value in settings.items():
        flag = f"--{name.replace('_', '-')}"
        if isinstance(value, Mapping):
            words += _flags(value)
        elif isinstance(value, bool):
            words.append(flag if value else flag.replace("--", "--no-", 1))
        elif isinstance(value, list):
            words += [flag, *map(str, value)]
        else:
            words += [flag, str(value)]
    return words

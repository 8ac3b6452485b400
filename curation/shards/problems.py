"""Problems of an output, and the shell commands that repair them.

A run of `helix4d curate` rebuilds every shard without a sidecar, processes every asset without a ledger line, and
changes nothing else. A repair therefore removes what is broken, then starts a run if anything must be rebuilt.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from helix4d.core.terminal import printable_line, shell_command
from helix4d.curation.config import EARLIER, SampleConfig
from helix4d.curation.filters.thresholds import ADDED, FilterConfig
from helix4d.curation.places.folder import Place, file_in, is_far
from helix4d.curation.shards.layout import LEDGER_FILE, PLAN_FILE

UNKNOWN_SOURCE, UNKNOWN_SETTINGS, UNKNOWN_MAPS = "SOURCE", "SETTINGS", "HDRI"
"""Placeholders in a command for values that the output does not record: folders and the settings of the samples."""

_DISCARD, _LINES = ("helix4d", "discard"), "--lines"


_OFF_BY_DEFAULT = frozenset(
    field.name for kind in (FilterConfig, SampleConfig) for field in fields(kind) if field.default in (None, "")
)
"""Options that a command need not mention when they are off."""


@dataclass(frozen=True)
class Problem:
    """A problem of an output.

    Attributes:
        path: file, relative to the output.
        key: key of the sample, or in the ledger the name of the asset; "" if the whole file is concerned.
        what: what was found and what was expected.
        remedy: shell commands that repair it, in order.
    """

    path: str
    key: str
    what: str
    remedy: tuple[str, ...]

    def __str__(self) -> str:
        return printable_line(": ".join(part for part in (self.path, self.key, self.what) if part))


@dataclass(frozen=True)
class Remedies:
    """Repair commands for one output.

    Attributes:
        output: folder or URL, as given by the user.
        settings: settings of the samples.
        source: folder or URL of the assets; None if unknown.
        limit: `--limit` of its run.
        exclude: `--exclude` of its run, which a new plan needs again.
        hdri: folder of the environment maps; None if unknown.
    """

    output: Place
    settings: Mapping[str, Any]
    source: str | None = None
    limit: int | None = None
    exclude: str | None = None
    hdri: str | None = None

    @property
    def curate(self) -> str:
        """The run that rebuilds whatever is missing."""
        words = ["helix4d", "curate", "--source", self.source or UNKNOWN_SOURCE, "--output", str(self.output)]
        if self.limit is not None:
            words += ["--limit", str(self.limit)]
        settings = {**EARLIER, **self.settings} if self.settings else {}
        if isinstance(filters := settings.get("filters"), Mapping):
            settings["filters"] = {**ADDED, **filters}
        if settings.pop("environment_maps", None):
            words += ["--hdri", self.hdri or UNKNOWN_MAPS]
        return shell_command(words + (_flags(settings) or [UNKNOWN_SETTINGS]))

    def resume(self) -> tuple[str, ...]:
        """Return the commands for a missing file, or one that every run writes at its end."""
        return (self.curate,)

    def rebuild(self, shard: str) -> tuple[str, ...]:
        """Return the commands for a damaged shard, such as `train/helix4d-000000`."""
        return (self._remove(f"{shard}.tar", f"{shard}.json"), self.curate)

    def replan(self) -> tuple[str, ...]:
        """Return the commands for a damaged plan: the run hashes the source again."""
        again = f"{self.curate} {shell_command(['--exclude', self.exclude])}" if self.exclude else self.curate
        return (self._remove(PLAN_FILE), again)

    def remove(self, path: str) -> tuple[str, ...]:
        """Return the commands for a file that should not exist."""
        return (self._remove(path),)

    def forget(self, asset: str, shard: str | None = None) -> tuple[str, ...]:
        """Return the commands for false ledger lines of an asset; `shard` is the committed shard to rebuild with it."""
        rebuild = self.rebuild(shard) if shard else (self.curate,)
        if is_far(self.output):
            return (self._discard(f"--assets={asset}"), *rebuild)  # "=", because a name may start with a dash
        # Quotes inside a JSON string are escaped, so this matches only the field.
        field = f'"asset": {json.dumps(asset, ensure_ascii=False)}'
        pattern = "".join(f"\\{letter}" if letter in r"\/.*[]^$" else letter for letter in field)
        return (self._sed(f"/{pattern}/d"), *rebuild)

    def remove_lines(self, numbers: Iterable[int]) -> tuple[str, ...]:
        """Return the commands for lines of the ledger that cannot be read."""
        if is_far(self.output):
            return (self._discard(_LINES, *map(str, numbers)), self.curate)
        return (self._sed(";".join(f"{number}d" for number in numbers)), self.curate)

    def update(self) -> tuple[str, ...]:
        """Return a comment for a file that is intact, but was written by a newer version."""
        return ("# nothing to repair: verify with the newer helix4d version that wrote the output",)

    def _remove(self, *paths: str) -> str:
        if is_far(self.output):
            return self._discard(*paths)
        return shell_command(["rm", "-f", *(str(file_in(self.output, path)) for path in paths)])

    def _sed(self, script: str) -> str:
        return shell_command(["sed", "-i", script, str(file_in(self.output, LEDGER_FILE))])

    def _discard(self, *words: str) -> str:
        return shell_command([*_DISCARD, str(self.output), *words])


def repair(problems: Iterable[Problem]) -> list[str]:
    """Merge the remedies of all problems: each command once, removals before runs."""
    commands = dict.fromkeys(command for problem in problems for command in problem.remedy)
    # First the commands with line numbers, which are valid until a line is removed.
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
        elif name in _OFF_BY_DEFAULT and value in (None, ""):
            continue
        elif isinstance(value, bool):
            words.append(flag if value else flag.replace("--", "--no-", 1))
        elif isinstance(value, list):
            words += [flag, *map(str, value)]
        else:
            words += [flag, str(value)]
    return words

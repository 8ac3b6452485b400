"""What an output folder says that it is: its plan, its settings, and whether the planned files are there.

The settings are the plan's, unless all shards agree on others: then the plan is what was changed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core import ConfigError, FormatError, NewerError, sha256_json
from curation.config import SampleConfig
from curation.ledger import LEDGER_FILE
from curation.plan import SPLITS, Plan
from curation.problems import Problem, Remedies
from curation.shard import read_sidecar
from curation.stored_plan import PLAN_FILE, StoredPlan, read_plan


@dataclass(frozen=True)
class Output:
    """An output folder as far as it could be read.

    Attributes:
        folder: where it is, as the user named it.
        plan: None where plan.json cannot be read.
        settings: of its samples; None where neither the plan nor a shard tells them.
        shards: names of the planned shards; without a plan, of those that are there.
        sidecars: name of a shard -> its sidecar, where that can be read.
        remedies: its commands.
        problems: what was found on the way.
    """

    folder: Path
    plan: Plan | None
    settings: Mapping[str, Any] | None
    shards: tuple[str, ...]
    sidecars: Mapping[str, Mapping[str, Any]]
    remedies: Remedies
    problems: tuple[Problem, ...]


def read_output(folder: Path) -> Output:
    """Read plan and sidecars.

    Raises:
        ConfigError: if the folder is no output of `helix4d curate`.
    """
    if not folder.is_dir():
        raise ConfigError(f"{folder}: no such folder")
    there = _shards_there(folder)
    if not there and not any((folder / name).exists() for name in (PLAN_FILE, LEDGER_FILE)):
        raise ConfigError(f"{folder}: neither plan nor shards in it: give the --output of `helix4d curate`")
    stored, newer, damaged = None, "", ""
    try:
        stored = read_plan(folder)
        damaged = "" if stored else "missing"
    except NewerError as error:
        newer = str(error)
    except (FormatError, UnicodeDecodeError) as error:
        damaged = str(error)
    sidecars = _readable_sidecars(folder, there)
    settings = _settings(stored, sidecars)
    remedies = Remedies(
        folder,
        settings or {},
        stored.source if stored else None,
        stored.limit if stored else None,
        stored.hdri if stored else None,
    )
    problems = []
    if newer:
        problems.append(Problem(PLAN_FILE, "", newer, remedies.update()))
    if damaged:
        problems.append(Problem(PLAN_FILE, "", damaged, remedies.replan()))
    if stored and settings is not None and (wrong := _differences(stored, settings)):
        problems.append(Problem(PLAN_FILE, "", wrong, remedies.replan()))
    if settings is not None and (wrong := _impossible(settings)):
        problems.append(Problem(PLAN_FILE, "", wrong, remedies.replan()))
        settings = None
    plan = stored.plan() if stored else None
    shards = tuple(shard.name for shard in plan.shards) if plan else tuple(there)
    return Output(folder, plan, settings, shards, sidecars, remedies, tuple(problems))


def check_files(output: Output) -> Iterator[Problem]:
    """Every planned shard has both of its files, and there are no others."""
    for name in output.shards:
        tar, sidecar = ((output.folder / f"{name}{suffix}").exists() for suffix in (".tar", ".json"))
        if not tar and not sidecar:
            yield Problem(f"{name}.tar", "", "missing, and its sidecar with it", output.remedies.resume())
        elif not tar:
            yield Problem(f"{name}.tar", "", "missing, though its sidecar is there", output.remedies.rebuild(name))
        elif not sidecar:
            what = "missing: without it the shard does not exist"
            yield Problem(f"{name}.json", "", what, output.remedies.resume())
    for name in _shards_there(output.folder):
        if name not in output.shards:
            for suffix in (".tar", ".json"):
                if (output.folder / f"{name}{suffix}").exists():
                    yield Problem(f"{name}{suffix}", "", "not in the plan", output.remedies.remove(f"{name}{suffix}"))


def _shards_there(folder: Path) -> list[str]:
    return sorted(
        {
            f"{split}/{path.stem}"
            for split in SPLITS
            for path in (folder / split).glob("*")
            if path.suffix in (".tar", ".json") and not path.name.startswith(".")
        }
    )


def _readable_sidecars(folder: Path, names: list[str]) -> dict[str, dict[str, Any]]:
    """Those that can be read; what is wrong with the others is told where shards are checked."""
    found = {}
    for name in names:
        try:
            sidecar = read_sidecar(folder / f"{name}.tar")
        except (FormatError, UnicodeDecodeError):
            continue
        if sidecar is not None:
            found[name] = sidecar
    return found


def _settings(stored: StoredPlan | None, sidecars: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Any] | None:
    consistent = {}
    for sidecar in sidecars.values():
        config, digest = sidecar.get("config"), sidecar.get("config_sha256")
        if isinstance(config, Mapping) and sha256_json(config) == digest:
            consistent[digest] = config
    if len(consistent) == 1 and all(sidecar.get("config_sha256") in consistent for sidecar in sidecars.values()):
        return next(iter(consistent.values()))
    if stored is not None:
        return stored.sample
    return next(iter(consistent.values()), None)


def _differences(stored: StoredPlan, settings: Mapping[str, Any]) -> str:
    names = sorted(stored.sample.keys() | settings.keys())
    different = [
        f"{name} is {stored.sample.get(name)!r}, all shards have {settings.get(name)!r}"
        for name in names
        if stored.sample.get(name) != settings.get(name)
    ]
    return f"other settings than the shards': {'; '.join(different)}" if different else ""


def _impossible(settings: Mapping[str, Any]) -> str:
    try:
        SampleConfig(**settings)
    except (ConfigError, TypeError) as error:
        return f"settings that this program cannot have: {error}"
    return ""

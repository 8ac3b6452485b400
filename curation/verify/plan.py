"""Reads the plan and settings of an output, and checks whether the planned files exist.

The settings are those of the plan, unless all shards agree on different ones: then the plan was changed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from helix4d.core import ConfigError, FormatError, NewerError, sha256_json
from helix4d.curation.config import SampleConfig
from helix4d.curation.places.folder import Folder, Place, folder_at, is_far, read_each
from helix4d.curation.plan.plan import Plan
from helix4d.curation.plan.plan_file import StoredPlan, read_plan
from helix4d.curation.shards.layout import PLAN_FILE, SPLITS
from helix4d.curation.shards.ledger import ledger_files
from helix4d.curation.shards.problems import Problem, Remedies
from helix4d.curation.shards.sidecar import Committed, committed_of, parse_sidecar
from helix4d.curation.verify.shard import SIDECAR, TAR, is_whole


@dataclass(frozen=True)
class Output:
    """The readable part of an output.

    Attributes:
        place: folder or URL, as given by the user.
        folder: access to the files.
        names: names of all files.
        plan: plan, None if plan.json cannot be read.
        settings: settings of the samples, None if neither the plan nor a shard records them.
        shards: names of the planned shards; without a plan, of existing ones.
        sidecars: name of a shard -> summary of its sidecar, if readable.
        whole: names of the shards whose index and gaps are readable as well.
        remedies: repair commands.
        problems: problems found while reading.
    """

    place: Place
    folder: Folder
    names: frozenset[str]
    plan: Plan | None
    settings: Mapping[str, Any] | None
    shards: tuple[str, ...]
    sidecars: Mapping[str, Committed]
    whole: frozenset[str]
    remedies: Remedies
    problems: tuple[Problem, ...]


def read_output(place: Place) -> Output:
    """Read plan and sidecars of an output, in a folder or at a URL.

    Raises:
        ConfigError: if there is no output of `helix4d curate`.
        StoreError: if a URL cannot be read.
    """
    if not is_far(place) and not Path(place).is_dir():
        raise ConfigError(f"{place}: no such folder")
    folder = folder_at(place)
    names = frozenset(folder.names())
    available = _available_shards(names)
    if not available and PLAN_FILE not in names and not ledger_files(names):
        raise ConfigError(f"{place}: contains neither a plan nor shards: pass an output of `helix4d curate`")
    stored, newer, damaged = None, "", ""
    try:
        stored = read_plan(place)
        damaged = "" if stored else "missing"
    except NewerError as error:
        newer = str(error)
    except (FormatError, UnicodeDecodeError) as error:
        damaged = str(error)
    sidecars, whole = _readable_sidecars(folder, [name for name in available if f"{name}{SIDECAR}" in names])
    settings = _settings(stored, sidecars)
    remedies = Remedies(place, settings or {})
    if stored:
        remedies = replace(remedies, source=stored.source, limit=stored.limit, exclude=stored.exclude, hdri=stored.hdri)
    problems = []
    if newer:
        problems.append(Problem(PLAN_FILE, "", newer, remedies.update()))
    if damaged:
        problems.append(Problem(PLAN_FILE, "", damaged, remedies.replan()))
    if stored and settings is not None and (what := _differences(stored, settings)):
        problems.append(Problem(PLAN_FILE, "", what, remedies.replan()))
    if settings is not None and (what := _invalid(settings)):
        problems.append(Problem(PLAN_FILE, "", what, remedies.replan()))
        settings = None
    plan = stored.plan() if stored else None
    shards = tuple(shard.name for shard in plan.shards) if plan else tuple(available)
    return Output(place, folder, names, plan, settings, shards, sidecars, whole, remedies, tuple(problems))


def check_files(output: Output) -> Iterator[Problem]:
    """Check that every planned shard has both of its files, and that there are no other shards."""
    for name in output.shards:
        tar, sidecar = (f"{name}{suffix}" in output.names for suffix in (TAR, SIDECAR))
        if not tar and not sidecar:
            yield Problem(f"{name}.tar", "", "missing, and so is its sidecar", output.remedies.resume())
        elif not tar:
            yield Problem(f"{name}.tar", "", "missing, although its sidecar exists", output.remedies.rebuild(name))
        elif not sidecar:
            what = "missing: without it, the shard is not committed"
            yield Problem(f"{name}.json", "", what, output.remedies.resume())
    planned = frozenset(output.shards)
    for name in _available_shards(output.names):
        if name not in planned:
            for suffix in (TAR, SIDECAR):
                if f"{name}{suffix}" in output.names:
                    remedy = output.remedies.remove(f"{name}{suffix}")
                    yield Problem(f"{name}{suffix}", "", "not in the plan", remedy)


def _available_shards(names: Iterable[str]) -> list[str]:
    return sorted(
        {
            str(path.with_suffix(""))
            for path in map(PurePosixPath, names)
            if str(path.parent) in SPLITS and path.suffix in (TAR, SIDECAR) and not path.name.startswith(".")
        }
    )


def _readable_sidecars(folder: Folder, names: list[str]) -> tuple[dict[str, Committed], frozenset[str]]:
    """Read sidecars. Returns those that are readable, and the names of those with an index.

    Problems of the others are reported with their shards.
    """
    readable: dict[str, Committed] = {}
    whole = set()
    config: Any = None
    for file, data in read_each(folder, [f"{name}{SIDECAR}" for name in names]):
        name = file.removesuffix(SIDECAR)
        try:
            sidecar = parse_sidecar(data or b"", folder.address(file))
        except FormatError:
            continue
        # Share equal settings: usually all sidecars have the same, and there may be a hundred thousand.
        config = config if sidecar.get("config") == config else sidecar.get("config")
        if is_whole(sidecar):
            whole.add(name)
        else:
            sidecar = {**sidecar, "samples": [], "gaps": []}
        readable[name] = committed_of({**sidecar, "config": config})
    return readable, frozenset(whole)


def _settings(stored: StoredPlan | None, sidecars: Mapping[str, Committed]) -> Mapping[str, Any] | None:
    consistent = {}
    for sidecar in sidecars.values():
        config, digest = sidecar.config, sidecar.config_sha256
        if isinstance(config, Mapping) and sha256_json(config) == digest:
            consistent[digest] = config
    if len(consistent) == 1 and all(sidecar.config_sha256 in consistent for sidecar in sidecars.values()):
        return next(iter(consistent.values()))
    if stored is not None:
        return stored.sample
    return next(iter(consistent.values()), None)


def _differences(stored: StoredPlan, settings: Mapping[str, Any]) -> str:
    names = sorted(stored.sample.keys() | settings.keys())
    different = [
        f"{name} is {stored.sample.get(name)!r} in the plan and {settings.get(name)!r} in all shards"
        for name in names
        if stored.sample.get(name) != settings.get(name)
    ]
    return f"its settings differ from those of the shards: {'; '.join(different)}" if different else ""


def _invalid(settings: Mapping[str, Any]) -> str:
    try:
        SampleConfig.from_json(settings)
    except ConfigError as error:
        return f"its settings are invalid: {error}"
    return ""

"""The ledger against the plan and the shards: every asset ended once, and the shards hold what its end says.

Repeated lines are normal, the last one for an asset counts; lines that a crash cut short too. A check yields a
`Problem` only where the final state contradicts the plan or a committed shard.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from helix4d.core import AssetState, FormatError, NewerError
from helix4d.curation.plan.plan import Plan, PlannedAsset, PlannedShard
from helix4d.curation.shards.layout import LEDGER_FILE
from helix4d.curation.shards.ledger import Outcome, parse_line
from helix4d.curation.shards.problems import Problem, Remedies
from helix4d.curation.shards.shard import Committed


def parse_ledger(content: bytes, remedies: Remedies) -> tuple[dict[str, Outcome], list[Problem]]:
    """The last outcome of every asset, and what is wrong with the lines."""
    outcomes: dict[str, Outcome] = {}
    damaged: dict[int, str] = {}
    newer = ""
    for number, line in enumerate(content.split(b"\n"), 1):
        try:
            outcome = parse_line(line, f"line {number}")
        except NewerError as error:
            newer = newer or str(error)
            continue
        except FormatError as error:
            damaged[number] = str(error)
            continue
        if outcome is not None:
            outcomes[outcome.asset] = outcome
    problems = []
    if newer:
        problems.append(Problem(LEDGER_FILE, "", newer, remedies.update()))
    if damaged:
        what = "; ".join(damaged.values())
        problems.append(Problem(LEDGER_FILE, "", what, remedies.remove_lines(damaged)))
    return outcomes, problems


def check_ledger(
    plan: Plan, outcomes: Mapping[str, Outcome], committed: Mapping[str, Committed], remedies: Remedies
) -> Iterator[Problem]:
    """Every final state against the plan and the committed shards.

    Args:
        plan: of the output.
        outcomes: asset -> its last outcome.
        committed: name of a shard -> what its sidecar says, where that can be read.
        remedies: the commands of the output.
    """
    for name, why in plan.left_out.items():
        if (found := outcomes.get(name)) is None:
            what = f"no line, though the plan leaves it out: {why.message} [{why.reason}]"
            yield Problem(LEDGER_FILE, name, what, remedies.resume())
        elif found.reason is not why.reason or found.state is not why.reason.state:
            what = f"{_told(found)}, but the plan leaves it out: {why.message} [{why.reason}]"
            yield Problem(LEDGER_FILE, name, what, remedies.forget(name))
    for shard in plan.shards:
        found_shard = committed.get(shard.name)
        if found_shard is not None:
            yield from _check_shard(shard, outcomes, found_shard, remedies)
    known = {asset.source.name for _, asset in plan.assets()} | plan.left_out.keys()
    for name in sorted(outcomes.keys() - known):
        forget = remedies.forget(name)[:1]
        yield Problem(LEDGER_FILE, name, "has a line, but is not in the plan", forget)


def _check_shard(
    shard: PlannedShard, outcomes: Mapping[str, Outcome], committed: Committed, remedies: Remedies
) -> Iterator[Problem]:
    keys = set(committed.keys)
    gaps = {str(gap["asset"]): (gap.get("state"), gap.get("reason")) for gap in committed.gaps}
    for asset in shard.assets:
        name = asset.source.name
        found = outcomes.get(name)
        if found is None:
            what = f"no line, but {shard.name} is committed with it"
            yield Problem(LEDGER_FILE, name, what, remedies.rebuild(shard.name))
        elif what := _contradiction(asset, found, keys, gaps):
            yield Problem(LEDGER_FILE, name, f"{what} ({shard.name})", remedies.forget(name, shard.name))
    prefixes = {asset.key_prefix for asset in shard.assets}
    json = f"{shard.name}.json"
    for key in sorted(keys):
        if key.split("_")[0] not in prefixes:
            yield Problem(json, key, "its asset is not planned into this shard", remedies.rebuild(shard.name))
    for name in sorted(gaps.keys() - {asset.source.name for asset in shard.assets}):
        yield Problem(json, name, "a gap of an asset that is not planned into this shard", remedies.rebuild(shard.name))


def _contradiction(asset: PlannedAsset, found: Outcome, keys: set[str], gaps: Mapping[str, Any]) -> str:
    """How an asset's end differs from what its shard says, "" if it does not."""
    there = sorted(key for key in keys if key.split("_")[0] == asset.key_prefix)
    gap = gaps.get(asset.source.name)
    expected = AssetState.DONE if found.reason is None else found.reason.state
    if found.state is not expected:
        return f"{_told(found)}: a state and a reason that do not go together"
    if found.state is AssetState.DONE:
        if not found.keys or any(key.rpartition("_")[0] != asset.key_prefix for key in found.keys):
            return f"done with the keys {list(found.keys)}, expected {asset.key_prefix}_N"
        if gap is not None or sorted(found.keys) != there:
            return f"done with the keys {sorted(found.keys)}, but the shard holds {there or 'a gap'}"
    elif there or gap != (found.state, found.reason):
        return f"{_told(found)}, but the shard holds {there or gap or 'neither a sample nor a gap of it'}"
    return ""


def _told(outcome: Outcome) -> str:
    return outcome.state.value if outcome.reason is None else f"{outcome.state.value}: {outcome.reason.value}"

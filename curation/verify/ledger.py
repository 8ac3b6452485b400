"""Checks the ledger against the plan and the shards: every asset has one outcome, and the shards agree with it.

Repeated lines (the last one of an asset counts) and lines cut short by a crash are normal. A `Problem` is reported only
where the final state contradicts the plan or a committed shard.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from helix4d.core import AssetState, FormatError, NewerError
from helix4d.curation.plan.plan import Plan, PlannedAsset, PlannedShard
from helix4d.curation.shards.layout import LEDGER_FILE
from helix4d.curation.shards.ledger import Outcome, parse_line
from helix4d.curation.shards.problems import Problem, Remedies
from helix4d.curation.shards.sidecar import Committed


def parse_ledger(content: bytes, remedies: Remedies) -> tuple[dict[str, Outcome], list[Problem]]:
    """Parse the ledger. Returns the last outcome of every asset, and the problems of unreadable lines."""
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
    """Check every final state against the plan and the committed shards.

    Args:
        plan: plan of the output.
        outcomes: asset -> last outcome.
        committed: name of a shard -> its sidecar, if readable.
        remedies: repair commands of the output.
    """
    for name, why in plan.left_out.items():
        if (outcome := outcomes.get(name)) is None:
            what = f"no line, but the plan leaves it out as {why.reason} ({why.message})"
            yield Problem(LEDGER_FILE, name, what, remedies.resume())
        elif outcome.reason is not why.reason or outcome.state is not why.reason.state:
            what = f"{_described(outcome)}, but the plan leaves it out as {why.reason} ({why.message})"
            yield Problem(LEDGER_FILE, name, what, remedies.forget(name))
    for shard in plan.shards:
        sidecar = committed.get(shard.name)
        if sidecar is not None:
            yield from _check_shard(shard, outcomes, sidecar, remedies)
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
        outcome = outcomes.get(name)
        if outcome is None:
            what = f"no line, but {shard.name} is committed"
            yield Problem(LEDGER_FILE, name, what, remedies.rebuild(shard.name))
        elif what := _contradiction(asset, outcome, keys, gaps):
            yield Problem(LEDGER_FILE, name, f"{what} ({shard.name})", remedies.forget(name, shard.name))
    prefixes = {asset.key_prefix for asset in shard.assets}
    json = f"{shard.name}.json"
    for key in sorted(keys):
        if key.split("_")[0] not in prefixes:
            yield Problem(json, key, "its asset is not planned for this shard", remedies.rebuild(shard.name))
    for name in sorted(gaps.keys() - {asset.source.name for asset in shard.assets}):
        yield Problem(json, name, "listed as a gap, but not planned for this shard", remedies.rebuild(shard.name))


def _contradiction(asset: PlannedAsset, outcome: Outcome, keys: set[str], gaps: Mapping[str, Any]) -> str:
    """Return how an asset's outcome contradicts its shard, "" if it does not."""
    stored = sorted(key for key in keys if key.split("_")[0] == asset.key_prefix)
    gap = gaps.get(asset.source.name)
    expected = AssetState.DONE if outcome.reason is None else outcome.reason.state
    if outcome.state is not expected:
        return f"{_described(outcome)}: state and reason do not match"
    if outcome.state is AssetState.DONE:
        if not outcome.keys or any(key.rpartition("_")[0] != asset.key_prefix for key in outcome.keys):
            return f"done with keys {list(outcome.keys)}, expected {asset.key_prefix}_N"
        if gap is not None or sorted(outcome.keys) != stored:
            return f"done with keys {sorted(outcome.keys)}, but the shard contains {stored or 'a gap'}"
    elif stored or gap != (outcome.state, outcome.reason):
        recorded = f"records {': '.join(map(str, gap))}" if gap else "contains neither a sample nor a gap"
        return f"{_described(outcome)}, but the shard {f'contains {stored}' if stored else recorded}"
    return ""


def _described(outcome: Outcome) -> str:
    return outcome.state.value if outcome.reason is None else f"{outcome.state.value}: {outcome.reason.value}"

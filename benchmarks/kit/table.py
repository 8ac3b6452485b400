"""Format the results of a run as Markdown: a table of all rows, followed by their details."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from benchmarks.kit.results import Outcome

_HEADER = ("check", "figure", "target", "share of the measured ceiling", "verdict")


def page(title: str, outcomes: Sequence[Outcome]) -> str:
    """Return the page, with the count of each verdict in its first lines."""
    counts = Counter(str(row.verdict) for outcome in outcomes for row in outcome.rows)
    seconds = sum(outcome.seconds for outcome in outcomes)
    summary = ", ".join(f"{count} {verdict}" for verdict, count in sorted(counts.items()))
    lines = [f"# {title}", "", f"{seconds:.0f} s; {summary}", "", *_table(outcomes), *_details(outcomes)]
    return "\n".join(lines) + "\n"


def _table(outcomes: Sequence[Outcome]) -> Iterator[str]:
    yield _line(_HEADER)
    yield _line(["---"] * len(_HEADER))
    for outcome in outcomes:
        name = f"{outcome.name} ({outcome.seconds:.0f} s)"
        for row in outcome.rows:
            share = "–" if row.share is None else f"{row.share:.0%}"
            yield _line([name, row.figure, row.target or "–", share, row.verdict])
            name = ""


def _details(outcomes: Sequence[Outcome]) -> Iterator[str]:
    for outcome in outcomes:
        lines = [line for row in outcome.rows for line in row.details]
        if outcome.log:
            lines += ["the last lines that it printed:", *outcome.log.splitlines()]
        if lines:
            yield from ("", f"## {outcome.name}", "", "```", *lines, "```")


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(" ".join(cell.replace("|", "\\|").split()) for cell in cells) + " |"

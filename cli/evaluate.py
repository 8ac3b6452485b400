"""`helix4d evaluate`: scores a method's predictions on a benchmark and writes a table."""

from __future__ import annotations

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from helix4d.core.command_line import parse


def run(arguments: list[str]) -> int:
    """Run the command; returns the exit status, which is 0 even if predictions failed: the table counts those."""
    from helix4d.evaluation.runner import EvaluateRun, run_evaluation
    from helix4d.evaluation.tables.table import markdown

    config = parse(EvaluateRun, "helix4d evaluate", arguments)
    columns = (TextColumn("{task.description:24}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns) as bars:
        task = bars.add_task("items", total=None)

        def show(done: int, items: int, key: str) -> None:
            bars.update(task, completed=done, total=items, description=key[:24])

        table = run_evaluation(config, show)
    print(markdown(table))
    print(config.output / "table.md")
    return 0

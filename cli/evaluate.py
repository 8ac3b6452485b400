"""`helix4d evaluate`: a bench and a method's files in, a table out."""

from __future__ import annotations

import logging

import tyro
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from helix4d.core import Helix4DError, setup_logging


def run(arguments: list[str]) -> int:
    """Run the command; returns the exit status: 0 whatever the numbers, failed predictions are counted in the table."""
    from helix4d.evaluation.runner import EvaluateRun, run_evaluation
    from helix4d.evaluation.tables.table import markdown

    setup_logging()
    try:
        config = tyro.cli(EvaluateRun, prog="helix4d evaluate", args=arguments)
        columns = (TextColumn("{task.description:24}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns) as bars:
            task = bars.add_task("items", total=None)

            def tell(done: int, items: int, key: str) -> None:
                bars.update(task, completed=done, total=items, description=key[:24])

            table = run_evaluation(config, tell)
    except Helix4DError as error:
        logging.getLogger("helix4d.evaluation").error("%s", error)
        return 2
    print(markdown(table))
    print(config.output / "table.md")
    return 0

"""Write the figures of results.json into README.md and docs/: `make benchmark-docs`.

Pages mark the places: `<!-- benchmark:SECTION/TABLE -->`, alone on its line, before a table, and
`<!-- benchmark:SECTION/VALUE -->` before a figure within a sentence; each ends with `<!-- /benchmark -->`. The text
between the marks is replaced.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from benchmarks.results import REPOSITORY, RESULTS, Column, read_cell, read_table

_BLOCK = re.compile(r"(<!-- benchmark:([\w-]+)/([\w-]+) -->)(.*?)(<!-- /benchmark -->)", re.DOTALL)
_MARK = re.compile(r"<!-- /?benchmark\b.*?-->")


def main() -> None:
    """Rewrite the pages whose figures are out of date."""
    results = json.loads(RESULTS.read_text())
    for page in pages(REPOSITORY):
        text = page.read_text(encoding="utf-8")
        if (found := fill(text, results)) != text:
            page.write_text(found, encoding="utf-8")
            print(page.relative_to(REPOSITORY))


def pages(repository: Path) -> list[Path]:
    """Return the pages that may contain figures."""
    return [repository / "README.md", *sorted((repository / "docs").rglob("*.md"))]


def fill(text: str, results: Mapping[str, Any]) -> str:
    """Return a page with the figures of `results` between its marks.

    Raises:
        ValueError: if a mark names an unknown figure, or lacks its opening or closing counterpart.
    """
    if leftover := _MARK.findall(_BLOCK.sub("", text)):
        raise ValueError(f"{leftover[0]}: write <!-- benchmark:SECTION/NAME --> before and <!-- /benchmark --> after")
    return _BLOCK.sub(lambda found: found[1] + _content(found[2], found[3], results) + found[5], text)


def _content(section: str, name: str, results: Mapping[str, Any]) -> str:
    stored = results.get(section, {"tables": {}, "values": {}})
    if name in stored["values"]:
        value = stored["values"][name]
        return Column("", value["format"]).show(read_cell(value["value"]))
    if name in stored["tables"]:
        return f"\n{caption(stored)}\n\n{read_table(stored['tables'][name]).markdown()}\n"
    raise ValueError(f"{section}/{name} is not in results.json: run `python benchmarks/{section}.py`")


def caption(section: Mapping[str, Any]) -> str:
    """Return a line that states where and how a section was measured."""
    machine = section["machine"]
    where = f"{machine['cpu']}, {machine['cores']} cores, load {machine['load']} at the start"
    commit = f", commit {section['commit']}" if section["commit"] else ""
    gpu = f", {machine['gpu']}" if "gpu" in machine else ""
    return f"`{section['command']}`: {section['date']}{commit}, {where}{gpu}."


if __name__ == "__main__":
    main()

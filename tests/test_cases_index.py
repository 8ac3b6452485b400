"""Every file of the index of cases has a test that gives its right answer.

A test module of cases is called `test_*_cases.py`. It claims a file of the index by naming it in its code; each such
module checks its files against the right answers of the index.
"""

from __future__ import annotations

import ast
import csv
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import CASES, NO_CASES

_TESTS = Path(__file__).parent


def _claims() -> Iterator[str]:
    """Yield the texts in the code of all modules of cases, comments and docstrings excepted."""
    for path in sorted(_TESTS.rglob("test_*_cases.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        statements = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in statements:
                yield node.value


@pytest.mark.skipif(not (CASES / "INDEX.tsv").is_file(), reason=NO_CASES)
def test_every_file_of_the_index_has_a_test() -> None:
    with open(CASES / "INDEX.tsv", encoding="utf-8", newline="") as stream:
        index = {row["file"] for row in csv.DictReader(stream, delimiter="\t", quoting=csv.QUOTE_NONE)}
    claims = set(_claims())
    assert all((CASES / "files" / name).exists() for name in index)
    unclaimed = sorted(name for name in index if name.rpartition("/")[2] not in claims)
    assert unclaimed == [], "no test names these: add one to a test_*_cases.py"

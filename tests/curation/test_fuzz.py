"""Two thousand damaged copies of real assets: 100 in every test run, all of them in `make acceptance`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import files
from tests.curation import fuzz
from tests.curation.glb_mutations import BYTE_OPERATIONS, STRUCTURE_OPERATIONS, Glb, mutant

QUICK = range(0, fuzz.MUTANTS, fuzz.MUTANTS // 100)


@pytest.fixture(scope="module")
def sources(animated_assets: Path) -> list[Path]:
    return files(animated_assets, "*.glb")


def test_a_mutant_is_determined_by_its_number(sources: list[Path]) -> None:
    for number in range(20):
        first, again = mutant(sources, 1, number), mutant(sources, 1, number)
        assert first == again
    assert len({mutant(sources, 1, number).data for number in range(20)}) == 20
    assert mutant(sources, 1, 0) != mutant(sources, 2, 0)


def test_most_mutants_are_damaged_and_every_operation_occurs(sources: list[Path]) -> None:
    made = [mutant(sources, fuzz.SEED, number) for number in range(300)]
    originals = {path.name: path.read_bytes() for path in sources}
    damaged = [
        one
        for one in made
        if not one.data.startswith(b"glTF") or one.data not in (originals[one.source], _again(originals[one.source]))
    ]
    assert len(damaged) > 280
    used = {operation for one in made for operation in one.operations}
    assert used >= {operation.__name__ for operation in (*STRUCTURE_OPERATIONS, *BYTE_OPERATIONS)}


def _again(data: bytes) -> bytes:
    return Glb.parse(data).bytes()


def _run(sources: list[Path], numbers: range, folder: Path) -> None:
    verdicts = list(fuzz.run(sources, numbers, folder))
    print(fuzz.figures(verdicts))
    assert len(verdicts) == len(numbers)
    defects = [str(verdict) for verdict in verdicts if verdict.defect]
    assert not defects, "\n\n".join(defects)
    assert len({verdict.end for verdict in verdicts}) > 5, "mutants that all end alike test little"


@pytest.mark.slow
def test_a_hundred_mutants_end_in_a_state(sources: list[Path], tmp_path: Path) -> None:
    _run(sources, QUICK, tmp_path)


@pytest.mark.acceptance
def test_two_thousand_mutants_end_in_a_state(sources: list[Path], tmp_path: Path) -> None:
    _run(sources, range(fuzz.MUTANTS), tmp_path)

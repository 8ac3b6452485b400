"""Damaged outputs through every reading command: 40 in every test run, 1,000 in `make acceptance`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.curation.fuzz_outputs import SEED, check, read_damaged
from tests.curation.output_mutations import copy, damage
from tests.curation.outputs import failure, motionless, output_of

_REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def curated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three samples in shards, a failed asset and a filtered one."""
    return output_of(
        tmp_path_factory.mktemp("base") / "curated",
        ["a.glb", "b.glb", "c.glb"],
        [failure("d.glb"), motionless("e.glb")],
        passes=True,
    )


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tiny random encoders."""
    from tests.train.world import write_models

    return write_models(tmp_path_factory.mktemp("models"))


def test_a_damage_is_determined_by_its_number(curated: Path, tmp_path: Path) -> None:
    for number in range(5):
        made = []
        for name in ("one", "other"):
            output = copy(curated, tmp_path / name)
            damage(output, SEED, number)
            made.append({path.name: path.read_bytes() for path in output.rglob("*") if path.is_file()})
        assert made[0] == made[1]
        assert made[0] != {path.name: path.read_bytes() for path in curated.rglob("*") if path.is_file()}


def test_the_watch_sees_an_escape(tmp_path: Path) -> None:
    script = (
        "import sys; from tests.curation.fuzz_outputs import Watch\n"
        "watch = Watch(['/usr'], [sys.argv[1]])\n"
        "watch.running = True\n"
        "open(sys.argv[1] + '/inside', 'w').close()\n"
        "open(sys.argv[1] + '/../outside', 'w').close()\n"
        "watch.running = False\n"
        "print(watch.escapes)"
    )
    inside = tmp_path / "folder"
    inside.mkdir()
    command = [sys.executable, "-c", script, str(inside)]
    found = subprocess.run(command, cwd=_REPOSITORY, capture_output=True, text=True, check=True).stdout
    assert found.strip() == f"['write {tmp_path / 'outside'}']"


@pytest.mark.slow
def test_forty_damaged_outputs_are_read_without_a_traceback(curated: Path, models: Path, tmp_path: Path) -> None:
    numbers = range(40)
    check(read_damaged(numbers, curated, models, tmp_path), numbers)


@pytest.mark.acceptance
def test_a_thousand_damaged_outputs_are_read_without_a_traceback(curated: Path, models: Path, tmp_path: Path) -> None:
    numbers = range(1000)
    check(read_damaged(numbers, curated, models, tmp_path), numbers)

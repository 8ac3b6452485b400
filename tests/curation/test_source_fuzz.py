"""Damaged assets of all formats but glTF are baked while opened files are recorded: 24 per run, 300 in acceptance."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.curation.file_watch import STRACE, FolderWatch, exec_traced, traced_escapes
from tests.curation.fuzz_sources import MUTANTS, SEED, check, run_fuzz
from tests.curation.source_files import write_baits, write_sources
from tests.curation.source_mutations import FORMATS, write_mutant

QUICK = range(0, 3 * len(FORMATS))
_REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with intact assets, and files that no asset may read."""
    made = tmp_path_factory.mktemp("f")
    write_sources(made / "sources")
    write_baits(made / "baits")
    (made / "assets").mkdir()
    return made


def test_a_source_mutant_is_determined_by_its_number(folder: Path) -> None:
    for number in range(len(FORMATS)):
        made = []
        for _ in range(2):
            own = folder / "assets" / str(number)
            mutant = write_mutant(folder / "sources", folder / "baits", own, SEED, number)
            made.append((mutant, {path.name: path.read_bytes() for path in own.iterdir()}))
            for path in own.iterdir():
                path.unlink()
            own.rmdir()
        assert made[0][0] == made[1][0]
        assert made[0][1].keys() == made[1][1].keys()
        if FORMATS[number] not in ("usdc", "usdz", "zip"):  # archives record the time of their members
            assert made[0] == made[1]
            intact = {path.name: path.read_bytes() for path in (folder / "sources" / FORMATS[number]).iterdir()}
            assert made[0][1] != intact


def test_the_folder_watch_detects_reading_and_writing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    watch = FolderWatch()
    watch.add(tmp_path)
    assert watch.escapes() == []
    subprocess.run(["cat", str(tmp_path / "file")], check=True, stdout=subprocess.DEVNULL)
    assert watch.escapes() == [f"read {tmp_path / 'file'}"]
    subprocess.run(["rm", str(tmp_path / "file")], check=True)
    assert watch.escapes() == [f"write {tmp_path / 'file'}"]
    watch.close()


@pytest.mark.skipif(STRACE is None, reason="strace is not installed")
def test_the_trace_detects_reading_and_writing_anywhere(tmp_path: Path) -> None:
    inside, log = tmp_path / "inside", tmp_path / "log"
    inside.mkdir()
    (tmp_path / "outside").write_text("x")
    (inside / "link").symlink_to(tmp_path / "outside")
    (inside / "program.py").write_text(
        "import os\nopen('mine', 'w').close()\nopen('../outside').close()\nopen('link').close()\n"
        "open('../written', 'w').close()\nos.rename('mine', '../moved')\n"
        "for mode in 'rw':\n    try:\n        open('../absent/x', mode)\n    except OSError:\n        pass\n"
    )
    code = f"from {exec_traced.__module__} import exec_traced; import pathlib, sys, os; sys.path.insert(0, os.getcwd())"
    code += f"; os.environ['PYTHONPATH'] = '.'; exec_traced('program', pathlib.Path({str(log)!r}))"
    command = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(_REPOSITORY)!r}); {code}"]
    subprocess.run(command, cwd=inside, check=True)
    read = [Path("/usr"), Path("/etc"), Path("/lib"), Path(sys.prefix), Path(sys.base_prefix)]
    found = [escape for escape, _ in traced_escapes(log, inside, read, [inside])]
    outside = [
        *(f"read {tmp_path / 'outside'}", f"read {tmp_path / 'outside'}", f"write {tmp_path / 'written'}"),
        *(f"write {tmp_path / 'moved'}", f"write {tmp_path / 'absent' / 'x'} (failed)"),
    ]
    assert [escape for escape in found if str(tmp_path) in escape] == outside


@pytest.mark.slow
def test_some_damaged_sources_are_baked_without_an_escape(folder: Path) -> None:
    check(run_fuzz(folder, QUICK), QUICK)


@pytest.mark.acceptance
def test_three_hundred_damaged_sources_are_baked_without_an_escape(folder: Path) -> None:
    check(run_fuzz(folder, range(MUTANTS)), range(MUTANTS))

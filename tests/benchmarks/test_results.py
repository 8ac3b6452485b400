"""Benchmarks run from any folder and save their figures; the documentation's tables equal those in results.json."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import docs, results
from benchmarks.results import Column, Report, Spread, alternate

REPOSITORY = Path(__file__).resolve().parents[2]
SCRIPTS = sorted(
    path.stem for path in (REPOSITORY / "benchmarks").glob("*.py") if "Report(" in path.read_text(encoding="utf-8")
)
# Runs scripts as `python FILE OPTIONS` or `python -m benchmarks.NAME OPTIONS` does, but imports torch only once.
_RUN = """
import json, os, runpy, sys
repository, jobs = sys.argv[1], json.loads(sys.argv[2])
start = list(sys.path[1:])
for how, name, options in jobs:
    for module in [module for module in sys.modules if module.split(".")[0] == "benchmarks"]:
        del sys.modules[module]
    script = f"{repository}/benchmarks/{name}.py"
    sys.argv = [script, *options]
    sys.path[:] = [os.path.dirname(script) if how == "file" else os.getcwd(), *start]
    print(f"== {how} {name}", flush=True)
    try:
        if how == "file":
            runpy.run_path(script, run_name="__main__")
        else:
            runpy.run_module(f"benchmarks.{name}", run_name="__main__", alter_sys=True)
    except SystemExit as end:
        if end.code:
            raise
"""


def run(cwd: Path, *jobs: tuple[str, str, list[str]]) -> dict[str, str]:
    """Run benchmarks in one process; returns what each printed."""
    # The checkout is found neither by the folder of the process nor by the environment.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [sys.executable, "-c", _RUN, str(REPOSITORY), json.dumps(jobs)]
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr + done.stdout
    parts = re.split(r"^== (\w+ \w+)$", done.stdout, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def test_every_benchmark_explains_itself_from_any_folder(tmp_path: Path) -> None:
    printed = run(tmp_path, *(("file", name, ["--help"]) for name in SCRIPTS))
    assert list(printed) == [f"file {name}" for name in SCRIPTS]
    for name in SCRIPTS:
        assert printed[f"file {name}"].lstrip().startswith(f"usage: {name}.py "), name
        assert "--quick" in printed[f"file {name}"], name


def test_a_benchmark_runs_as_a_module_too() -> None:
    printed = run(REPOSITORY, ("module", "driver", ["--help"]), ("module", "bake", ["--help"]))
    assert "--assets" in printed["module driver"]
    assert "--quick" in printed["module bake"]


def test_every_script_of_the_folder_is_a_benchmark_or_named_here() -> None:
    """A new benchmark must be added to the tests above."""
    others = {"__init__", "results", "docs", "gpu_kit", "reference_converter", "reference_vxz"}
    assert {path.stem for path in (REPOSITORY / "benchmarks").glob("*.py")} - set(SCRIPTS) <= others


def test_quick_runs_write_their_sections(tmp_path: Path) -> None:
    file = tmp_path / "results.json"
    file.write_text(json.dumps({"other": {"kept": True}, "bake": "an older run"}))
    options = ["--quick", "--results", str(file)]
    run(tmp_path, *(("file", name, options) for name in ("bake", "block_traffic")))
    found = json.loads(file.read_text())
    assert set(found) == {"bake", "block_traffic", "other"}
    assert found["other"] == {"kept": True}
    section = found["bake"]
    assert section["quick"] is True
    assert section["command"] == "python benchmarks/bake.py --quick"
    assert set(section["machine"]) >= {"cpu", "cores", "memory_gb", "load"}
    assert section["versions"]["helix4d"] == results.helix4d.__version__
    assert [row[0] for row in section["tables"]["scenes"]["rows"]] == ["parts", "character"]
    assert section["values"]["normal_matrices_ratio"]["value"]["median"] > 5
    for text in (str(tmp_path), str(REPOSITORY), os.uname().nodename):
        assert text not in file.read_text(), "names the machine"


@pytest.mark.slow
def test_the_driver_is_measured_from_any_folder(tmp_path: Path) -> None:
    file = tmp_path / "results.json"
    run(tmp_path, ("file", "driver", ["--quick", "--results", str(file)]))
    section = json.loads(file.read_text())["driver"]
    assert [row[0] for row in section["tables"]["memory"]["rows"]] == ["before the run", "after the run", "peak"]
    assert 0 < section["values"]["cpu_ms"]["value"]["median"] < 1000


def test_a_path_among_the_options_is_recorded_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "results.json"
    monkeypatch.setattr(sys, "argv", ["x.py", "/somewhere/fox.glb", "--size", "3", "--results", str(file)])
    report = Report("x", "A benchmark.", quick="nothing")
    report.parser.add_argument("assets", nargs="*", type=Path)
    report.parser.add_argument("--size", type=int, default=2)
    report.parse()
    report.save()
    assert json.loads(file.read_text())["x"]["command"] == "python benchmarks/x.py fox.glb --size 3"


def test_runs_that_alternate_have_ratios_of_their_own_round() -> None:
    clock = iter([0.0, 1.0, 1.0, 3.0, 3.0, 7.0, 7.0, 15.0])
    seconds = alternate({"a": lambda: None, "b": lambda: None}, 2, lambda: next(clock))
    assert seconds == {"a": [1.0, 4.0], "b": [2.0, 8.0]}
    assert Spread.of_ratios(seconds["b"], seconds["a"]) == Spread(2.0, 2.0, 2.0, 2)
    assert Spread.of(seconds["a"], 10) == Spread(25.0, 10.0, 40.0, 2)


def test_a_table_shows_spreads_and_gaps(capsys: pytest.CaptureFixture[str]) -> None:
    table = results.Table((Column("what"), Column("s", ".1f"), Column("share", ".0%")))
    table.add("both", Spread.of([1.0, 2.0, 4.0]), 0.25)
    table.add("once", Spread.of([1.0]), None)
    expected = "| what | s | share |\n|---|---|---|\n| both | 2.0 (1.0 to 4.0) | 25% |\n| once | 1.0 |  |"
    assert table.markdown() == expected == capsys.readouterr().out.strip()
    assert results.read_table(json.loads(json.dumps(results._stored(table)))).markdown() == expected
    with pytest.raises(ValueError, match="2 cells for 3 columns"):
        table.add("short", 1)


PAGE = """A run takes <!-- benchmark:a/seconds -->old<!-- /benchmark --> s.

<!-- benchmark:a/table -->
old
<!-- /benchmark -->
"""
SECTION = {
    "command": "python benchmarks/a.py",
    "date": "2026-11-29",
    "commit": "abc",
    "machine": {"cpu": "a CPU", "cores": 2, "memory_gb": 8, "load": 0.5},
    "values": {"seconds": {"value": {"median": 1.26, "low": 1.0, "high": 2.0, "runs": 3}, "format": ".1f"}},
    "tables": {"table": {"columns": [{"title": "n", "format": ".2f"}], "rows": [[1.0], [None]]}},
}


def test_figures_replace_what_stands_between_the_marks() -> None:
    filled = docs.fill(PAGE, {"a": SECTION})
    assert "A run takes <!-- benchmark:a/seconds -->1.3 (1.0 to 2.0)<!-- /benchmark --> s." in filled
    assert "\n`python benchmarks/a.py`: 2026-11-29, commit abc, a CPU, 2 cores, load 0.5 at the start.\n" in filled
    assert "| n |\n|---|\n| 1.00 |\n|  |\n<!-- /benchmark -->" in filled
    assert "old" not in filled
    assert docs.fill(filled, {"a": SECTION}) == filled


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<!-- benchmark:a/b -->", "write <!-- benchmark:SECTION/NAME --> before"),
        ("<!-- benchmark:a -->x<!-- /benchmark -->", "write <!-- benchmark:SECTION/NAME --> before"),
        ("<!-- benchmark:a/b -->x<!-- /benchmark -->", "a/b is not in results.json: run `python benchmarks/a.py`"),
    ],
)
def test_a_mark_without_figures_is_an_error(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        docs.fill(text, {})


@pytest.mark.parametrize("page", docs.pages(REPOSITORY), ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_the_documentation_has_the_figures_of_the_results(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    found = docs.fill(text, json.loads(results.RESULTS.read_text()))
    assert found == text, "run `make benchmark-docs`"


def test_no_figure_of_the_results_is_from_a_quick_run() -> None:
    sections = json.loads(results.RESULTS.read_text())
    assert [name for name, section in sections.items() if section["quick"]] == []

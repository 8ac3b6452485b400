from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from PIL import Image

from helix4d.cli.main import main
from tests.evaluation.predictions import write_actionbench_item, write_run_file, write_stills
from tests.evaluation.shapes import moved, tripod

REPOSITORY = Path(__file__).resolve().parents[2]


def test_predictions_on_a_bench_become_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    surfaces = [tripod(), moved(tripod(), (0.2, 0, 0))]
    for name in ("a", "b"):
        write_actionbench_item(tmp_path / "bench" / "data" / name, surfaces)
    write_stills(tmp_path / "out" / "a", surfaces)
    command = ["evaluate", "--bench", "actionbench", "--data", str(tmp_path / "bench"), "--device", "cpu", "--pruned"]
    command += ["--predictions", str(tmp_path / "out"), "--output", str(tmp_path / "scores"), "--method", "actionmesh"]
    command += ["--points", "2000", "--alignment-points", "60"]
    assert main([*command, "--no-pages", "--workers", "1"]) == 0
    printed = capsys.readouterr().out
    assert "| ActionMesh |" in printed
    assert "1 of 2" in printed
    assert "transcribed" in printed
    assert "results are approximate" in printed
    table = json.loads((tmp_path / "scores" / "table.json").read_text())
    cells = table["rows"][0]["cells"]
    assert set(cells) == {"cd_3d", "cd_4d", "cd_m"}
    assert all(cell["count"] == 1 and cell["value"] < 0.2 for cell in cells.values())
    assert not (tmp_path / "scores" / "pages").exists()

    # Again, with a page: the numbers are reused, and Blender draws the two frames.
    written = (tmp_path / "scores" / "items" / "a.json").stat().st_mtime_ns
    assert main([*command, "--workers", "2"]) == 0
    assert (tmp_path / "scores" / "items" / "a.json").stat().st_mtime_ns == written
    assert len(list((tmp_path / "scores" / "pages").glob("a.*.webp"))) == 2


@pytest.mark.slow
def test_a_killed_run_resumes_to_the_same_bytes(tmp_path: Path) -> None:
    surfaces = [tripod()]
    for name in "abcde":
        write_actionbench_item(tmp_path / "bench" / "data" / name, surfaces)
        write_stills(tmp_path / "out" / name, surfaces)
    command = ["evaluate", "--bench", "actionbench", "--data", str(tmp_path / "bench"), "--device", "cpu", "--pruned"]
    command += ["--predictions", str(tmp_path / "out"), "--method", "actionmesh", "--no-pages"]
    command += ["--points", "2000", "--alignment-points", "60"]
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    run = subprocess.Popen(
        [sys.executable, "-m", "helix4d", *command, "--output", str(killed), "--workers", "2"], cwd=REPOSITORY
    )
    _wait(lambda: any((killed / "items").glob("*.json")))
    children = psutil.Process(run.pid).children(recursive=True)
    assert len(children) >= 2
    run.kill()
    run.wait()
    assert not (killed / "table.json").exists()
    _wait(lambda: not any(child.is_running() and child.status() != psutil.STATUS_ZOMBIE for child in children))
    for output in (killed, whole):
        assert main([*command, "--output", str(output), "--workers", "1"]) == 0
    # The lock file names the last run that held it.
    kept = [path.relative_to(whole) for path in whole.rglob("*") if path.is_file() and path.name != ".lock"]
    assert len(kept) == 5 + 4  # three files of the table, and the plan
    for path in kept:
        assert (killed / path).read_bytes() == (whole / path).read_bytes(), path


def _wait(until: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not until():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_without_weights_every_learned_metric_explains_how_to_fetch_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    entry = tmp_path / "bench" / "videos" / "robot"
    entry.mkdir(parents=True)
    (entry / "entry.json").write_text("{}")
    Image.new("RGBA", (8, 8), "red").save(entry / "frame_00.png")
    write_stills(tmp_path / "out" / "robot", [tripod()], "frame_0{}.glb")
    write_run_file(tmp_path / "out" / "robot", [1])
    command = ["evaluate", "--bench", "helix4dbench", "--data", str(tmp_path / "bench"), "--no-pages"]
    command += ["--predictions", str(tmp_path / "out"), "--output", str(tmp_path / "scores"), "--device", "cpu"]
    assert main(command) == 0
    printed = capsys.readouterr().out
    assert "so its numbers are for different videos" in " ".join(printed.split())
    table = json.loads((tmp_path / "scores" / "table.json").read_text())
    (row, *published) = table["rows"]
    names = {"clip", "clip_n", "ulip_2", "uni3d", "dreamsim"}
    assert names <= set(row["cells"])
    for cell in row["cells"].values():
        assert (cell["value"], cell["count"]) == (None, 0)
        assert "hf download" in cell["reason"] or "curl" in cell["reason"]
    assert row["failed"] == 0
    assert {"fvd_set", "fvd_pair"} <= set(row["cells"])
    assert any("Helix4D 950" in note for note in table["notes"])
    assert len(published) == 6
    assert {name for other in published for name in other["cells"]} == names


def test_unusable_benches_and_predictions_are_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["evaluate", "--bench", "actionbench", "--output", str(tmp_path / "scores"), "--data", str(tmp_path)]
    assert main([*command, "--predictions", str(tmp_path / "none")]) == 2
    assert "no such folder" in capsys.readouterr().err
    assert main([*command, "--predictions", str(tmp_path)]) == 2
    assert "not ActionBench" in capsys.readouterr().err

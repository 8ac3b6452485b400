from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from helix4d import __version__
from helix4d.cli.main import COMMANDS, EXTRAS, main

REPOSITORY = Path(__file__).resolve().parents[2]


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    printed = capsys.readouterr().out
    assert all(command in printed for command in COMMANDS)


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"helix4d {__version__}\n"


def test_an_unknown_command_is_reported(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["nothing"]) == 2
    assert capsys.readouterr().err.startswith("helix4d: unknown command 'nothing'. `helix4d --help`")


_GROUPS = ["bench build", "bench verify", "study rope", "study ablations"]


@pytest.mark.parametrize("command", [*sorted(COMMANDS.keys() - {"bench", "study"}), *_GROUPS])
def test_every_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([*command.split(), "--help"])
    assert ended.value.code == 0
    assert f"usage: helix4d {command}" in capsys.readouterr().out


def test_curate_reports_invalid_settings(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["curate", "--source", str(tmp_path / "none"), "--output", str(tmp_path / "out")]) == 2
    assert "none: no such folder" in capfd.readouterr().err
    assert main(["curate", "--source", str(tmp_path), "--output", str(tmp_path / "out"), "--resolution", "100"]) == 2
    assert "--resolution 100: must be a power of two from 32 to 1024" in capfd.readouterr().err


def test_samples_writes_the_sample_assets(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["samples", "--output", str(tmp_path)]) == 0
    printed = capsys.readouterr().out.split()
    assert len(printed) >= 8
    assert all(Path(path).read_bytes()[:4] == b"glTF" for path in printed)


def test_python_dash_m_runs_the_same_command() -> None:
    result = subprocess.run(
        [sys.executable, "-m", "helix4d", "--version"], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    assert re.fullmatch(r"helix4d [\d.]+\n", result.stdout)


def test_a_mistyped_command_gets_a_suggestion(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["curat"]) == 2
    assert "Did you mean 'curate'?" in capsys.readouterr().err


def test_an_error_of_the_project_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(tmp_path / "none")]) == 2
    assert capsys.readouterr().err == f"helix4d verify: {tmp_path / 'none'}: no such folder\n"


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("no folder")
    assert main(["samples", "--output", str(tmp_path / "file")]) == 2
    printed = capsys.readouterr().err
    assert printed.startswith("helix4d samples: ")
    assert "File exists" in printed
    assert printed.count("\n") == 1


@pytest.mark.parametrize("command", EXTRAS)
def test_a_missing_package_names_the_extra(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def missing(name: str) -> Callable[[list[str]], int]:
        def run(_: list[str]) -> int:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

        return run

    extras = EXTRAS[command]
    module = {"curate": "meshoptimizer", "bench": "diffusers"}.get(extras, "torch.nn")
    monkeypatch.setitem(sys.modules, f"helix4d.cli.{command}", SimpleNamespace(run=missing(module)))
    assert main([command]) == 2
    printed = capsys.readouterr().err
    assert printed.startswith(f"helix4d {command}: cannot import {module.partition('.')[0]}. Install the extra")
    assert f"'.[{extras}]'" in printed
    monkeypatch.setitem(sys.modules, f"helix4d.cli.{command}", SimpleNamespace(run=missing("moderngl")))
    assert main([command]) == 2
    assert "'.[raster]'" in capsys.readouterr().err  # the package's extra, not the command's
    monkeypatch.setitem(sys.modules, f"helix4d.cli.{command}", SimpleNamespace(run=missing("helix4d.model.nothing")))
    with pytest.raises(ModuleNotFoundError):  # a bug, not a package that is not installed
        main([command])


def test_the_extras_are_declared_by_the_package() -> None:
    declared = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert {extra for extras in EXTRAS.values() for extra in extras.split(",")} <= declared.keys()


@pytest.mark.parametrize(("option", "value"), [("--workers", "0"), ("--limit", "-1"), ("--gpus-per-worker", "-1")])
def test_curate_rejects_numbers_out_of_range(
    option: str, value: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = str(tmp_path)
    assert main(["curate", "--source", folder, "--output", f"{folder}/out", option, value]) == 2
    assert f"{option} {value}: " in capfd.readouterr().err


def test_curate_rejects_a_file_as_source_and_the_source_as_output(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    asset = tmp_path / "a.glb"
    asset.write_bytes(b"glTF")
    assert main(["curate", "--source", str(asset), "--output", str(tmp_path / "out")]) == 2
    assert "a.glb: not a folder: set --source to the folder that contains the file" in capfd.readouterr().err
    assert main(["curate", "--source", str(tmp_path), "--output", str(tmp_path)]) == 2
    assert "is the same folder as --source" in capfd.readouterr().err


@pytest.mark.parametrize("options", [["--frames", "0"], ["--fps", "0"], ["--clip", "all"]])
def test_preview_rejects_invalid_settings(
    options: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    asset = tmp_path / "a.glb"
    asset.write_bytes(b"glTF")
    assert main(["preview", str(asset), *options]) == 2
    assert f"{options[0]} {options[1]}" in capfd.readouterr().err
    assert main(["preview", str(tmp_path / "none.glb")]) == 2
    assert "none.glb: no such file" in capfd.readouterr().err


def test_filter_checks_the_similarity_before_measuring(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["filter", str(tmp_path / "none"), "--dry-run", "--near-duplicates", "5"]) == 2
    assert "--near-duplicates 5: must be between 0.766 and 1" in capfd.readouterr().err

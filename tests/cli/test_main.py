from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from cli.main import COMMANDS, main
from core.version import VERSION

REPOSITORY = Path(__file__).resolve().parents[2]


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    printed = capsys.readouterr().out
    assert all(command in printed for command in COMMANDS)


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"helix4d {VERSION}\n"


def test_an_unknown_command_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["curat"]) == 2
    assert "no command 'curat'" in capsys.readouterr().err


_GROUPS = ["bench build", "bench verify", "study rope", "study ablations"]


@pytest.mark.parametrize("command", [*sorted(COMMANDS.keys() - {"bench", "study"}), *_GROUPS])
def test_every_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([*command.split(), "--help"])
    assert ended.value.code == 0
    assert f"usage: helix4d {command}" in capsys.readouterr().out


def test_curate_tells_what_is_wrong_with_its_settings(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["curate", "--source", str(tmp_path / "none"), "--output", str(tmp_path / "out")]) == 2
    assert "none: no such folder" in capfd.readouterr().err
    assert main(["curate", "--source", str(tmp_path), "--output", str(tmp_path / "out"), "--resolution", "100"]) == 2
    assert "resolution 100: a power of two from 32 to 1024" in capfd.readouterr().err


def test_samples_writes_the_sample_assets(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["samples", "--output", str(tmp_path)]) == 0
    printed = capsys.readouterr().out.split()
    assert len(printed) >= 8
    assert all(Path(path).read_bytes()[:4] == b"glTF" for path in printed)


def test_python_dash_m_cli_is_the_same_command() -> None:
    result = subprocess.run(
        [sys.executable, "-m", "cli", "--version"], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    assert re.fullmatch(r"helix4d [\d.]+\n", result.stdout)

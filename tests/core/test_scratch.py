from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from helix4d.core.scratch import scratch_folder

_REPOSITORY = Path(__file__).resolve().parents[2]
_KILLED = f"""
import os, signal
from helix4d.core.scratch import scratch_folder
with scratch_folder("helix4d-test-") as folder:
    (folder / "kept.bin").write_bytes(b"x")
    os.kill(os.getpid(), {int(signal.SIGKILL)})
"""


def test_a_folder_lives_exactly_as_long_as_its_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with scratch_folder("helix4d-test-") as first, scratch_folder("helix4d-test-") as second:
        assert first != second
        (first / "a").touch()
        assert [len(list(folder.iterdir())) for folder in (first, second)] == [1, 0]
    assert not list(tmp_path.iterdir())


def test_the_next_call_removes_what_a_killed_process_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    killed = subprocess.run([sys.executable, "-c", _KILLED], env=environment, cwd=_REPOSITORY, check=False)
    assert killed.returncode == -signal.SIGKILL
    (left,) = tmp_path.iterdir()
    for name in ("helix4d-test-without-lock", "other"):
        (tmp_path / name).mkdir()
    (tmp_path / "other" / "lock").touch()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with scratch_folder("helix4d-test-"):
        assert not left.exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["helix4d-test-without-lock", "other"]

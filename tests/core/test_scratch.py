from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from helix4d.core import ConfigError
from helix4d.core.scratch import own_folder, scratch_folder

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


def _plant(folder: Path) -> Path:
    folder.mkdir()
    (folder / "lock").touch()
    (folder / "kept").touch()
    return folder


def test_links_and_pipes_of_others_are_not_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Links, and a pipe in place of the lock, whose opening would wait for a writer."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    outside = _plant(tmp_path / "outside")
    (tmp_path / "helix4d-test-link").symlink_to(outside)
    (tmp_path / "helix4d-test-lock").mkdir()
    (tmp_path / "helix4d-test-lock" / "lock").symlink_to(outside / "lock")
    (tmp_path / "helix4d-test-pipe").mkdir()
    os.mkfifo(tmp_path / "helix4d-test-pipe" / "lock")
    (tmp_path / "helix4d-test-file").touch()
    with scratch_folder("helix4d-test-"):
        pass
    assert {path.name for path in outside.iterdir()} == {"lock", "kept"}
    # The pipe is in a folder of ours: it may be removed, but not waited for.
    assert {path.name for path in tmp_path.iterdir()} >= {"outside", "helix4d-test-link", "helix4d-test-lock"}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
def test_folders_of_other_users_are_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    foreign = _plant(tmp_path / "helix4d-test-foreign")
    os.chown(foreign, 12345, 12345)
    with scratch_folder("helix4d-test-"):
        pass
    assert (foreign / "kept").exists()
    os.chown(foreign, os.geteuid(), os.getegid())
    with scratch_folder("helix4d-test-"):
        pass
    assert not foreign.exists()


def test_own_folders_are_neither_links_nor_writable_by_others(tmp_path: Path) -> None:
    own = own_folder(tmp_path / "deep" / "own")
    assert own.stat().st_mode & 0o777 == 0o700
    assert own_folder(own) == own
    (tmp_path / "link").symlink_to(own)
    (tmp_path / "file").touch()
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    for name in ("link", "file", "open"):
        with pytest.raises(ConfigError, match=f"{name}: is a link, or belongs to another user, or"):
            own_folder(tmp_path / name)
    if os.geteuid() == 0:
        os.chown(own, 12345, 12345)
        with pytest.raises(ConfigError, match="belongs to another user"):
            own_folder(own)

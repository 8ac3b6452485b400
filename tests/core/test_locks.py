from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path

import pytest

from helix4d.core.locks import NoLocksError, file_lock, is_locked, locked


def test_shared_locks_coexist_and_an_exclusive_one_excludes_all(tmp_path: Path) -> None:
    path = tmp_path / "new" / "lock"
    with (
        file_lock(path, shared=True),
        file_lock(path, shared=True, wait=False),
        pytest.raises(BlockingIOError),
        file_lock(path, wait=False),
    ):
        pass
    for shared in (False, True):
        with file_lock(path), pytest.raises(BlockingIOError), file_lock(path, shared=shared, wait=False):
            pass
    with file_lock(path, wait=False):
        pass


def test_a_missing_file_is_not_created_on_request(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), file_lock(tmp_path / "none" / "lock", create=False):
        pass
    assert not (tmp_path / "none").exists()


def test_a_file_system_without_locks_has_an_error_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locks(file: object, operation: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", no_locks)
    with pytest.raises(NoLocksError, match="No locks available"), file_lock(tmp_path / "lock"):
        pass


def test_checking_a_lock_writes_nothing(tmp_path: Path) -> None:
    assert not is_locked(tmp_path)
    assert not list(tmp_path.iterdir())
    with locked(tmp_path):
        assert is_locked(tmp_path)
    assert not is_locked(tmp_path)

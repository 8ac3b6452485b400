from __future__ import annotations

import errno
import fcntl
import os
import resource
import subprocess
import sys
import tempfile
import textwrap
import time
from pathlib import Path

import pytest

from helix4d.core import ConfigError, StorageError, insist, write_bytes
from helix4d.core.locks import locked
from helix4d.core.storage import fault_in, is_fault


def test_a_write_that_is_refused_twice_is_retried_until_it_succeeds() -> None:
    answers = [errno.ENOSPC, errno.EROFS, 0]

    def write() -> str:
        if number := answers.pop(0):
            raise OSError(number, os.strerror(number))
        return "written"

    assert insist(write, Path("x"), patience_s=30) == "written"
    assert answers == []


def test_retries_stop_after_patience_s() -> None:
    def write() -> None:
        raise OSError(errno.ENOSPC, "full")

    begun = time.monotonic()
    with pytest.raises(StorageError, match=r"x: could not be written for 1 s \(No space left on device\)"):
        insist(write, Path("x"), patience_s=1)
    assert 0.9 < time.monotonic() - begun < 10


def test_an_error_that_waiting_cannot_resolve_is_raised_immediately() -> None:
    calls = []

    def write() -> None:
        calls.append(1)
        raise FileNotFoundError(errno.ENOENT, "no such folder")

    with pytest.raises(FileNotFoundError):
        insist(write, Path("x"), patience_s=100)
    assert calls == [1]


def test_a_write_that_fails_halfway_leaves_the_old_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"before")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            write_bytes(tmp_path / "file", bytes(100_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_bytes() == b"before"


HOLD = textwrap.dedent(
    """
    import sys
    from pathlib import Path
    from helix4d.core.locks import locked
    with locked(Path(sys.argv[1])):
        print("held", flush=True)
        sys.stdin.read()
    """
)


def test_a_second_writer_learns_the_holder_and_a_killed_holder_releases_the_lock(tmp_path: Path) -> None:
    repository = Path(__file__).resolve().parents[2]
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(repository)},
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"held\n"
    for _ in range(2):  # a refused attempt must not erase the holder's name
        with (
            pytest.raises(ConfigError, match=f"host {os.uname().nodename}, process {holder.pid}, since 20"),
            locked(tmp_path),
        ):
            pass
    holder.kill()
    holder.communicate()
    with locked(tmp_path):
        assert f"process {os.getpid()}," in (tmp_path / ".lock").read_text()


def test_a_folder_that_cannot_be_locked_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "nested"):
        with pytest.raises(ConfigError, match=r"file.*cannot be written to"), locked(folder):
            pass

    def no_locks(file: object, operation: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", no_locks)
    with pytest.raises(ConfigError, match="No locks available"), locked(tmp_path):
        pass


def test_a_full_disk_does_not_prevent_locking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(os, "write", full)
    with locked(tmp_path), pytest.raises(ConfigError, match="another run is writing there"), locked(tmp_path):
        pass


def test_machine_faults_are_distinguished_from_file_errors() -> None:
    for number in (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.ESTALE, errno.EMFILE, errno.ENFILE):
        assert is_fault(OSError(number, "x"))
        text = f"Cannot save: '/a/b.exr': {os.strerror(number)}."
        found = fault_in(text, Path("/a/b.exr"))
        assert found is not None
        assert (found.errno, found.filename) == (number, "/a/b.exr")
    for error in (FileNotFoundError(errno.ENOENT, "x"), OSError("Invalid data stream"), ValueError("x")):
        assert not is_fault(error)
    assert fault_in("Cannot save: the codec is unknown", Path("a")) is None


def test_messages_name_the_folder_of_temporary_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "t"))
    for named, place in (
        (tmp_path / "t/helix4d-archive-abcdefgh/content/a.png", f"{tmp_path / 't'} (temporary files)"),
        (tmp_path / "out/.part.abcdefgh.tmp", str(tmp_path / "out/part")),
        (tmp_path / "source/a.glb", str(tmp_path / "source/a.glb")),
        (None, str(tmp_path / "out/part")),
    ):

        def write(named: Path | None = named) -> None:
            raise OSError(errno.ENOSPC, "full", None if named is None else str(named))

        with pytest.raises(StorageError) as caught:
            insist(write, tmp_path / "out/part", patience_s=0)
        assert str(caught.value).startswith(f"{place}: could not be written for 0 s (No space left on device)")

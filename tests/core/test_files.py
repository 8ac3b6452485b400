from __future__ import annotations

import contextlib
import errno
import json
import os
import stat
from pathlib import Path

import pytest

from helix4d.core import atomic_writer, canonical_json, sha256_file, sha256_json, write_bytes


def test_atomic_writer_leaves_no_file_when_the_block_raises(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "file.bin"
    with pytest.raises(RuntimeError, match="stop"), atomic_writer(target) as stream:
        stream.write(b"half")
        raise RuntimeError("stop")
    assert list(target.parent.iterdir()) == []


def test_atomic_writer_replaces_whole_files(tmp_path: Path) -> None:
    target = tmp_path / "file.bin"
    target.write_bytes(b"old")
    with atomic_writer(target) as stream:
        stream.write(b"new")
        assert target.read_bytes() == b"old"
    assert target.read_bytes() == b"new"
    assert sha256_file(target) == "11507a0e2f5e69d5dfa40a62a1bd7b6ee57e6bcd85c67c9b8431b36fff21c437"


def test_canonical_json_depends_only_on_the_value() -> None:
    assert canonical_json({"b": 1, "a": [1.5, "é"]}) == canonical_json({"a": [1.5, "é"], "b": 1})
    assert sha256_json({"b": 1, "a": 2}) == sha256_json({"a": 2, "b": 1})
    with pytest.raises(ValueError, match="Out of range"):
        canonical_json(float("nan"))


def test_canonical_json_escapes_lone_surrogates() -> None:
    value = {"\udce9": "é\ud800"}
    assert canonical_json(value) == '{\n "\\udce9": "é\\ud800"\n}\n'.encode()
    assert json.loads(canonical_json(value)) == value


@pytest.mark.parametrize(("number", "passes"), [(errno.EINVAL, True), (errno.ENOTSUP, True), (errno.EIO, False)])
def test_writing_works_on_file_systems_that_cannot_sync_folders(
    number: int, passes: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fsync(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fsync)
    with contextlib.nullcontext() if passes else pytest.raises(OSError, match="Input/output"):
        write_bytes(tmp_path / "a", b"new")
    assert (tmp_path / "a").read_bytes() == b"new"

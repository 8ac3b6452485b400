from __future__ import annotations

import errno
import fcntl
import json
import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from helix4d.assets import content_hash
from helix4d.core import AssetError, ReasonCode, StorageError
from helix4d.curation.remote.cache import Cache
from helix4d.curation.remote.config import DownloadConfig
from helix4d.curation.remote.files import RemoteFile
from helix4d.curation.remote.room import Room
from helix4d.curation.sources.hashing import hash_sources
from helix4d.curation.sources.listing import SourceAsset
from tests.curation.servers import LOCAL, FileServer, serving, sha256


@pytest.fixture
def server() -> Iterator[FileServer]:
    with serving(FileServer({f"/{n}.glb": bytes([n]) * 1000 for n in range(9)})) as running:
        yield running


def cache_of(tmp_path: Path, kilobytes: float = 1000) -> Cache:
    return Cache(
        DownloadConfig(
            cache=tmp_path,
            cache_gb=kilobytes / 1e6,
            requests_per_s=1000,
            download_attempts=2,
            backoff_s=0.01,
            allow_host=LOCAL,
        )
    )


def held(tmp_path: Path) -> set[str]:
    return {path.name for path in (tmp_path / "files").rglob("files/*")}


def test_a_file_is_fetched_once(server: FileServer, tmp_path: Path) -> None:
    for _ in range(2):
        with cache_of(tmp_path).lease(RemoteFile(f"{server.url}/1.glb")) as path:
            assert path.read_bytes() == b"\1" * 1000
            assert path.suffix == ".glb"
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: cache_of(tmp_path).content_hash(RemoteFile(f"{server.url}/2.glb")), range(8)))
    assert len(server.requests) == 2


def test_the_least_recently_used_are_evicted_and_leased_ones_stay(server: FileServer, tmp_path: Path) -> None:
    cache = cache_of(tmp_path, 3.9)
    files = [RemoteFile(f"{server.url}/{n}.glb") for n in range(9)]
    with cache.lease(files[0]) as first:
        for n in (1, 2):
            with cache.lease(files[n]):
                time.sleep(0.02)
        with cache.lease(files[1]):  # used again, later than 2
            time.sleep(0.02)
        with cache.lease(files[3]):
            assert held(tmp_path) == {"0.glb", "1.glb", "3.glb"}
        for n in (4, 5, 6, 7):
            with cache.lease(files[n]):
                assert sum(path.stat().st_size for path in (tmp_path / "files").rglob("files/*")) <= 3900
        assert first.read_bytes() == b"\0" * 1000


def test_a_lease_waits_for_space(server: FileServer, tmp_path: Path) -> None:
    cache = cache_of(tmp_path, 1.9)
    done = threading.Event()

    def other() -> None:
        with cache.lease(RemoteFile(f"{server.url}/2.glb")):
            done.set()

    with cache.lease(RemoteFile(f"{server.url}/1.glb")) as path:
        thread = threading.Thread(target=other)
        thread.start()
        assert not done.wait(0.6)
        assert path.exists()
    assert done.wait(5)
    thread.join()
    with pytest.raises(AssetError) as caught, cache_of(tmp_path, 0.5).lease(RemoteFile(f"{server.url}/3.glb")):
        pass
    assert caught.value.code is ReasonCode.OUT_OF_MEMORY


def test_hashes_are_kept_after_eviction(server: FileServer, tmp_path: Path) -> None:
    cache = cache_of(tmp_path, 1.9)
    files = [RemoteFile(f"{server.url}/{n}.glb") for n in range(4)]
    hashes = [cache.content_hash(file) for file in files]
    assert hashes == [sha256(bytes([n]) * 1000) for n in range(4)]
    assert len(held(tmp_path)) == 1
    assert [cache.content_hash(file) for file in files] == hashes
    assert len(server.requests) == 4
    # A URL without version or hash is fetched again after a week; one with a version never.
    versioned = RemoteFile(f"{server.url}/8.glb", version="1")
    cache.content_hash(versioned)
    for path in (tmp_path / "files").rglob("*.hash"):
        os.utime(path, (0, 0))
    for path in (tmp_path / "files").rglob("complete.json"):
        path.write_text(json.dumps({**json.loads(path.read_text()), "time": 0}))
    server.files["/3.glb"] = b"new"
    assert cache.content_hash(files[3]) == sha256(b"new")
    assert cache.content_hash(versioned) == sha256(bytes([8]) * 1000)
    assert len(server.asked("/8.glb")) == 1


def test_a_published_hash_needs_no_download_and_is_checked_later(server: FileServer, tmp_path: Path) -> None:
    cache = cache_of(tmp_path)
    file = RemoteFile(f"{server.url}/1.glb", sha256="1" * 64)
    assert cache.content_hash(file) == "1" * 64
    assert not server.requests
    with pytest.raises(AssetError) as caught, cache.lease(file):
        pass
    assert caught.value.code is ReasonCode.CHECKSUM_MISMATCH


def test_a_gltf_comes_with_the_files_it_references_and_nothing_else(server: FileServer, tmp_path: Path) -> None:
    uris = ["parts/a b.bin", "../../secret.bin", "file:///etc/passwd", "/etc/passwd", f"{server.url}/1.glb"]
    gltf = {
        "asset": {"version": "2.0"},
        "buffers": [{"uri": uri, "byteLength": 4} for uri in uris],
        "images": [{"uri": "none.png"}, {"uri": "skin%20one.png"}],
    }
    content = {"x.gltf": json.dumps(gltf).encode(), "parts/a b.bin": b"abcd", "skin one.png": b"png"}
    for name, data in content.items():
        server.files[f"/dir/{name}"] = data
        (tmp_path / "local" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "local" / name).write_bytes(data)
    with cache_of(tmp_path / "cache").lease(RemoteFile(f"{server.url}/dir/x.gltf")) as path:
        there = {file.relative_to(path.parent).as_posix() for file in path.parent.rglob("*") if file.is_file()}
        assert there == set(content)
        assert content_hash(path) == content_hash(tmp_path / "local" / "x.gltf")
    asked = [request.path for request in server.requests]
    assert asked == ["/dir/x.gltf", "/dir/parts/a%20b.bin", "/dir/none.png", "/dir/skin%20one.png"]


def test_a_referenced_file_that_exists_must_be_downloaded(server: FileServer, tmp_path: Path) -> None:
    server.files["/x.gltf"] = json.dumps({"asset": {"version": "2.0"}, "buffers": [{"uri": "1.glb"}]}).encode()
    server.faults["/1.glb"] = [("status", 503)] * 2
    with pytest.raises(AssetError) as caught, cache_of(tmp_path).lease(RemoteFile(f"{server.url}/x.gltf")):
        pass
    assert caught.value.code is ReasonCode.DOWNLOAD_FAILED
    with cache_of(tmp_path).lease(RemoteFile(f"{server.url}/x.gltf")) as path:
        assert (path.parent / "1.glb").exists()


def test_lock_files_are_opened_as_nfs_requires(
    server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NFS refuses shared locks on files opened for writing only, and exclusive locks on those for reading only."""
    real = fcntl.flock

    def flock(file: Any, operation: int) -> None:
        mode = fcntl.fcntl(file, fcntl.F_GETFL) & os.O_ACCMODE
        if mode == (os.O_WRONLY if operation & fcntl.LOCK_SH else os.O_RDONLY):
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        real(file, operation)

    monkeypatch.setattr(fcntl, "flock", flock)
    server.files["/a.glb"] = b"a"
    with Cache(DownloadConfig(tmp_path / "cache", allow_host=LOCAL)).lease(RemoteFile(f"{server.url}/a.glb")) as path:
        assert path.read_bytes() == b"a"


def test_long_utf8_names_are_shortened(server: FileServer, tmp_path: Path) -> None:
    server.files["/" + "字" * 120 + ".glb"] = b"a"
    file = RemoteFile(f"{server.url}/{quote('字' * 120)}.glb")
    assert file.suffix == ".glb"
    with Cache(DownloadConfig(tmp_path / "cache", download_attempts=1, allow_host=LOCAL)).lease(file) as path:
        assert path.read_bytes() == b"a"


def test_a_full_disk_is_not_the_servers_fault(
    server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def append(*_: object) -> None:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr("helix4d.curation.remote.transfer._append", append)
    server.files["/a.glb"] = b"a"
    cache = Cache(DownloadConfig(tmp_path / "cache", backoff_s=0.01, allow_host=LOCAL))
    file = RemoteFile(f"{server.url}/a.glb")
    with pytest.raises(OSError, match="full"), cache.lease(file):
        pass
    with pytest.raises(StorageError, match="full"):
        hash_sources([SourceAsset("a", Path("a.glb"), -1, 0, file)], cache)


def test_entries_are_measured_only_when_something_must_be_evicted(
    server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Measuring looks at every entry, and every download reserves space."""
    plain, counts = Room._entries, []

    def entries(room: Room) -> Iterator[tuple[float, int, Path]]:
        counts.append(1)
        return plain(room)

    monkeypatch.setattr(Room, "_entries", entries)
    for n in range(9):
        with cache_of(tmp_path, 20).lease(RemoteFile(f"{server.url}/{n}.glb")):
            pass
    assert len(counts) <= 2  # the folder was new
    (tmp_path / "files" / "total").write_text("1000000")  # what a crash may leave: too much
    server.files["/10.glb"] = b"a"
    with cache_of(tmp_path, 20).lease(RemoteFile(f"{server.url}/10.glb")):
        assert len(held(tmp_path)) == 10
    assert int((tmp_path / "files" / "total").read_text()) < 20_000

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from helix4d.core import AssetError, ReasonCode
from helix4d.curation.remote import web
from helix4d.curation.remote.config import DownloadConfig
from helix4d.curation.remote.files import RemoteFile
from helix4d.curation.remote.transfer import Transfer
from helix4d.curation.remote.web import Pace
from tests.curation.servers import LOCAL, FileServer, serving, sha256

DATA = bytes(range(256)) * 800


@pytest.fixture
def server() -> Iterator[FileServer]:
    with serving(FileServer({"/a.glb": DATA})) as running:
        yield running


@pytest.fixture
def config(tmp_path: Path) -> DownloadConfig:
    return DownloadConfig(
        cache=tmp_path / "cache",
        requests_per_s=1000,
        download_attempts=3,
        backoff_s=0.01,
        stall_s=2,
        allow_host=(*LOCAL, "memory://fetch"),
    )


def fetch(config: DownloadConfig, file: RemoteFile, target: Path, most: int = 1 << 30) -> str:
    return Transfer(config, most).fetch(file, target, lambda total: None, lambda done, total: None)


def code_of(config: DownloadConfig, file: RemoteFile, target: Path, most: int = 1 << 30) -> ReasonCode:
    with pytest.raises(AssetError) as caught:
        fetch(config, file, target, most)
    assert not target.exists()
    return caught.value.code


def test_an_interrupted_download_resumes(server: FileServer, config: DownloadConfig, tmp_path: Path) -> None:
    server.faults["/a.glb"] = [("half", 70_000), ("half", 1_000), ("status", 503), ("half", 0)]
    digest = fetch(config, RemoteFile(f"{server.url}/a.glb", sha256=sha256(DATA)), tmp_path / "a.glb")
    assert (tmp_path / "a.glb").read_bytes() == DATA
    assert digest == sha256(DATA)
    assert [one.range for one in server.requests[1:]] == ["bytes=70000-"] + ["bytes=71000-"] * 3
    assert sum(one.sent for one in server.requests if one.sent > 2) == len(DATA)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.glb", "cache"]


def test_a_later_process_resumes_it_too(server: FileServer, config: DownloadConfig, tmp_path: Path) -> None:
    server.faults["/a.glb"] = [("half", 100_000), *[("half", 0)] * 3]
    assert code_of(config, RemoteFile(f"{server.url}/a.glb"), tmp_path / "a.glb") is ReasonCode.DOWNLOAD_FAILED
    fetch(config, RemoteFile(f"{server.url}/a.glb"), tmp_path / "a.glb")
    assert server.requests[-1].range == "bytes=100000-"
    assert (tmp_path / "a.glb").read_bytes() == DATA


def test_changed_content_is_not_appended_to_a_partial_file(
    server: FileServer, config: DownloadConfig, tmp_path: Path
) -> None:
    server.faults["/a.glb"] = [("half", 100_000), *[("half", 0)] * 3]
    assert code_of(config, RemoteFile(f"{server.url}/a.glb"), tmp_path / "a.glb") is ReasonCode.DOWNLOAD_FAILED
    server.files["/a.glb"] = DATA[::-1]
    fetch(config, RemoteFile(f"{server.url}/a.glb"), tmp_path / "a.glb")
    assert (tmp_path / "a.glb").read_bytes() == DATA[::-1]


def test_without_an_etag_only_a_known_hash_allows_resuming(
    server: FileServer, config: DownloadConfig, tmp_path: Path
) -> None:
    server.etags = False
    server.faults["/a.glb"] = [("half", 100_000)]
    fetch(config, RemoteFile(f"{server.url}/a.glb"), tmp_path / "a.glb")
    assert server.requests[-1].range == ""
    server.faults["/a.glb"] = [("half", 100_000)]
    fetch(config, RemoteFile(f"{server.url}/a.glb", sha256=sha256(DATA)), tmp_path / "b.glb")
    assert server.requests[-1].range == "bytes=100000-"
    assert (tmp_path / "a.glb").read_bytes() == (tmp_path / "b.glb").read_bytes() == DATA


def test_a_wrong_hash_is_retried_once_and_then_reported(
    server: FileServer, config: DownloadConfig, tmp_path: Path
) -> None:
    file = RemoteFile(f"{server.url}/a.glb", sha256=sha256(DATA))
    server.faults["/a.glb"] = [("body", b"<html>sign in</html>")]
    fetch(config, file, tmp_path / "a.glb")
    wrong = RemoteFile(f"{server.url}/a.glb", sha256="0" * 64)
    assert code_of(config, wrong, tmp_path / "b.glb") is ReasonCode.CHECKSUM_MISMATCH
    assert len(server.requests) == 4


@pytest.mark.parametrize(("status", "requests"), [(404, 1), (403, 1), (410, 1), (500, 3), (503, 3)])
def test_permanent_errors_are_not_retried(
    server: FileServer, config: DownloadConfig, tmp_path: Path, status: int, requests: int
) -> None:
    server.faults["/a.glb"] = [("status", status)] * 9
    assert code_of(config, RemoteFile(f"{server.url}/a.glb"), tmp_path / "a.glb") is ReasonCode.DOWNLOAD_FAILED
    assert len(server.requests) == requests


def test_rate_limits_are_waited_for(server: FileServer, config: DownloadConfig, tmp_path: Path) -> None:
    # More often than there are attempts: being asked to wait is not a failed attempt.
    server.faults["/a.glb"] = [("status", 429, {"Retry-After": "0.3"})] * 4
    start = time.monotonic()
    fetch(config, RemoteFile(f"{server.url}/a.glb"), tmp_path / "a.glb")
    assert time.monotonic() - start >= 1.2
    server.faults["/a.glb"] = [("status", 429, {"Retry-After": "1801"})]
    assert code_of(config, RemoteFile(f"{server.url}/a.glb"), tmp_path / "b.glb") is ReasonCode.DOWNLOAD_FAILED
    server.faults["/a.glb"] = [("status", 429, {"Retry-After": "0"})] * 200
    assert code_of(config, RemoteFile(f"{server.url}/a.glb"), tmp_path / "b.glb") is ReasonCode.DOWNLOAD_FAILED
    server.faults["/a.glb"] = [("status", 429)] * 3
    assert code_of(config, RemoteFile(f"{server.url}/a.glb"), tmp_path / "b.glb") is ReasonCode.DOWNLOAD_FAILED


def test_files_over_the_limit_are_refused_before_they_are_fetched(
    server: FileServer, config: DownloadConfig, tmp_path: Path
) -> None:
    server.files["/a.glb"] = bytes(1 << 20)
    limit = (1 << 20) - 1  # the first blocks fit
    assert code_of(config, RemoteFile(f"{server.url}/a.glb"), tmp_path / "a.glb", limit) is ReasonCode.OUT_OF_MEMORY
    assert not (tmp_path / "a.glb.partial").exists()


def test_an_unreachable_server_fails_the_download(config: DownloadConfig, tmp_path: Path) -> None:
    file = RemoteFile("http://127.0.0.1:9/a.glb")
    assert code_of(config, file, tmp_path / "a.glb") is ReasonCode.DOWNLOAD_FAILED


def test_the_announced_size_must_arrive(server: FileServer, config: DownloadConfig, tmp_path: Path) -> None:
    file = RemoteFile(f"{server.url}/a.glb", size=len(DATA) + 5)
    assert code_of(config, file, tmp_path / "a.glb") is ReasonCode.DOWNLOAD_FAILED


def test_empty_files_are_downloaded(server: FileServer, config: DownloadConfig, tmp_path: Path) -> None:
    server.files["/empty.glb"] = b""
    fetch(config, RemoteFile(f"{server.url}/empty.glb"), tmp_path / "empty.glb")
    assert (tmp_path / "empty.glb").read_bytes() == b""


def test_other_protocols_are_fetched_in_ranges(config: DownloadConfig, tmp_path: Path) -> None:
    memory = fsspec.filesystem("memory")
    data = DATA * 100
    memory.pipe_file("/fetch/a.glb", data)
    assert fetch(config, RemoteFile("memory://fetch/a.glb"), tmp_path / "a.glb") == sha256(data)
    (tmp_path / "b.glb.partial").write_bytes(data[:5_000_000])
    fetch(config, RemoteFile("memory://fetch/a.glb", sha256=sha256(data)), tmp_path / "b.glb")
    assert (tmp_path / "b.glb").read_bytes() == data
    nothing = RemoteFile("memory://fetch/none.glb")
    assert code_of(config, nothing, tmp_path / "c.glb") is ReasonCode.DOWNLOAD_FAILED


class FakeTime:
    """The module `time`, with a clock that only sleeping moves."""

    now = 1e9

    def time(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def test_the_rate_limit_is_shared_through_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeTime()
    monkeypatch.setattr(web, "time", fake)
    one, two = Pace(tmp_path, 20), Pace(tmp_path, 20)
    for _ in range(5):
        one.wait("host")
        two.wait("host")
    assert fake.now == pytest.approx(1e9 + 9 / 20, abs=1e-4), "ten requests, the first at once"
    one.hold("host", 300)
    start = fake.now
    two.wait("other")
    assert fake.now == start, "another host is not held"
    two.wait("host")
    assert fake.now == pytest.approx(start + 300, abs=1e-4)

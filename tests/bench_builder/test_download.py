"""Downloads of stills from a local server that drops connections, serves other files or ignores ranges."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from helix4d.bench_builder import stills
from helix4d.bench_builder.stills import download
from helix4d.core import ConfigError
from helix4d.curation.remote.config import DownloadConfig
from tests.curation.servers import LOCAL, FileServer, serving, sha256

DATA = bytes(range(256)) * 1000
SHA256 = sha256(DATA)
STILL = "/still.webp"


@pytest.fixture
def server() -> Iterator[FileServer]:
    with serving(FileServer({STILL: DATA})) as running:
        yield running


@pytest.fixture
def config(tmp_path: Path) -> DownloadConfig:
    return DownloadConfig(
        cache=tmp_path / "cache", requests_per_s=1000, download_attempts=4, backoff_s=0.01, allow_host=LOCAL
    )


def ranges(server: FileServer) -> list[str]:
    return [request.range for request in server.requests]


def test_a_complete_still_is_the_only_file_left(server: FileServer, config: DownloadConfig, tmp_path: Path) -> None:
    path = tmp_path / "new" / "still.webp"
    download(server.url + STILL, path, SHA256, config)
    assert path.read_bytes() == DATA
    assert [file.name for file in path.parent.iterdir()] == ["still.webp"]


def test_a_dropped_connection_resumes(server: FileServer, config: DownloadConfig, tmp_path: Path) -> None:
    server.faults[STILL] = [("half", 100_000), ("half", 50_000)]
    download(server.url + STILL, tmp_path / "still.webp", SHA256, config)
    assert (tmp_path / "still.webp").read_bytes() == DATA
    assert ranges(server) == ["", "bytes=100000-", "bytes=150000-"]


def test_a_later_run_resumes_too(server: FileServer, config: DownloadConfig, tmp_path: Path) -> None:
    path = tmp_path / "still.webp"
    server.faults[STILL] = [("half", 100_000), ("half", 0), ("half", 0), ("half", 0)]
    with pytest.raises(ConfigError, match=r"still\.webp: cannot be downloaded .*: rerun to resume it, or pass"):
        download(server.url + STILL, path, SHA256, config)
    assert not path.exists()
    download(server.url + STILL, path, SHA256, config)
    assert ranges(server)[-1] == "bytes=100000-"
    assert path.read_bytes() == DATA


def test_a_server_that_ignores_ranges_starts_over(server: FileServer, config: DownloadConfig, tmp_path: Path) -> None:
    server.faults[STILL] = [("half", 100_000), ("body", DATA)]
    download(server.url + STILL, tmp_path / "still.webp", SHA256, config)
    assert (tmp_path / "still.webp").read_bytes() == DATA


@pytest.mark.parametrize("left", [b"something else", DATA, DATA + b"and more"])
def test_leftovers_of_earlier_runs_do_no_harm(
    left: bytes, server: FileServer, config: DownloadConfig, tmp_path: Path
) -> None:
    path = tmp_path / "still.webp"
    path.with_name("still.webp.partial").write_bytes(left)
    download(server.url + STILL, path, SHA256, config)
    assert path.read_bytes() == DATA


def test_a_different_file_is_refused_with_both_hashes(
    server: FileServer, config: DownloadConfig, tmp_path: Path
) -> None:
    server.files[STILL] = b"another still"
    with pytest.raises(ConfigError, match=f"sha256 is {sha256(b'another still')}, expected {SHA256}"):
        download(server.url + STILL, tmp_path / "still.webp", SHA256, config)
    assert [path.name for path in tmp_path.iterdir()] == ["cache"]


def test_a_missing_file_is_requested_once_and_an_overloaded_server_again(
    server: FileServer, config: DownloadConfig, tmp_path: Path
) -> None:
    server.faults[STILL] = [("status", 404)]
    with pytest.raises(ConfigError, match="404"):
        download(server.url + STILL, tmp_path / "still.webp", SHA256, config)
    assert len(server.requests) == 1
    server.faults[STILL] = [("status", 503), ("status", 429)]
    download(server.url + STILL, tmp_path / "still.webp", SHA256, config)
    assert len(server.requests) == 4


def test_a_file_over_the_limit_is_not_stored(
    server: FileServer, config: DownloadConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stills, "MAX_BYTES", 100_000)
    with pytest.raises(ConfigError, match="256,000 bytes, which exceeds the limit of 100,000"):
        download(server.url + STILL, tmp_path / "still.webp", SHA256, config)
    assert not (tmp_path / "still.webp").exists()


def test_a_folder_that_cannot_be_written_is_reported(
    server: FileServer, config: DownloadConfig, tmp_path: Path
) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ConfigError, match=r"still\.webp: cannot be downloaded \(.*Not a directory"):
        download(server.url + STILL, tmp_path / "file" / "still.webp", SHA256, config)

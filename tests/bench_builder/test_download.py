"""Downloads from a server on this machine that cuts connections, serves other files or knows no ranges."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from helix4d.bench_builder import stills
from helix4d.bench_builder.stills import download
from helix4d.core import ConfigError

DATA = bytes(range(256)) * 1000
SHA256 = hashlib.sha256(DATA).hexdigest()


@dataclass
class Server:
    """What it does, and what it was asked."""

    url: str = ""
    data: bytes = DATA
    ranges: bool = True
    cuts: list[int] = field(default_factory=list)
    """How many bytes the next answers give before the connection breaks."""
    statuses: list[int] = field(default_factory=list)
    """What the next answers say instead of giving the file."""
    asked: list[str | None] = field(default_factory=list)


@pytest.fixture
def server() -> Iterator[Server]:
    state = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            wanted = self.headers.get("Range")
            state.asked.append(wanted)
            if state.statuses:
                self.send_error(state.statuses.pop(0))
                return
            start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted and state.ranges else 0
            if start >= len(state.data):
                self.send_error(416)
                return
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(state.data) - start))
            self.end_headers()
            body = state.data[start:]
            self.wfile.write(body[: state.cuts.pop(0)] if state.cuts else body)

        def log_message(self, *_: object) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.url = f"http://127.0.0.1:{http.server_port}/still.webp"
    thread = threading.Thread(target=http.serve_forever)
    thread.start()
    yield state
    http.shutdown()
    thread.join()
    http.server_close()


def test_a_file_arrives_whole(server: Server, tmp_path: Path) -> None:
    path = tmp_path / "new" / "still.webp"
    download(server.url, path, SHA256)
    assert path.read_bytes() == DATA
    assert [file.name for file in path.parent.iterdir()] == ["still.webp"]


def test_a_connection_that_breaks_goes_on_where_it_stopped(server: Server, tmp_path: Path) -> None:
    server.cuts = [100_000, 50_000]
    download(server.url, tmp_path / "still.webp", SHA256, pause_s=0.01)
    assert (tmp_path / "still.webp").read_bytes() == DATA
    assert server.asked == [None, "bytes=100000-", "bytes=150000-"]


def test_so_does_a_later_run(server: Server, tmp_path: Path) -> None:
    path = tmp_path / "still.webp"
    server.cuts = [100_000, 0, 0, 0]
    with pytest.raises(ConfigError, match=r"cannot be downloaded .* run again to go on, or give the stills"):
        download(server.url, path, SHA256, pause_s=0.01)
    assert not path.exists()
    download(server.url, path, SHA256)
    assert server.asked[-1] == "bytes=100000-"
    assert path.read_bytes() == DATA


def test_a_server_without_ranges_starts_again(server: Server, tmp_path: Path) -> None:
    server.cuts, server.ranges = [100_000], False
    download(server.url, tmp_path / "still.webp", SHA256, pause_s=0.01)
    assert (tmp_path / "still.webp").read_bytes() == DATA


@pytest.mark.parametrize("left", [b"something else", DATA, DATA + b"and more"])
def test_whatever_was_left_behind_the_file_comes_right(left: bytes, server: Server, tmp_path: Path) -> None:
    path = tmp_path / "still.webp"
    path.with_name("still.webp.part").write_bytes(left)
    download(server.url, path, SHA256)
    assert path.read_bytes() == DATA


def test_another_file_is_refused_with_both_hashes(server: Server, tmp_path: Path) -> None:
    server.data = b"another still"
    with pytest.raises(ConfigError, match=f"{hashlib.sha256(server.data).hexdigest()}, listed is {SHA256}"):
        download(server.url, tmp_path / "still.webp", SHA256)
    assert list(tmp_path.iterdir()) == []


def test_a_missing_file_is_asked_for_once_and_an_overloaded_server_again(server: Server, tmp_path: Path) -> None:
    server.statuses = [404]
    with pytest.raises(ConfigError, match="404"):
        download(server.url, tmp_path / "still.webp", SHA256)
    assert len(server.asked) == 1
    server.statuses = [503, 429]
    download(server.url, tmp_path / "still.webp", SHA256, pause_s=0.01)
    assert len(server.asked) == 4


def test_an_endless_file_is_not_stored(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stills, "MAX_BYTES", 100_000)
    with pytest.raises(ConfigError, match="more than 100000 bytes"):
        download(server.url, tmp_path / "still.webp", SHA256)
    assert not (tmp_path / "still.webp").exists()

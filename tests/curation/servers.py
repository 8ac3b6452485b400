"""Local servers for tests: files with ranges, redirects and faults, and a small model hub."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, quote, unquote, urlsplit

LOCAL = ("127.0.0.1",)
"""`allow_host` for downloads from these servers."""


@dataclass
class Request:
    """A request, and how many bytes of a body were sent.

    Attributes:
        path: path and query.
        range: the Range header.
        token: the Authorization header.
        body: content of a POST.
        sent: bytes of the response's body.
    """

    path: str
    range: str
    token: str = ""
    body: bytes = b""
    sent: int = 0


@dataclass
class FileServer:
    """Files by path; faults are used up in order, one per request.

    Attributes:
        files: path with a leading slash -> content.
        faults: path -> faults of the next requests: ("status", code, headers), ("half", bytes) or ("body", bytes).
        etags: whether responses have an ETag.
        requests: all requests received.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    faults: dict[str, list[tuple]] = field(default_factory=dict)
    etags: bool = True
    requests: list[Request] = field(default_factory=list)
    url: str = ""

    def asked(self, path: str) -> list[Request]:
        """Requests for a path, without its query."""
        return [request for request in self.requests if urlsplit(request.path).path == path]

    def answer(self, handler: Handler) -> None:
        """One GET or HEAD."""
        path = unquote(urlsplit(handler.path).path)
        if path.endswith("/") and any(name.startswith(path) for name in self.files):
            names = sorted(
                {
                    name[len(path) :].split("/")[0] + "/" * ("/" in name[len(path) :])
                    for name in self.files
                    if name.startswith(path)
                }
            )
            page = "".join(f'<a href="{quote(name)}">{name}</a>' for name in names).encode()
            handler.give(200, page, {"Content-Type": "text/html"})
        elif path in self.files:
            handler.give_file(self.files[path], self.etags)
        elif any(name.startswith(f"{path}/") for name in self.files):
            handler.give(301, b"", {"Location": f"{path}/"})
        else:
            handler.give(404, b"<html>not found</html>")


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    files: FileServer

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        token = self.headers.get("Authorization", "")
        self.request_seen = Request(self.path, self.headers.get("Range", ""), token, body)
        self.files.requests.append(self.request_seen)
        path = unquote(urlsplit(self.path).path)
        fault = self.files.faults.get(path, [])
        self.cut = None
        if fault:
            kind, *rest = fault.pop(0)
            if kind == "status":
                return self.give(rest[0], b"no", rest[1] if len(rest) > 1 else {})
            if kind == "body":
                return self.give(200, rest[0])
            self.cut = rest[0]
        return self.files.answer(self)

    do_HEAD = do_GET  # noqa: N815
    do_POST = do_GET  # noqa: N815

    def give_file(self, data: bytes, etags: bool = True, headers: dict[str, str] | None = None) -> None:
        headers = dict(headers or {})
        etag = f'"{hashlib.md5(data).hexdigest()}"'
        if etags:
            headers["ETag"] = etag
        wanted = self.headers.get("Range", "")
        if wanted and self.headers.get("If-Range", etag) == etag:
            first, _, last = wanted.removeprefix("bytes=").partition("-")
            start, end = int(first), min(int(last or len(data) - 1), len(data) - 1)
            if start >= len(data):
                return self.give(416, b"", {"Content-Range": f"bytes */{len(data)}"})
            headers["Content-Range"] = f"bytes {start}-{end}/{len(data)}"
            return self.give(206, data[start : end + 1], headers)
        return self.give(200, data, {"Accept-Ranges": "bytes", **headers})

    def give(self, status: int, data: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command == "HEAD":
            return
        part = data if self.cut is None else data[: self.cut]
        self.request_seen.sent += len(part)
        self.wfile.write(part)
        if self.cut is not None:
            self.wfile.flush()
            self.close_connection = True

    def log_message(self, *_: object) -> None:
        pass


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:
        """Clients that hang up are part of the tests."""


@contextmanager
def serving(files: FileServer) -> Iterator[FileServer]:
    """Run it on a free port while the block runs."""
    server = _Server(("127.0.0.1", 0), type("Bound", (Handler,), {"files": files}))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    files.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield files
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@dataclass
class HubServer(FileServer):
    """The hub's protocol: revision, tree in pages of two, paths-info, resolve with a redirect for large files.

    Attributes:
        repositories: `datasets/OWNER/NAME` -> path -> content.
        commits: `datasets/OWNER/NAME` -> commit of its main branch.
        large: files of at least this many bytes are redirected to storage, with a published sha256.
        storage: address of the storage; "" is this server.
    """

    repositories: dict[str, dict[str, bytes]] = field(default_factory=dict)
    commits: dict[str, str] = field(default_factory=dict)
    large: int = 200
    storage: str = ""

    def answer(self, handler: Handler) -> None:
        parts = urlsplit(handler.path)
        words = unquote(parts.path).strip("/").split("/")
        if words[0] == "cdn":
            content = next(
                data for files in self.repositories.values() for data in files.values() if sha256(data) == words[1]
            )
            return handler.give_file(content, self.etags)
        api = words[0] == "api"
        name = "/".join(words[1:4] if api else words[:3])
        rest = words[4:] if api else words[3:]
        files = self.repositories.get(name)
        if files is None or len(rest) < 2:
            return handler.give(404, b'{"error": "Repository not found"}')
        commit = self.commits.get(name, "c" * 40)
        if rest[1] not in ("main", commit):
            return handler.give(404, b'{"error": "Invalid rev id"}')
        if api and rest[0] == "revision":
            return handler.give(200, json.dumps({"sha": commit, "id": name}).encode())
        if api and rest[0] == "tree":
            return self._tree(handler, files, "/".join(rest[2:]), parse_qs(parts.query), parts.path)
        if api and rest[0] == "paths-info":
            paths = parse_qs(handler.request_seen.body.decode())["paths"]
            entries = [self._entry(path, files[path]) for path in paths if path in files]
            return handler.give(200, json.dumps(entries).encode())
        path = "/".join(rest[2:])
        if rest[0] != "resolve" or path not in files:
            return handler.give(404, b"Entry not found", {"X-Error-Code": "EntryNotFound"})
        data = files[path]
        if len(data) < self.large:
            return handler.give_file(data)
        headers = {
            "Location": f"{self.storage}/cdn/{sha256(data)}",
            "X-Linked-Etag": f'"{sha256(data)}"',
            "X-Linked-Size": str(len(data)),
        }
        return handler.give(302, b"", {**headers, "X-Repo-Commit": commit})

    def _tree(
        self, handler: Handler, files: dict[str, bytes], folder: str, query: dict[str, list[str]], here: str
    ) -> None:
        base = f"{folder}/" if folder else ""
        recursive = query.get("recursive") == ["true"]
        entries: dict[str, dict] = {}
        for path in sorted(files):
            if not path.startswith(base):
                continue
            head, _, tail = path[len(base) :].partition("/")
            if tail:
                entries[base + head] = {"type": "directory", "path": base + head, "size": 0, "oid": "d" * 40}
            if not tail or recursive:
                entries[path] = self._entry(path, files[path])
        if not entries:
            return handler.give(404, b'{"error": "Entry not found"}')
        start = int(query.get("cursor", ["0"])[0])
        headers = {}
        if start + 2 < len(entries):
            # Like some mirrors, link to the hub itself.
            following = f"https://hub.invalid{here}?recursive={str(recursive).lower()}&cursor={start + 2}"
            headers["Link"] = f'<{following}>; rel="next"'
        return handler.give(200, json.dumps(list(entries.values())[start : start + 2]).encode(), headers)

    def _entry(self, path: str, data: bytes) -> dict:
        entry = {"type": "file", "path": path, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
        if len(data) >= self.large:
            entry["lfs"] = {"oid": sha256(data), "size": len(data), "pointerSize": 134}
        return entry


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()

"""A small object store that speaks enough of S3 for s3fs: GET with ranges, PUT, HEAD, DELETE, lists, multipart."""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

import fsspec
import pytest


@dataclass
class S3Server:
    """Objects by `/bucket/key`.

    Attributes:
        objects: content.
        refusals: how many of the next writes are refused with 503.
        log: (method, path) of every write that was taken, in order.
        refused: how many were not.
        reads: (path, bytes) of every object that was requested, whole or in part, in order.
        signed: requests that carried a signature.
        needs_signature: whether reads without one are refused.
    """

    objects: dict[str, bytes] = field(default_factory=dict)
    refusals: int = 0
    log: list[tuple[str, str]] = field(default_factory=list)
    refused: int = 0
    reads: list[tuple[str, int]] = field(default_factory=list)
    signed: int = 0
    needs_signature: bool = False
    url: str = ""
    parts: dict[str, dict[int, bytes]] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def put_folder(self, folder: Path, path: str) -> None:
        """Files of a folder become the only objects below `/bucket/path`."""
        self.objects = {name: data for name, data in self.objects.items() if not name.startswith(f"{path}/")}
        for file in folder.rglob("*"):
            if file.is_file():
                self.objects[f"{path}/{file.relative_to(folder).as_posix()}"] = file.read_bytes()

    def refuses(self) -> bool:
        with self.lock:
            if self.refusals <= 0:
                return False
            self.refusals -= 1
            self.refused += 1
            return True


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    store: S3Server

    def _parse(self) -> None:
        parts = urlsplit(self.path)
        self.key = unquote(parts.path)
        self.query = {name: values[0] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
        data = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if "aws-chunked" in self.headers.get("Content-Encoding", ""):
            data = _unchunk(data)
        self.data = data

    def _give(self, status: int, data: bytes = b"", headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def _error(self, status: int, code: str) -> None:
        self._give(status, f"<Error><Code>{code}</Code><Message>{code}</Message></Error>".encode())

    def do_GET(self) -> None:
        self._parse()
        self.store.signed += "Authorization" in self.headers
        if self.store.needs_signature and "Authorization" not in self.headers:
            return self._error(403, "AccessDenied")
        if self.key.count("/") == 1 or (self.key.endswith("/") and self.key.count("/") == 2):
            return self._list()
        data = self.store.objects.get(self.key)
        if data is None:
            return self._error(404, "NoSuchKey")
        etag = {"ETag": f'"{hashlib.md5(data).hexdigest()}"', "Last-Modified": "Wed, 25 Nov 2026 10:00:00 GMT"}
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if self.command == "HEAD" or not wanted:
            self._count(len(data))
            return self._give(200, data if self.command != "HEAD" else b"", {**etag, "Content-Length": str(len(data))})
        start, end = int(wanted[1]), min(int(wanted[2] or len(data)), len(data) - 1)
        if start >= len(data):
            return self._error(416, "InvalidRange")
        self._count(end + 1 - start)
        return self._give(206, data[start : end + 1], {**etag, "Content-Range": f"bytes {start}-{end}/{len(data)}"})

    do_HEAD = do_GET  # noqa: N815

    def _count(self, size: int) -> None:
        if self.command == "GET":
            with self.store.lock:
                self.store.reads.append((self.key, size))

    def _list(self) -> None:
        bucket, prefix = self.key.strip("/"), self.query.get("prefix", "")
        if self.command == "HEAD":
            return self._give(200)
        delimiter = self.query.get("delimiter", "")
        contents, common = "", set()
        for path, data in sorted(self.store.objects.items()):
            key = path.removeprefix(f"/{bucket}/")
            if not path.startswith(f"/{bucket}/") or not key.startswith(prefix):
                continue
            rest = key[len(prefix) :]
            if delimiter and delimiter in rest:
                common.add(prefix + rest.split(delimiter)[0] + delimiter)
                continue
            contents += (
                f"<Contents><Key>{escape(key)}</Key><LastModified>2026-11-25T10:00:00.000Z</LastModified>"
                f'<ETag>"{hashlib.md5(data).hexdigest()}"</ETag><Size>{len(data)}</Size></Contents>'
            )
        contents += "".join(
            f"<CommonPrefixes><Prefix>{escape(one)}</Prefix></CommonPrefixes>" for one in sorted(common)
        )
        page = f"<ListBucketResult><Name>{bucket}</Name><IsTruncated>false</IsTruncated>{contents}</ListBucketResult>"
        return self._give(200, page.encode(), {"Content-Type": "application/xml"})

    def do_PUT(self) -> None:
        self._parse()
        if self.store.refuses():
            return self._error(503, "SlowDown")
        etag = {"ETag": f'"{hashlib.md5(self.data).hexdigest()}"'}
        if "uploadId" in self.query:
            self.store.parts[self.query["uploadId"]][int(self.query["partNumber"])] = self.data
        elif self.key.count("/") > 1:
            self.store.objects[self.key] = self.data
            self.store.log.append(("PUT", self.key))
        return self._give(200, b"", etag)

    def do_POST(self) -> None:
        self._parse()
        if self.store.refuses():
            return self._error(503, "SlowDown")
        if "uploads" in self.query:
            name = f"upload{len(self.store.parts)}"
            self.store.parts[name] = {}
            return self._give(200, f"<X><UploadId>{name}</UploadId></X>".encode())
        if "uploadId" in self.query:
            parts = self.store.parts.pop(self.query["uploadId"])
            self.store.objects[self.key] = b"".join(parts[number] for number in sorted(parts))
            self.store.log.append(("PUT", self.key))
            return self._give(200, b"<CompleteMultipartUploadResult><ETag>x</ETag></CompleteMultipartUploadResult>")
        for key in re.findall(rb"<Key>(.*?)</Key>", self.data):
            self._remove(f"{self.key.rstrip('/')}/{key.decode()}")
        return self._give(200, b"<DeleteResult></DeleteResult>")

    def do_DELETE(self) -> None:
        self._parse()
        self._remove(self.key)
        return self._give(204)

    def _remove(self, path: str) -> None:
        if self.store.objects.pop(path, None) is not None:
            self.store.log.append(("DELETE", path))

    def log_message(self, *_: object) -> None:
        pass


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:
        """Clients that are killed are part of the tests."""


def _unchunk(data: bytes) -> bytes:
    """The content of an `aws-chunked` body."""
    out = b""
    while True:
        line, _, data = data.partition(b"\r\n")
        size = int(line.split(b";")[0], 16)
        if size == 0:
            return out
        out, data = out + data[:size], data[size + 2 :]


@contextmanager
def serving_s3(store: S3Server) -> Iterator[S3Server]:
    """Run it on a free port while the block runs."""
    server = _Server(("127.0.0.1", 0), type("Bound", (_Handler,), {"store": store}))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    store.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield store
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def use(server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `s3://` be this server until the test ends."""
    for name, value in {
        "AWS_ENDPOINT_URL": server.url,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_MAX_ATTEMPTS": "1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }.items():
        monkeypatch.setenv(name, value)
    fsspec.filesystem("s3").clear_instance_cache()

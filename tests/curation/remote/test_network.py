"""Downloads: permitted hosts, the use of credentials, and slow or misbehaving servers."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from urllib3.util import connection as connections

from helix4d.core import AssetError, ConfigError, ReasonCode
from helix4d.curation.command import parse_config
from helix4d.curation.remote.cache import Cache
from helix4d.curation.remote.config import DownloadConfig
from helix4d.curation.remote.files import RemoteFile
from helix4d.curation.remote.network import Network, RefusedHostError, kind_of, named_by
from helix4d.curation.remote.transfer import Transfer
from tests.curation.runs import arguments
from tests.curation.s3_server import S3Server
from tests.curation.servers import LOCAL, FileServer, HubServer, serving

PUBLIC = ["8.8.8.8", "2606:4700:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"]
NOT_PUBLIC = {
    "loopback": ["127.0.0.1", "127.255.0.9", "::1", "::ffff:127.0.0.1", "2002:7f00:1::", "64:ff9b::7f00:1"],
    "link-local": ["169.254.169.254", "fe80::1%eth0", "::ffff:169.254.169.254"],
    "private": ["10.0.0.1", "172.16.0.1", "192.168.1.1", "fd00:ec2::254", "::ffff:10.0.0.1", "0.1.2.3", "198.18.0.1"],
    "unspecified": ["0.0.0.0", "::"],
    "multicast": ["224.0.0.1", "239.1.1.1", "ff02::1"],
    "reserved": ["100.64.0.1", "192.0.0.192", "168.63.129.16", "fec0::1"],
}


@pytest.fixture
def server() -> Iterator[FileServer]:
    with serving(FileServer({"/a.glb": b"secret of the intranet"})) as running:
        yield running


def config_of(folder: Path, **settings: Any) -> DownloadConfig:
    base = {"requests_per_s": 1000, "download_attempts": 2, "backoff_s": 0.0, "stall_s": 0.5}
    return DownloadConfig(folder / "cache", **{**base, **settings})


def refusal(config: DownloadConfig, url: str) -> AssetError:
    """The error of a download that must fail."""
    with pytest.raises(AssetError) as caught, Cache(config).lease(RemoteFile(url)):
        pass
    return caught.value


@contextmanager
def answering(answer: Callable[[socket.socket], None]) -> Iterator[str]:
    """A server that reads the request and then does what `answer` does with each connection."""

    def handle(client: socket.socket) -> None:
        with client, suppress(OSError):
            client.recv(1 << 16)
            answer(client)

    def accept() -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=handle, args=(listener.accept()[0],), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=accept, daemon=True).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/a.glb"
        listener.shutdown(socket.SHUT_RDWR)


def trickle(client: socket.socket, data: bytes) -> None:
    for byte in data:
        client.sendall(bytes([byte]))
        time.sleep(0.05)


def test_kinds_of_addresses() -> None:
    assert {address: kind_of(address) for address in PUBLIC} == dict.fromkeys(PUBLIC, "")
    for kind, addresses in NOT_PUBLIC.items():
        assert {address: kind_of(address) for address in addresses} == dict.fromkeys(addresses, kind)


@pytest.mark.parametrize("host", ["127.0.0.1", "2130706433", "0x7f.1", "0177.0.0.1", "127.1", "0.0.0.0", "localhost"])
def test_every_spelling_of_a_local_address_is_refused(server: FileServer, tmp_path: Path, host: str) -> None:
    url = server.url.replace("127.0.0.1", host) + "/a.glb"
    error = refusal(config_of(tmp_path), url)
    assert error.code is ReasonCode.HOST_NOT_ALLOWED
    assert f"pass --allow-host {host}" in error.message
    assert not server.requests
    with Cache(config_of(tmp_path, allow_host=(host,))).lease(RemoteFile(url)) as path:
        assert path.read_bytes() == server.files["/a.glb"]


@pytest.mark.parametrize("host", ["[::1]", "[::ffff:127.0.0.1]"])
def test_ipv6_addresses_are_refused(tmp_path: Path, host: str) -> None:
    assert refusal(config_of(tmp_path), f"http://{host}:9/a.glb").code is ReasonCode.HOST_NOT_ALLOWED


def test_a_redirect_is_checked_as_well(server: FileServer, tmp_path: Path) -> None:
    with serving(FileServer(faults={"/x.glb": [("status", 302, {"Location": f"{server.url}/a.glb"})] * 2})) as outside:
        named = outside.url.removeprefix("http://")
        error = refusal(config_of(tmp_path, allow_host=(named,)), f"{outside.url}/x.glb")
        assert error.code is ReasonCode.HOST_NOT_ALLOWED
        assert len(outside.requests) == 1, "not retried"
        assert not server.requests


def test_a_name_is_resolved_once_and_that_address_is_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """DNS rebinding: the second answer would be the address of a service of this machine."""
    plain, asked, reached = socket.getaddrinfo, [], []

    def resolve(host: str, port: Any, *rest: Any, **options: Any) -> Any:
        if host != "rebind.example":
            return plain(host, port, *rest, **options)
        asked.append(host)
        return plain("8.8.8.8" if len(asked) == 1 else "127.0.0.1", port, *rest, **options)

    def connect(address: tuple[str, int], *_: Any, **__: Any) -> socket.socket:
        reached.append(address)
        raise ConnectionRefusedError(111, "refused")

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    monkeypatch.setattr(connections, "create_connection", connect)
    config = config_of(tmp_path, download_attempts=1)
    assert refusal(config, "http://rebind.example/a.glb").code is ReasonCode.DOWNLOAD_FAILED
    assert (asked, reached) == (["rebind.example"], [("8.8.8.8", 80)])
    assert refusal(config, "http://rebind.example/a.glb").code is ReasonCode.HOST_NOT_ALLOWED
    assert len(reached) == 1


def test_hosts_behind_a_proxy_are_checked_by_name(
    server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(FileServer({"/a.glb": b"from the proxy"})) as proxy:
        for name in ("NO_PROXY", "no_proxy"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("http_proxy", proxy.url)
        assert refusal(config_of(tmp_path), "http://2130706433/a.glb").code is ReasonCode.HOST_NOT_ALLOWED
        assert not proxy.requests
        with Cache(config_of(tmp_path)).lease(RemoteFile("http://unknown.invalid/a.glb")) as path:
            assert path.read_bytes() == b"from the proxy"
        assert [one.path for one in proxy.requests] == ["http://unknown.invalid/a.glb"]


def test_hosts_that_the_operator_named_are_permitted(tmp_path: Path) -> None:
    def typed(source: str, **options: object) -> tuple[str, ...]:
        return parse_config(arguments(source, tmp_path, **options)).downloads.allow_host

    assert typed("http://u:p@Intra.net/list.csv", allow_host="10.0.0.1") == ("10.0.0.1", "intra.net:80")
    assert typed("objaverse:https://[::1]:8/ids") == ("hf://datasets/allenai/objaverse", "[::1]:8")
    assert typed("s3://bucket/a/list.csv") == ("s3://bucket",)
    assert typed("hf://datasets/o/n/list.csv") == ("hf://datasets/o/n",)
    assert typed("folder") == ()
    network = Network(("Host:8080", "[::1]:80", "fd00::1", "s3a://bucket/", *named_by("https://a/b")))
    assert network.names("host.", 8080)
    assert network.names("[0:0::1]", 80)
    assert network.names("fd00::1", 5)
    assert network.names("a", 443)
    assert not network.names("a", 80)
    assert not network.names("host", 80)
    assert network.store_options("s3://bucket/x") == {}
    for wrong in ("", "http://host", "host/path", "s3://", "s3://a/b", "user@host", "host:port", "host:99999"):
        with pytest.raises(ConfigError, match="--allow-host"):
            Network((wrong,))


def test_the_hub_of_the_operator_may_be_local(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of two hubs with repositories of the same name are kept apart."""
    for content in (b"one", b"two"):
        with serving(HubServer(repositories={"datasets/o/n": {"a.glb": content}})) as hub:
            monkeypatch.setenv("HF_ENDPOINT", hub.url)
            file = RemoteFile("hf://datasets/o/n@main/a.glb", version="1")
            with Cache(config_of(tmp_path)).lease(file) as path:
                assert path.read_bytes() == content


def test_stores_are_read_without_credentials_unless_the_bucket_is_named(s3: S3Server, tmp_path: Path) -> None:
    s3.objects["/bucket/a.glb"] = b"1234"
    url = "s3://bucket/a.glb"
    with Cache(config_of(tmp_path, stall_s=20)).lease(RemoteFile(url)):
        assert s3.signed == 0
    s3.needs_signature = True
    error = refusal(config_of(tmp_path / "b", stall_s=20), url)
    assert error.code is ReasonCode.DOWNLOAD_FAILED
    assert "pass --allow-host s3://bucket to read it with your credentials" in error.message
    with Cache(config_of(tmp_path / "c", stall_s=20, allow_host=("s3://bucket",))).lease(RemoteFile(url)):
        assert s3.signed > 0


@pytest.mark.parametrize("url", ["file:///etc/passwd", "memory://x/a.glb", "sftp://host/a.glb", "abfs://box/a.glb"])
def test_other_protocols_must_be_named(tmp_path: Path, url: str) -> None:
    assert refusal(config_of(tmp_path), url).code is ReasonCode.HOST_NOT_ALLOWED


def test_netrc_is_used_only_for_hosts_that_the_operator_named(
    server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login ann password hunter2")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setattr("helix4d.curation.remote.network._refuse_unless_public", lambda host, address: None)
    for named in ((), LOCAL):
        Transfer(config_of(tmp_path, allow_host=named), 99).fetch(RemoteFile(f"{server.url}/a.glb"), tmp_path / "a")
    assert [bool(one.token) for one in server.requests] == [False, True]


HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n"
SLOW = {
    "body": lambda client: (client.sendall(HEAD), trickle(client, b"x" * 1000)),
    "body of unknown size": lambda client: (client.sendall(b"HTTP/1.1 200 OK\r\n\r\n"), trickle(client, b"x" * 1000)),
    "headers": lambda client: trickle(client, b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 500),
    "chunk size": lambda client: (
        client.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
        trickle(client, b"5;" + b"x" * 1000),
    ),
    "redirect": lambda client: (
        client.sendall(b"HTTP/1.1 302 Found\r\nLocation: /b\r\nContent-Length: 10000\r\n\r\n"),
        trickle(client, b"x" * 1000),
    ),
    "interim responses": lambda client: [trickle(client, b"HTTP/1.1 100 Continue\r\n\r\n") for _ in range(99)],
}


@pytest.mark.parametrize("name", SLOW)
@pytest.mark.timeout(60)
def test_eight_slow_servers_do_not_hang_a_run(name: str, tmp_path: Path) -> None:
    with answering(SLOW[name]) as url, ThreadPoolExecutor(8) as pool:  # type: ignore[arg-type]
        begin = time.monotonic()
        config = config_of(tmp_path, allow_host=LOCAL)
        errors = list(pool.map(lambda n: refusal(config, f"{url}?{n}"), range(8)))
        spent = time.monotonic() - begin
    assert {error.code for error in errors} == {ReasonCode.DOWNLOAD_FAILED}
    assert spent < 12 * 0.5 * 2 + 3
    if name.startswith("body"):
        assert "too slow: " in errors[0].message
        assert "bytes in 0.5 s (2 attempts)" in errors[0].message


def test_a_download_has_a_deadline(tmp_path: Path) -> None:
    """Fast enough in every window, and endless."""

    def answer(client: socket.socket) -> None:
        client.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            client.sendall(b"x" * 1000)
            time.sleep(0.02)

    with answering(answer) as url:
        begin = time.monotonic()
        error = refusal(config_of(tmp_path, allow_host=LOCAL, download_timeout_s=1.5, download_attempts=9), url)
    assert "not complete after 1.5 s" in error.message
    assert time.monotonic() - begin < 9 * 1.5, "each attempt had a deadline of its own"


def test_a_file_of_unknown_size_is_cut_off_at_the_limit(tmp_path: Path) -> None:
    with answering(lambda client: client.sendall(b"HTTP/1.1 200 OK\r\n\r\n" + bytes(1 << 20))) as url:
        transfer = Transfer(config_of(tmp_path, allow_host=LOCAL), 1 << 19)
        with pytest.raises(AssetError, match="exceeds the limit of 524,288 bytes") as caught:
            transfer.fetch(RemoteFile(url), tmp_path / "a.glb")
    assert caught.value.code is ReasonCode.OUT_OF_MEMORY
    assert not (tmp_path / "a.glb").exists()


def test_more_than_was_published_is_refused(tmp_path: Path) -> None:
    with answering(lambda client: client.sendall(b"HTTP/1.1 200 OK\r\n\r\n" + bytes(1000))) as url:
        transfer = Transfer(config_of(tmp_path, allow_host=LOCAL), 1 << 19)
        with pytest.raises(AssetError, match="received 1000 bytes, but the server announced 10"):
            transfer.fetch(RemoteFile(url, size=10), tmp_path / "a.glb")
    assert not (tmp_path / "a.glb").exists()


def test_loops_of_redirects_and_endless_redirects_end(tmp_path: Path) -> None:
    followed = []

    def loop(client: socket.socket) -> None:
        followed.append(client)
        client.sendall(b"HTTP/1.1 302 Found\r\nLocation: /a.glb\r\n\r\n" + b"x" * (1 << 20))

    with answering(loop) as url:
        error = refusal(config_of(tmp_path, allow_host=LOCAL), url)
    assert "too many redirects" in error.message
    assert len(followed) == 11, "the request and ten redirects"


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-secret\r\n",
        b"HTTP/1.1 404 secret\r\n\r\nsecret",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nsecret\r\n",
        b"HTTP/1.1 404 no\r\nsecret secret\r\nContent-Length: 9\r\n\r\nsecret",
        b"HTTP/1.1 302 Found\r\nLocation: gopher://secret\r\n\r\n",
    ],
)
def test_no_message_quotes_what_a_server_sent(
    answer: bytes, tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    with answering(lambda client: client.sendall(answer)) as url:
        error = refusal(config_of(tmp_path, allow_host=LOCAL), url)
    assert error.code is ReasonCode.DOWNLOAD_FAILED
    assert "secret" not in error.message + caplog.text + "".join(capsys.readouterr())


def test_a_gltf_may_refer_to_a_bounded_number_of_files_and_bytes(
    server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gltf(names: list[str]) -> bytes:
        return json.dumps({"asset": {"version": "2.0"}, "images": [{"uri": name} for name in names]}).encode()

    server.files["/x.gltf"] = gltf([f"{n}.png" for n in range(1001)])
    error = refusal(config_of(tmp_path, allow_host=LOCAL), f"{server.url}/x.gltf")
    assert error.code is ReasonCode.OUT_OF_MEMORY
    assert "refers to 1,001 files" in error.message
    assert len(server.requests) == 1
    server.files |= {"/y.gltf": gltf(["0.png", "1.png"]), "/0.png": b"x" * 600, "/1.png": b"x" * 600}
    cache = Cache(config_of(tmp_path, allow_host=LOCAL))
    monkeypatch.setattr(cache, "_most_bytes", 1000)
    with pytest.raises(AssetError, match=r"exceeds the limit of 400"), cache.lease(RemoteFile(f"{server.url}/y.gltf")):
        pass


def test_the_cache_is_readable_by_its_owner_only(server: FileServer, tmp_path: Path) -> None:
    server.files["/x.gltf"] = json.dumps({"asset": {"version": "2.0"}, "images": [{"uri": "b/c.png"}]}).encode()
    server.files["/b/c.png"] = b"png"
    (tmp_path / "cache" / "files").mkdir(parents=True, mode=0o755)
    before = os.umask(0)
    try:
        Cache(config_of(tmp_path, allow_host=LOCAL)).content_hash(RemoteFile(f"{server.url}/x.gltf"))
    finally:
        os.umask(before)
    files = tmp_path / "cache" / "files"
    assert files.stat().st_mode & 0o777 == 0o700
    held = [path for path in files.rglob("*") if path.suffix != ".lock" and path.name != "total"]
    assert {path.name for path in held} >= {"x.gltf", "c.png", "complete.json"}
    assert {path.stat().st_mode & 0o777 for path in held if path.is_dir()} == {0o700}
    assert {path.stat().st_mode & 0o777 for path in held if path.is_file()} == {0o600}


def test_an_unknown_host_name_is_not_a_refused_host() -> None:
    with pytest.raises(socket.gaierror):
        Network(()).addresses("unknown.invalid", 80)
    with pytest.raises(RefusedHostError):
        Network(()).addresses("localhost", 80)

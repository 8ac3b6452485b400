"""Folders of web servers that the operator names: their redirects lead no further than those of downloads."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fsspec.implementations.http import HTTPFileSystem

from helix4d.core import ConfigError
from helix4d.curation.places.store import Store, StoreError
from helix4d.curation.remote import web_folder
from helix4d.curation.remote.cache import Cache
from helix4d.curation.remote.config import DownloadConfig
from helix4d.curation.sources.source import list_source
from tests.curation.servers import FileServer, serving

QUICK = DownloadConfig(download_attempts=3, backoff_s=0.0)


@pytest.fixture
def inside() -> Iterator[FileServer]:
    with serving(FileServer({"/list/a.glb": b"secret of the intranet"})) as running:
        yield running


@pytest.fixture
def outside() -> Iterator[FileServer]:
    with serving(FileServer({"/list/b.glb": b"public"})) as running:
        yield running


def redirect(server: FileServer, path: str, target: str, times: int = 9) -> None:
    server.faults[path] = [("status", 302, {"Location": target})] * times


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "2130706433", "127.1"])
def test_redirects_of_a_folder_to_another_host_are_refused(inside: FileServer, outside: FileServer, host: str) -> None:
    elsewhere = inside.url.replace("127.0.0.1", host)
    redirect(outside, "/list/", f"{elsewhere}/list/")
    redirect(outside, "/list/b.glb", f"{elsewhere}/list/a.glb")
    store = Store(f"{outside.url}/list", QUICK)
    for deed in (store.names, lambda: store.read("b.glb"), lambda: store.size("b.glb")):
        with pytest.raises((StoreError, FileNotFoundError)):
            deed()
    assert not inside.requests


def test_a_refusal_is_one_line_and_is_not_retried(inside: FileServer, outside: FileServer) -> None:
    redirect(outside, "/list/b.glb", f"{inside.url}/list/a.glb")
    store = Store(f"{outside.url}/list", QUICK)
    with pytest.raises(StoreError, match=r"127\.0\.0\.1 has a loopback address, .*: pass the address") as caught:
        store.read("b.glb")
    assert "\n" not in str(caught.value)
    assert "--allow-host" not in str(caught.value), "not every command has this option"
    assert len(outside.requests) == 1


def test_a_source_that_redirects_into_the_network_is_refused(
    inside: FileServer, outside: FileServer, tmp_path: Path
) -> None:
    redirect(outside, "/list/", f"{inside.url}/list/")
    with pytest.raises(ConfigError, match="has a loopback address"):
        list_source(f"{outside.url}/list", None, Cache(DownloadConfig(tmp_path, backoff_s=0.0)))
    assert not inside.requests


def test_a_host_that_the_operator_named_is_permitted(inside: FileServer, outside: FileServer) -> None:
    redirect(outside, "/list/b.glb", f"{inside.url}/list/a.glb")
    allowed = DownloadConfig(allow_host=(inside.url.removeprefix("http://"),))
    assert Store(f"{outside.url}/list", allowed).read("b.glb") == b"secret of the intranet"


def test_a_redirect_within_the_host_is_followed(outside: FileServer) -> None:
    redirect(outside, "/list/c.glb", "/list/b.glb", times=1)
    assert Store(f"{outside.url}/list", QUICK).read("c.glb") == b"public"


def test_a_name_is_resolved_once_and_its_address_is_the_one_connected_to(
    outside: FileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DNS rebinding: the second answer would be the address of a service of this machine."""
    plain, open_socket, asked, reached = socket.getaddrinfo, web_folder._Guard.open_socket, [], []

    def resolve(host: str, port: Any, *rest: Any, **options: Any) -> Any:
        if host != "rebind.example":
            return plain(host, port, *rest, **options)
        asked.append(host)
        return plain("8.8.8.8" if len(asked) == 1 else "127.0.0.1", port, *rest, **options)

    def connect(guard: web_folder._Guard, where: Any) -> socket.socket:
        if where[4][1] != 80:
            return open_socket(guard, where)
        reached.append(where[4][0])
        raise ConnectionRefusedError(111, "refused")

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    monkeypatch.setattr(web_folder._Guard, "open_socket", connect)
    # An earlier server may have had the same port, and its connections are kept.
    web_folder.guarded_client.cache_clear()
    HTTPFileSystem.clear_instance_cache()
    redirect(outside, "/list/b.glb", "http://rebind.example/a.glb")
    with pytest.raises(StoreError):
        Store(f"{outside.url}/list", DownloadConfig(download_attempts=1)).read("b.glb")
    assert (asked, reached) == (["rebind.example"], ["8.8.8.8"])


def test_no_error_shows_a_password() -> None:
    store = Store("http://ann:hunter2@127.0.0.1:9/list", DownloadConfig(download_attempts=1))
    with pytest.raises(StoreError) as caught:
        store.read("a.glb")
    assert "hunter2" not in str(caught.value)
    assert "http://***@127.0.0.1:9/list: cannot read a.glb" in str(caught.value)

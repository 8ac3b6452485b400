from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import huggingface_hub
import pytest
from huggingface_hub.utils import _http as hub_http

from helix4d.core import AssetError, ConfigError
from helix4d.curation.remote.cache import Cache
from helix4d.curation.remote.config import DownloadConfig
from helix4d.curation.remote.files import RemoteFile
from helix4d.curation.remote.hub import HubRepository, label_at, parse_hub_url, web_address
from helix4d.curation.remote.hub_api import Hub
from helix4d.curation.remote.network import Network, UnreachableError
from helix4d.curation.sources.source import named_by_source
from tests.curation.servers import LOCAL, FileServer, HubServer, serving, sha256

COMMIT = "0123456789" * 4
LARGE = b"large" * 100
FILES = {"a b/ü#.glb": LARGE, "a b/small.glb": b"small", "a b/c/deep.glb": LARGE + b"deep", "readme.md": b"text"}


@pytest.fixture
def storage() -> Iterator[FileServer]:
    with serving(FileServer({f"/cdn/{sha256(data)}": data for data in FILES.values()})) as running:
        yield running


@pytest.fixture
def server(storage: FileServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    hub = HubServer(
        repositories={"datasets/o/n": FILES, "o/n": FILES, "models/o/n": FILES},
        commits={"datasets/o/n": COMMIT, "models/o/n": COMMIT},
        storage=storage.url,
    )
    with serving(hub) as running:
        monkeypatch.setenv("HF_ENDPOINT", running.url)
        yield running


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(
        DownloadConfig(
            cache=tmp_path / "cache",
            requests_per_s=1000,
            download_attempts=2,
            backoff_s=0.01,
            allow_host=(*LOCAL, "hf://datasets/o/n"),
        )
    )


@pytest.mark.parametrize("kind", ["dataset", "model"])
def test_trees_and_paths_come_with_sizes_and_published_hashes(server: HubServer, cache: Cache, kind: str) -> None:
    hub = Hub(cache.web)
    pin = hub.pin(HubRepository(kind, "o/n"))
    assert pin == HubRepository(kind, "o/n", COMMIT)
    tree = dict(hub.tree(pin, "a b/"))
    assert tree.keys() == {path for path in FILES if path.startswith("a b/")}
    for path, file in tree.items():
        assert file.size == len(FILES[path])
        assert file.sha256 == (sha256(FILES[path]) if len(FILES[path]) >= server.large else "")
        assert file.version == COMMIT
        assert parse_hub_url(file.url) == (pin, path)
    some = ["a b/ü#.glb", "a b/none.glb", "a b"]
    assert hub.files(pin, some) == {some[0]: tree[some[0]]}


def test_many_paths_are_looked_up_in_batches(server: HubServer, cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("helix4d.curation.remote.hub_api._PATHS_AT_ONCE", 2)
    pin = HubRepository("dataset", "o/n", COMMIT)
    assert Hub(cache.web).files(pin, sorted(FILES)).keys() == FILES.keys()
    assert len(server.asked(f"/api/datasets/o/n/paths-info/{COMMIT}")) == 2


@pytest.mark.parametrize("where", ["environment", "file"])
def test_the_token_goes_to_the_hub_and_to_no_other_host(
    server: HubServer,
    storage: FileServer,
    cache: Cache,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    where: str,
) -> None:
    (tmp_path / "token").write_text("hf_file")
    monkeypatch.setattr(huggingface_hub.constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    if where == "environment":
        monkeypatch.setenv("HF_TOKEN", "hf_environment")
    hub = Hub(cache.web)
    pin = hub.pin(HubRepository("dataset", "o/n"))
    files = dict(hub.tree(pin))  # three pages, linked on another host
    hub.files(pin, list(FILES))
    with cache.lease(files["a b/ü#.glb"]) as path:
        assert path.read_bytes() == LARGE
    assert len(server.requests) == 6
    assert {request.token for request in server.requests} == {f"Bearer hf_{where}"}
    assert {request.token for request in storage.requests} == {""}
    with serving(FileServer({"/x.glb": b"x"})) as other:
        cache.web.read_page(f"{other.url}/x.glb", 10)
        assert [request.token for request in other.requests] == [""]


PRIVATE = [
    "hf://datasets/o/private@main/a.glb",
    "{hub}/datasets/o/private/resolve/main/a.glb",
    "{hub}/datasets/o/n/../private/resolve/main/a.glb",
    "{hub}/datasets/o/n/%2e%2e/private/resolve/main/a.glb",
    "{hub}/datasets/o/n/..%2fprivate/resolve/main/a.glb",
    "{hub}//datasets/o/n/../private/resolve/main/a.glb",
    "{hub}/api/../datasets/o/private/resolve/main/a.glb",
    "{hub}/o/n/resolve/main/a.glb",  # the model of the same name
    "hf://o/n/a.glb",
]


@pytest.mark.parametrize("url", PRIVATE)
def test_a_repository_that_only_a_list_names_is_read_without_the_token(
    server: HubServer, cache: Cache, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    server.repositories |= {"datasets/o/private": {"a.glb": b"private"}, "o/n": {"a.glb": b"model"}}
    with suppress(AssetError), cache.lease(RemoteFile(url.format(hub=server.url))):
        pass
    assert server.requests
    assert {request.token for request in server.requests} == {""}


@pytest.mark.parametrize("url", PRIVATE[:2])
def test_a_repository_that_the_operator_names_is_read_with_the_token(
    server: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    server.repositories["datasets/o/private"] = {"a.glb": b"private"}
    server.faults["/datasets/o/private/resolve/main/a.glb"] = [("status", 401)]
    where, file = tmp_path / "cache", RemoteFile(url.format(hub=server.url))
    with pytest.raises(AssetError, match=r"HTTP 401 .*: pass --allow-host hf://datasets/o/private to read it"):
        Cache(DownloadConfig(where)).content_hash(file)
    Cache(DownloadConfig(where, allow_host=("hf://datasets/o/private/",))).content_hash(file)
    assert [request.token for request in server.requests] == ["", "Bearer hf_secret"]


def test_no_token_is_advised_where_there_is_none(
    server: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr(huggingface_hub.constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    server.faults["/datasets/o/n/resolve/main/readme.md"] = [("status", 401)]
    with pytest.raises(AssetError) as caught:
        Cache(DownloadConfig(tmp_path)).content_hash(RemoteFile("hf://datasets/o/n@main/readme.md"))
    assert "--allow-host" not in str(caught.value)


def test_a_source_names_its_repositories(server: HubServer) -> None:
    assert named_by_source("hf://datasets/o/n@main/folder") == ("hf://datasets/o/n",)
    assert named_by_source("hf://o/n/list.csv") == ("hf://models/o/n",)
    address = server.url.removeprefix("http://")
    assert named_by_source(f"{server.url}/datasets/o/n/resolve/main/list.csv") == (address, "hf://datasets/o/n")
    assert named_by_source("objaverse:https://a/ids") == ("hf://datasets/allenai/objaverse", "a:443")
    assert "hf://datasets/YiboZhang2001/TexVerse-1K" in named_by_source("texverse")
    for entry in ("hf://datasets/o/n", "hf://o/n", "hf://models/o/n", "hf://spaces/o/n/"):
        Network((entry,))
    for wrong in ("hf://datasets/o", "hf://o", "hf://datasets/o/..", "hf://datasets/o/n@main", "hf://"):
        with pytest.raises(ConfigError, match="--allow-host hf://"):
            Network((wrong,))


def test_repositories_of_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "https://hub/mirror/")
    labels = {
        "datasets/o/n/resolve/main/x": "datasets/o/n",
        "api/datasets/o/n/tree/main?x=/../": "datasets/o/n",
        "o/n/resolve/main/x": "models/o/n",
        "api/models/o/n/revision/main": "models/o/n",
        "api/whoami": "",
        "datasets/o/n/resolve/main/%2e%2e/x": "",
        "datasets/o/n\\..\\p/resolve/main/x": "",
    }
    assert {path: label_at(f"https://hub/mirror/{path}") for path in labels} == labels
    for address in ("https://hub/datasets/o/n/x", "https://other/?https://hub/mirror/datasets/o/n/x", ""):
        assert label_at(address) == ""


def test_a_listing_of_one_mirror_is_fetched_from_another(
    server: HubServer, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    pin = HubRepository("dataset", "o/n", COMMIT)
    file = dict(Hub(cache.web).tree(pin))["a b/small.glb"]
    asked = len(server.requests)
    with serving(HubServer(repositories=server.repositories, commits=server.commits)) as mirror:
        monkeypatch.setenv("HF_ENDPOINT", f"{mirror.url}/")
        with cache.lease(file) as path:
            assert path.read_bytes() == b"small"
        assert len(mirror.requests) == 1
    assert len(server.requests) == asked


def test_errors_are_one_line_with_the_status(server: HubServer, cache: Cache) -> None:
    hub = Hub(cache.web)
    with pytest.raises(UnreachableError, match=r"/api/datasets/o/none/revision/main\?\*\*\*: HTTP 404") as caught:
        hub.pin(HubRepository("dataset", "o/none"))
    assert caught.value.status == 404
    server.faults["/api/datasets/o/n/revision/main"] = [("body", b"<html>\nsign in"), ("body", b"[1]"), ("body", b"{}")]
    for _ in range(3):
        with pytest.raises(UnreachableError, match=r"^datasets/o/n: unexpected response from ") as caught:
            hub.pin(HubRepository("dataset", "o/n"))
        assert "\n" not in str(caught.value)
    server.faults["/api/datasets/o/n/revision/main"] = [("status", 416), *[("status", 503)] * 9]
    with pytest.raises(UnreachableError, match="HTTP 416"):
        hub.pin(HubRepository("dataset", "o/n"))
    with pytest.raises(UnreachableError, match=r"HTTP 503 .*\(2 attempts\)"):
        hub.pin(HubRepository("dataset", "o/n"))


def test_the_client_of_the_process_is_as_before(server: HubServer, cache: Cache) -> None:
    before = hub_http._GLOBAL_CLIENT_FACTORY
    hub = Hub(cache.web)
    pin = hub.pin(HubRepository("dataset", "o/n"))
    next(iter(hub.tree(pin)))
    with pytest.raises(UnreachableError):
        hub.pin(HubRepository("dataset", "o/none"))
    assert hub_http._GLOBAL_CLIENT_FACTORY is before


@pytest.mark.parametrize("url", ["hf://datasets", "hf://datasets/a", "hf://datasets/a b/c/x", "hf://buckets/a/b/x"])
def test_urls_without_a_repository_are_refused(url: str) -> None:
    with pytest.raises(ConfigError, match=f"^{url}: ") as caught:
        web_address(url)
    assert "\n" not in str(caught.value)


def test_addresses_of_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_ENDPOINT", raising=False)
    url = HubRepository("dataset", "o/n", "refs/pr/1").url("a b/ü#.glb")
    assert url == "hf://datasets/o/n@refs%2Fpr%2F1/a%20b/%C3%BC%23.glb"
    assert web_address(url) == "https://huggingface.co/datasets/o/n/resolve/refs%2Fpr%2F1/a%20b/%C3%BC%23.glb"
    assert web_address("hf://o/n/x") == "https://huggingface.co/o/n/resolve/main/x"
    assert web_address("https://example.org/hf") == "https://example.org/hf"


def test_curation_is_imported_without_the_hubs_client() -> None:
    code = """
import sys
import helix4d.curation.sources.source, helix4d.curation.places.store, helix4d.curation.remote.cache
print([name for name in ("huggingface_hub", "httpx2", "torch") if name in sys.modules])
"""
    repository = Path(__file__).resolve().parents[3]
    answer = subprocess.run([sys.executable, "-c", code], cwd=repository, capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"

from __future__ import annotations

import csv
import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest

from helix4d.core import ConfigError, ReasonCode
from helix4d.curation.remote.cache import Cache
from helix4d.curation.remote.config import DownloadConfig
from helix4d.curation.sources.hashing import hash_sources
from helix4d.curation.sources.source import absolute, is_listed_once, is_manifest, list_source
from tests.curation.servers import LOCAL, FileServer, serving, sha256

ROWS: list[dict[str, Any]] = [
    {"uid": "b", "path": "assets/b.glb", "license": "CC BY", "artist": "Ada", "sha256": sha256(b"bb").upper()},
    {"uid": "a", "url": "https://example.invalid/x/a.glb?download=1", "sha256": "A" * 64, "license": "CC0"},
    {"uid": "c", "path": "assets/none.glb"},
]


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(
        DownloadConfig(
            cache=tmp_path / "cache", requests_per_s=1000, backoff_s=0.01, allow_host=(*LOCAL, "memory://folder")
        )
    )


@pytest.fixture
def server() -> Iterator[FileServer]:
    with serving(FileServer()) as running:
        yield running


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    (path.parent / "assets").mkdir(exist_ok=True)
    (path.parent / "assets" / "b.glb").write_bytes(b"bb")
    if path.suffix == ".csv":
        with open(path, "w", encoding="utf-8-sig", newline="") as stream:
            writer = csv.DictWriter(stream, list(dict.fromkeys(key for row in rows for key in row)))
            writer.writeheader()
            writer.writerows(rows)
    elif path.suffix == ".parquet":
        import pyarrow
        import pyarrow.parquet

        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    else:
        path.write_text("\n".join(json.dumps(row) for row in rows) + "\n\n")


@pytest.mark.parametrize("name", ["m.csv", "m.jsonl", "m.parquet"])
def test_all_formats_give_the_same_listing(name: str, tmp_path: Path, cache: Cache) -> None:
    if name == "m.parquet" and importlib.util.find_spec("pyarrow") is None:
        pytest.skip("pyarrow is not installed")
    rows = ROWS if name != "m.parquet" else [{key: row.get(key) for row_ in ROWS for key in row_} for row in ROWS]
    write(tmp_path / name, rows)
    listing = list_source(str(tmp_path / name), None, cache)
    a, b = listing.assets
    assert (a.name, b.name) == ("a", "b")
    assert a.remote is not None
    assert a.remote.url == ROWS[1]["url"]
    assert (a.remote.sha256, a.remote.suffix) == ("a" * 64, ".glb")
    assert a.metadata == {"license": "CC0"}
    assert b.path == tmp_path / "assets" / "b.glb"
    assert b.metadata == {"license": "CC BY", "artist": "Ada"}
    assert listing.unreachable["c"].reason is ReasonCode.DOWNLOAD_FAILED
    hashes, failed = hash_sources([a, b], cache)
    assert not failed
    assert hashes == {a: "a" * 64, b: sha256(b"bb")}
    assert len(list_source(str(tmp_path / name), 1, cache).assets) == 1


def test_a_local_file_must_have_the_listed_hash(tmp_path: Path, cache: Cache) -> None:
    write(tmp_path / "m.jsonl", [{"uid": "b", "path": "assets/b.glb", "sha256": "0" * 64}])
    hashes, failed = hash_sources(list_source(str(tmp_path / "m.jsonl"), None, cache).assets, cache)
    assert not hashes
    assert failed["b"].reason is ReasonCode.CHECKSUM_MISMATCH


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"path": "a.glb"}, "line 2: no uid"),
        ({"uid": "a\nb", "path": "a.glb"}, "one line"),
        ({"uid": "x", "path": "a.glb"}, "is a duplicate of m.jsonl, line 1"),
        ({"uid": "y"}, "neither path nor url"),
        ({"uid": "y", "path": "a.glb", "url": "https://x/a.glb"}, "both path and url"),
        ({"uid": "y", "path": "a.glb", "sha256": "12"}, "64 hexadecimal digits"),
        ({"uid": "y", "url": "a.glb"}, "must be a remote PROTOCOL"),
        ({"uid": "y", "url": "file:///etc/passwd"}, "not local or chained"),
        ({"uid": "y", "url": "hf://datasets/x"}, "line 2: the url must be hf://datasets/OWNER"),
        ({"uid": "y", "url": "simplecache::https://x/a.glb"}, "not local or chained"),
        ([1], "line 2: not a JSON object"),
    ],
)
def test_invalid_rows_are_named(row: Any, message: str, tmp_path: Path, cache: Cache) -> None:
    write(tmp_path / "m.jsonl", [{"uid": "x", "path": "a.glb"}, row])
    with pytest.raises(ConfigError, match=message):
        list_source(str(tmp_path / "m.jsonl"), None, cache)


@pytest.mark.parametrize(
    "page",
    [
        "root:secret:0\nsecret",
        "uid,path\nsecret\x07,a.glb",
        "uid,path,sha256\na,b.glb,secret",
        "uid,url\na,file://secret",
        "uid,url\na,hf://secret",
        "uid,path\na,../secret",
        "uid,path\nsecret,a\nsecret,b",
    ],
)
def test_no_message_quotes_a_manifest(page: str, server: FileServer, cache: Cache) -> None:
    """A redirect may have led to a page that is not public, and messages are."""
    server.files["/m.csv"] = page.encode()
    with pytest.raises(ConfigError) as caught:
        list_source(f"{server.url}/m.csv", None, cache)
    assert "secret" not in str(caught.value)
    assert "m.csv, line " in str(caught.value)


def test_invalid_files_are_refused(tmp_path: Path, cache: Cache) -> None:
    for name, text in (("a.csv", "uid,path\na,b,c\n"), ("b.jsonl", "{"), ("c.csv", ""), ("d.csv", "\x00\xff")):
        (tmp_path / name).write_bytes(text.encode("latin-1"))
        with pytest.raises(ConfigError, match=name):
            list_source(str(tmp_path / name), None, cache)
    with pytest.raises(ConfigError, match="no such file"):
        list_source(str(tmp_path / "none.csv"), None, cache)


def test_a_remote_manifest_lists_files_beside_it(server: FileServer, cache: Cache) -> None:
    server.files["/set/m.csv"] = b"uid,path\na,glbs/a b.glb\n"
    server.files["/set/glbs/a b.glb"] = b"aa"
    (asset,) = list_source(f"{server.url}/set/m.csv", None, cache).assets
    hashes, _ = hash_sources([asset], cache)
    assert hashes[asset] == sha256(b"aa")
    for path in ("../a.glb", "/etc/passwd", "..\\a.glb"):
        server.files["/set/bad.csv"] = f"uid,path\na,{path}\n".encode()
        cache_again = Cache(
            DownloadConfig(cache=Path(f"{cache._folder}-{len(path)}"), requests_per_s=1000, allow_host=LOCAL)
        )
        with pytest.raises(ConfigError, match="leaves the folder"):
            list_source(f"{server.url}/set/bad.csv", None, cache_again)


def test_remote_folders_are_listed(server: FileServer, cache: Cache) -> None:
    memory = fsspec.filesystem("memory")
    for name in ("b.glb", "deep/a.GLB", ".hidden/c.glb", "d.txt"):
        memory.pipe_file(f"/folder/{name}", name.encode())
        server.files[f"/list/{name}"] = name.encode()
    for source in ("memory://folder", f"{server.url}/list/", f"{server.url}/list"):
        assets = list_source(source, None, cache).assets
        assert [asset.name for asset in assets] == ["b.glb", "deep/a.GLB"]
        hashes, failed = hash_sources(assets, cache)
        assert not failed
        assert list(hashes.values()) == [sha256(b"b.glb"), sha256(b"deep/a.GLB")]
    for nothing in ("memory://empty", f"{server.url}/none", "nosuchprotocol://x"):
        with pytest.raises(ConfigError, match=nothing):
            list_source(nothing, None, cache)


def test_kinds_of_sources(tmp_path: Path) -> None:
    assert is_manifest("a/m.csv")
    assert is_manifest("https://x/m.parquet?raw=1")
    assert not is_manifest("https://x/folder")
    assert absolute("texverse") == "texverse"
    assert absolute("texverse:ids.txt") == f"texverse:{Path('ids.txt').resolve()}"
    assert absolute("objaverse:https://x/ids") == "objaverse:https://x/ids"
    assert absolute("s3://a/b") == "s3://a/b"
    assert absolute("folder") == str(Path("folder").resolve())
    assert [is_listed_once(one) for one in ("s3://a/b", "texverse", "objaverse:x", "folder", "m.csv")] == [
        True,
        True,
        True,
        False,
        False,
    ]

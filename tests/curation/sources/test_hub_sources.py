from __future__ import annotations

import gzip
import io
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helix4d.core import ConfigError, ReasonCode
from helix4d.curation.filters.thresholds import FilterConfig, judge_metadata
from helix4d.curation.remote.cache import Cache
from helix4d.curation.remote.config import DownloadConfig
from helix4d.curation.sources import hub_collections as hub_sources
from helix4d.curation.sources.annotations import UnknownFormError, read_caption, read_tags
from helix4d.curation.sources.hashing import hash_sources
from helix4d.curation.sources.hub_collections import iterate_object, read_ids
from helix4d.curation.sources.source import list_source
from tests.curation.servers import HubServer, serving, sha256

UIDS = [f"{n:032x}" for n in range(1, 8)]
COMMIT = "0123456789" * 4


def glb(uid: str) -> bytes:
    return f"glb of {uid}".encode() * 10


def texverse_path(uid: str) -> str:
    return f"glbs/glbs_1k/000-00{int(uid, 16) % 3}/{uid}_1024.glb"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    server = HubServer(
        repositories={
            "datasets/YiboZhang2001/TexVerse": {"README.md": b"TexVerse"},
            "datasets/YiboZhang2001/TexVerse-1K": {texverse_path(uid): glb(uid) for uid in UIDS[:6]},
            "datasets/allenai/objaverse": {f"glbs/000-001/{uid}.glb": glb(uid) for uid in UIDS[:4]},
        },
        commits={"datasets/YiboZhang2001/TexVerse-1K": COMMIT},
    )
    with serving(server):
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        yield server


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(DownloadConfig(cache=tmp_path / "cache", requests_per_s=1000, backoff_s=0.01))


@pytest.fixture
def ids(tmp_path: Path) -> Path:
    path = tmp_path / "ids.txt"
    path.write_text("\n".join(UIDS))  # no newline at the end, as TexVerse's list
    return path


def metadata() -> dict[str, dict]:
    entries = {
        uid: {
            "glb_paths": [f"glbs/glbs_4k/x/{uid}_4096.glb", texverse_path(uid)],
            "license": ["CC Attribution", "by", "CC BY-NC"][n % 3],
            "name": f"model {n}",
            "faceCount": n,
            "tags": ["a"],
        }
        for n, uid in enumerate(UIDS)
    }
    return entries | {"f" * 32: {"glb_paths": [], "license": "by"}}


@pytest.mark.parametrize("where", ["TexVerse", "TexVerse-1K", "nowhere", "no repository"])
def test_texverse_is_listed_with_hashes_and_licenses_wherever_its_metadata_is(
    hub: HubServer, cache: Cache, ids: Path, where: str
) -> None:
    known = where.startswith("TexVerse")
    if where == "no repository":
        del hub.repositories["datasets/YiboZhang2001/TexVerse"]
    if known:
        hub.repositories[f"datasets/YiboZhang2001/{where}"]["metadata.json"] = json.dumps(metadata()).encode()
    listing = list_source(f"texverse:{ids}", None, cache)
    assert [asset.name for asset in listing.assets] == UIDS[:6]
    for asset in listing.assets:
        assert asset.remote is not None
        path = texverse_path(asset.name)
        assert asset.remote.url == f"hf://datasets/YiboZhang2001/TexVerse-1K@{COMMIT}/{path}"
        assert (asset.remote.sha256, asset.remote.size) == (sha256(glb(asset.name)), len(glb(asset.name)))
        if known:
            entry = metadata()[asset.name]
            assert asset.metadata == {name: entry[name] for name in ("license", "name", "faceCount", "tags")}
    assert listing.unreachable.keys() == {UIDS[6]}
    assert listing.unreachable[UIDS[6]].reason is ReasonCode.DOWNLOAD_FAILED
    assert listing.revisions["datasets/YiboZhang2001/TexVerse-1K"] == COMMIT
    hashes, failed = hash_sources(listing.assets, cache)
    assert not failed
    assert not [one for one in hub.requests if "resolve" in one.path and one.path.endswith(".glb")]
    with cache.lease(listing.assets[0].remote) as path:
        assert path.read_bytes() == glb(UIDS[0])
        assert hashes[listing.assets[0]] == sha256(glb(UIDS[0]))


def test_an_asset_without_a_path_in_the_metadata_is_found_in_the_tree(hub: HubServer, cache: Cache, ids: Path) -> None:
    entries = metadata()
    entries[UIDS[1]]["glb_paths"] = []
    entries[UIDS[2]]["glb_paths"] = [f"glbs/glbs_1k/999-999/{UIDS[2]}_1024.glb"]
    del entries[UIDS[3]]
    hub.repositories["datasets/YiboZhang2001/TexVerse"]["metadata.json"] = json.dumps(entries).encode()
    assert [asset.name for asset in list_source(f"texverse:{ids}", 6, cache).assets] == UIDS[:6]


@pytest.mark.parametrize("where", ["TexVerse", "TexVerse-1K"])
def test_captions_and_tags_are_joined(
    hub: HubServer, cache: Cache, ids: Path, where: str, caplog: pytest.LogCaptureFixture
) -> None:
    entries = metadata()
    tags = [["Animal", "dog"], [{"name": "animal", "slug": "animals"}], "cat, animal,", 7, [["animal"]], ["animals"]]
    captions = ["A dog.", {"overall": "A dog", "parts": ["leg", "tail"], "score": 0.5}, ["", None], 7, {"a": {}}]
    for uid, value in zip(UIDS, tags, strict=False):
        entries[uid]["tags"] = value
    files = hub.repositories[f"datasets/YiboZhang2001/{where}"]
    files["metadata.json"] = json.dumps(entries).encode()
    files["caption.json"] = json.dumps(dict(zip(UIDS, captions, strict=False))).encode()
    with caplog.at_level("INFO", "helix4d.curation"):
        assets = list_source(f"texverse:{ids}", None, cache).assets
    found = {asset.name: asset.metadata for asset in assets}
    expected = [["Animal", "dog"], ["animal"], ["cat", "animal"], None, None, ["animals"]]
    assert [found[uid].get("tags") for uid in UIDS[:6]] == expected
    assert [found[uid].get("caption") for uid in UIDS[:6]] == [*captions[:2], None, None, None, None]
    messages = "\n".join(record.getMessage() for record in caplog.records)
    assert "tags: known for 5 of 7 assets" in messages
    assert f"tags: left out for 2 assets, such as {UIDS[3]!r}, whose tags is not a list of at most 64 tags" in messages
    assert "caption: known for 2 of 7 assets" in messages
    assert f"caption: left out for 3 assets, such as {UIDS[2]!r}, whose caption contains no text" in messages
    for condition, kept in (("tags contains 'animal'", UIDS[:3]), ("caption contains 'DOG'", UIDS[:2])):
        filters = FilterConfig(where=condition)
        assert [asset.name for asset in assets if judge_metadata(asset.metadata, filters) is None] == kept


@pytest.mark.parametrize("content", [b"[]", b"{", b"uid,caption", b'{"a" "b"}'])
def test_captions_of_an_unknown_form_are_left_out(
    hub: HubServer, cache: Cache, ids: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    files = hub.repositories["datasets/YiboZhang2001/TexVerse"]
    files.update({"metadata.json": json.dumps(metadata()).encode(), "caption.json": content})
    with caplog.at_level("WARNING", "helix4d.curation"):
        assets = list_source(f"texverse:{ids}", None, cache).assets
    assert all(asset.metadata["tags"] == ["a"] and "caption" not in asset.metadata for asset in assets)
    (record,) = caplog.records
    assert "ignoring captions: " in record.getMessage()
    assert "caption.json: " in record.getMessage()


def test_secrets_in_captions_are_hidden(hub: HubServer, cache: Cache, ids: Path) -> None:
    files = hub.repositories["datasets/YiboZhang2001/TexVerse"]
    files["caption.json"] = json.dumps({UIDS[0]: "see https://me:secret@host/a?token=1"}).encode()
    first = list_source(f"texverse:{ids}", None, cache).assets[0]
    assert first.metadata["caption"] == "see https://***@host/a?***"


def test_annotations_are_bounded() -> None:
    large = {str(n): "a" for n in range(65)}
    for caption in ("a" * 4001, ["a"] * 65, large, [[["a", [["a"]]]]], float("nan"), True, {}):
        with pytest.raises(UnknownFormError):
            read_caption(caption)
    for tags in (["a"] * 65, {"a": 1}, [{"slug": "a"}], ["a" * 4001], None):
        with pytest.raises(UnknownFormError):
            read_tags(tags)
    assert read_tags([]) == []
    assert read_caption(["  two ", "captions"]) == ["two", "captions"]


def test_the_list_of_texverse_is_fetched(
    hub: HubServer, cache: Cache, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    hub.repositories["datasets/lists/x"] = {"list.txt": f"{UIDS[2]}\r\n{UIDS[0]}".encode()}
    monkeypatch.setattr(hub_sources, "TEXVERSE_IDS", f"{hub.url}/datasets/lists/x/resolve/main/list.txt")
    assert [asset.name for asset in list_source("texverse", None, cache).assets] == [UIDS[0], UIDS[2]]


def test_objaverse_ids_become_files_with_licenses(hub: HubServer, cache: Cache, tmp_path: Path) -> None:
    files = hub.repositories["datasets/allenai/objaverse"]
    with pytest.raises(ConfigError, match="has no object-paths"):
        (tmp_path / "ids.json").write_text(json.dumps(UIDS[:5]))
        list_source(f"objaverse:{tmp_path / 'ids.json'}", None, cache)
    paths = {uid: f"glbs/000-001/{uid}.glb" for uid in UIDS[:4]}
    files["object-paths.json.gz"] = gzip.compress(json.dumps(paths).encode())
    files["metadata/000-001.json.gz"] = gzip.compress(json.dumps({UIDS[0]: {"license": "by-sa"}}).encode())
    cache = Cache(DownloadConfig(cache=tmp_path / "second", requests_per_s=1000))
    listing = list_source(f"objaverse:{tmp_path / 'ids.json'}", None, cache)
    assert [asset.name for asset in listing.assets] == UIDS[:4]
    assert [asset.metadata for asset in listing.assets] == [{"license": "by-sa"}, {}, {}, {}]
    assert listing.unreachable.keys() == {UIDS[4]}
    with pytest.raises(ConfigError, match="name a list of ids"):
        list_source("objaverse", None, cache)


def test_a_folder_of_a_repository_is_a_source(hub: HubServer, cache: Cache) -> None:
    listing = list_source("hf://datasets/YiboZhang2001/TexVerse-1K/glbs", 4, cache)
    expected = sorted(texverse_path(uid).removeprefix("glbs/") for uid in UIDS[:6])[:4]
    assert [asset.name for asset in listing.assets] == expected
    for wrong in ("hf://datasets/nobody/nothing", "hf://datasets/YiboZhang2001/TexVerse", "hf://datasets"):
        with pytest.raises(ConfigError, match="hf://datasets"):
            list_source(wrong, None, cache)


def test_a_small_file_without_a_published_hash_is_fetched_for_it(hub: HubServer, cache: Cache) -> None:
    hub.repositories["datasets/a/b"] = {"tiny.glb": b"tiny"}
    listing = list_source("hf://datasets/a/b", None, cache)
    hashes, _ = hash_sources(listing.assets, cache)
    assert list(hashes.values()) == [sha256(b"tiny")]


def test_a_busy_hub_is_asked_again(hub: HubServer, cache: Cache, ids: Path) -> None:
    commit = COMMIT
    tree = f"/api/datasets/YiboZhang2001/TexVerse-1K/tree/{commit}/glbs/glbs_1k"
    hub.faults[tree] = [("status", 429, {"Retry-After": "0.1"}), ("status", 502), ("half", 30)]
    assert len(list_source(f"texverse:{ids}", None, cache).assets) == 6
    assert not hub.faults[tree]


def test_lists_of_ids_are_text_or_json(tmp_path: Path, cache: Cache) -> None:
    path = tmp_path / "ids"
    for text, expected in (
        ("b\na", ["a", "b"]),
        ("\ufeffa\r\n\r\nb\r\na\n", ["a", "b"]),
        ('["b", "a"]', ["a", "b"]),
        ('{"a": "x", "b": "y"}', ["a", "b"]),
    ):
        path.write_text(text, encoding="utf-8")
        assert read_ids(str(path), cache) == expected
    for text in ("", "\n", "[]", "../../secret", "[1", "secret\tb"):
        path.write_text(text)
        with pytest.raises(ConfigError, match="list of ids") as caught:
            read_ids(str(path), cache)
        assert "secret" not in str(caught.value)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


class _Dripping(io.StringIO):
    def read(self, size: int | None = -1) -> str:
        return super().read(min(size or 3, 3))


@settings(deadline=None)
@given(st.dictionaries(st.text(), values, max_size=6), st.sampled_from([None, 2]))
def test_large_objects_are_read_pair_by_pair(content: dict, indent: int | None) -> None:
    assert dict(iterate_object(_Dripping(json.dumps(content, indent=indent)))) == content


@pytest.mark.parametrize("text", ["", "[1]", '{"a": 1', '{"a"', '{"a" 1}', "{1: 2}", '{"a": tru', '{"a": "x'])
def test_anything_but_an_object_is_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 (json's own)
        list(iterate_object(_Dripping(text)))

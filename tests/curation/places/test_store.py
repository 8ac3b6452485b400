from __future__ import annotations

import threading
from pathlib import Path

import fsspec
import pytest

from helix4d.assets.samples import SAMPLES
from helix4d.core import AssetState, ConfigError, write_json
from helix4d.curation.command import parse_config
from helix4d.curation.pipeline import main
from helix4d.curation.places.store import Store, StoreError
from helix4d.curation.remote.config import DownloadConfig
from helix4d.curation.shards.layout import LEDGER_FILE
from helix4d.curation.shards.ledger import Ledger, Outcome
from helix4d.curation.shards.mirror import Mirror, publish_shard
from helix4d.curation.shards.reader import ShardReader
from helix4d.curation.sources.source import list_source
from tests.curation.s3_server import S3Server
from tests.curation.shards.test_shard import shard

PATIENCE = DownloadConfig(download_attempts=4, backoff_s=0.01)


@pytest.fixture
def s3(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> S3Server:
    """Without the retries of s3fs: these tests are about ours."""
    monkeypatch.setattr("s3fs.S3FileSystem.retries", 1)
    return s3


@pytest.fixture(params=["memory", "file", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "s3":
        request.getfixturevalue("s3")
    urls = {"memory": f"memory://{tmp_path.name}", "file": f"file://{tmp_path}/store", "s3": "s3://bucket/pre fix"}
    return Store(urls[request.param], PATIENCE)


def test_files_are_written_listed_read_in_ranges_and_removed(store: Store, tmp_path: Path) -> None:
    assert store.names() == []
    with pytest.raises(FileNotFoundError):
        store.read("none")
    store.write("a/x.json", b"{}")
    large = bytes(range(256)) * 50_000  # s3fs puts this in parts
    (tmp_path / "large").write_bytes(large)
    store.upload("a/b/large.tar", tmp_path / "large")
    store.write("a/x.json", b"[1]")
    assert store.names() == ["a/b/large.tar", "a/x.json"]
    assert store.names("a/b") == ["a/b/large.tar"]
    assert store.names("none") == []
    assert store.read("a/x.json") == b"[1]"
    ranges = [(0, 10), (300, 0), (len(large) - 5, 5), (len(large) - 5, 50), (len(large) + 10, 5)]
    assert store.read_ranges("a/b/large.tar", ranges) == [large[o : o + n] for o, n in ranges]
    store.remove("a/x.json")
    store.remove("a/x.json")
    assert store.names() == ["a/b/large.tar"]


def test_refused_writes_are_retried(s3: S3Server, tmp_path: Path) -> None:
    s3.refusals = 3
    Store("s3://bucket/x", PATIENCE).write("a", b"1")
    assert s3.refused == 3
    assert s3.objects == {"/bucket/x/a": b"1"}
    s3.refusals = 1000
    with pytest.raises(StoreError, match=r"s3://bucket/x: cannot write b: .*\(4 attempts\)"):
        Store("s3://bucket/x", PATIENCE).write("b", b"1")
    with pytest.raises(StoreError, match="nosuchprotocol"):
        Store("nosuchprotocol://x")


def test_a_missing_bucket_ends_a_run_with_a_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store("memory://somewhere", PATIENCE)

    def refuse(path: str, data: bytes) -> None:
        raise FileNotFoundError("The specified bucket does not exist")

    monkeypatch.setattr(fsspec.filesystem("memory"), "pipe_file", refuse)
    with pytest.raises(StoreError, match=r"cannot write a: no such bucket or folder$"):
        store.write("a", b"1")


def test_a_folder_on_s3_is_a_source_and_a_shard_there_is_read(s3: S3Server, tmp_path: Path) -> None:
    from helix4d.curation.remote.cache import Cache
    from helix4d.curation.sources.hashing import hash_sources

    s3.objects["/bucket/set/a b.glb"] = b"1234"
    cache = Cache(DownloadConfig(cache=tmp_path / "cache", requests_per_s=1000, allow_host=("s3://bucket",)))
    (asset,) = list_source("s3://bucket/set", None, cache).assets
    assert (asset.name, asset.size) == ("a b.glb", 4)
    assert not hash_sources([asset], cache)[1]
    tar = shard(tmp_path, ["a" * 16])
    for path in (tar, tar.with_suffix(".json")):
        s3.objects[f"/bucket/out/train/{path.name}"] = path.read_bytes()
    reader = ShardReader(f"s3://bucket/out/train/{tar.name}")
    (key,) = reader.keys()
    assert reader.read(key, "frame_00.vxz") == ShardReader(tar).read(key, "frame_00.vxz")


def outcome(name: str) -> Outcome:
    return Outcome(name, AssetState.DONE)


def committed(folder: Path, name: str) -> Path:
    """A shard in the working folder, as a run leaves it before it is published."""
    (folder / "train").mkdir(parents=True, exist_ok=True)
    tar = shard(folder / "train", ["a" * 16])
    for suffix in (".tar", ".json"):
        tar.with_suffix(suffix).rename(folder / "train" / f"{name}{suffix}")
    return folder / "train" / f"{name}.tar"


def test_a_run_resumes_from_what_is_published(store: Store, tmp_path: Path) -> None:
    here = tmp_path / "here"
    mirror = Mirror(here, store.url, PATIENCE)
    mirror.pull()
    write_json(here / "plan.json", {"plan": 1})
    mirror.push("plan.json")
    ledger = Ledger(here / LEDGER_FILE)
    ledger.append(outcome("one"))
    mirror.push_ledger()
    publish_shard(store, here, committed(here, "helix4d-000000"))
    assert not (here / "train" / "helix4d-000000.tar").exists()
    ledger.append(outcome("two"))
    mirror.push_ledger()
    mirror.push_ledger()
    # Killed after a shard was written here and before it or the ledger line of its asset was published.
    ledger.append(outcome("three"))
    committed(here, "helix4d-000001")
    (here / "train" / "helix4d-000002.json").write_text("{}")  # its tar is lost
    Mirror(here, store.url, PATIENCE).pull()
    shards = [f"train/helix4d-00000{n}.{suffix}" for n in (0, 1) for suffix in ("json", "tar")]
    assert store.names() == ["ledger/000000.jsonl", "ledger/000001.jsonl", "plan.json", *shards]
    assert sorted(Ledger(here / LEDGER_FILE).outcomes) == ["one", "three", "two"]
    assert not (here / "train" / "helix4d-000002.json").exists()
    # Another machine knows what was published, and nothing else.
    there = tmp_path / "there"
    other = Mirror(there, store.url, PATIENCE)
    other.pull()
    assert sorted(Ledger(there / LEDGER_FILE).outcomes) == ["one", "two"]
    assert (there / "plan.json").read_bytes() == (here / "plan.json").read_bytes()
    assert sorted(path.name for path in (there / "train").iterdir()) == ["helix4d-000000.json", "helix4d-000001.json"]
    Ledger(there / LEDGER_FILE).append(outcome("four"))
    (there / "summary.json").write_text("{}")
    other.finish("summary.json", "contact_sheet.webp")
    assert store.names() == ["ledger.jsonl", "plan.json", "summary.json", *shards]
    # The first one sees that it has been overtaken.
    (here / "work").mkdir()
    Mirror(here, store.url, PATIENCE).pull()
    assert sorted(Ledger(here / LEDGER_FILE).outcomes) == ["four", "one", "two"]
    assert not (here / "work").exists()
    # A shard is downloaded again, to be rebuilt.
    tar = there / "train" / "helix4d-000000.tar"
    whole = store.read("train/helix4d-000000.tar")
    store.write("train/helix4d-000000.tar", whole[:600] + b"?" + whole[601:])
    with pytest.raises(StoreError, match="differs from the SHA-256 in its sidecar"):
        other.take_back(tar)
    assert "train/helix4d-000000.json" in store.names()
    store.write("train/helix4d-000000.tar", whole)
    other.take_back(tar)
    assert ShardReader(tar).keys()
    assert "train/helix4d-000000.json" not in store.names()


def test_unrelated_files_stay_in_a_working_folder(tmp_path: Path) -> None:
    here = tmp_path / "scratch"
    (here / "thesis").mkdir(parents=True)
    (here / "thesis" / "draft.tex").write_text("years of work")
    with pytest.raises(ConfigError, match="thesis"):
        Mirror(here, f"file://{tmp_path}/store", PATIENCE).pull()
    assert (here / "thesis" / "draft.tex").read_text() == "years of work"
    assert [path.name for path in here.iterdir()] == ["thesis"]


def test_incomplete_files_of_a_killed_run_are_removed_and_not_read(tmp_path: Path) -> None:
    here, store = tmp_path / "here", Store(f"file://{tmp_path}/store", PATIENCE)
    store.write("plan.json", b"{}")
    Ledger(tmp_path / "whole").append(outcome("one"))
    line = (tmp_path / "whole").read_bytes()
    store.write("ledger/000000.jsonl", line)
    for name in ("ledger/.0a.tmp", "train/.0b.tmp"):
        store.write(name, line[:50])
    Mirror(here, store.url, PATIENCE).pull()
    assert list(Ledger(here / LEDGER_FILE).outcomes) == ["one"]
    assert store.names() == ["ledger/000000.jsonl", "plan.json"]


def test_a_working_folder_left_by_a_crash_is_reused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = tmp_path / "here"
    store = Store(f"file://{tmp_path}/store", PATIENCE)
    store.write("plan.json", b"{}")
    store.write("ledger/000000.jsonl", b"")
    Mirror(here, store.url, PATIENCE).pull()
    Ledger(here / LEDGER_FILE).append(outcome("one"))
    store.write("ledger/000001.jsonl", b"")  # another machine went on
    remember = Mirror._remember
    with monkeypatch.context() as patch:

        def crash(mirror: Mirror, size: int, pieces: int, whole: bool) -> None:
            remember(mirror, size, pieces, whole)
            raise RuntimeError("killed")

        patch.setattr(Mirror, "_remember", crash)
        with pytest.raises(RuntimeError, match="killed"):
            Mirror(here, store.url, PATIENCE).pull()
    Mirror(here, store.url, PATIENCE).pull()
    assert not Ledger(here / LEDGER_FILE).outcomes


def test_a_dry_run_publishes_nothing_and_leaves_the_working_folder_alone(tmp_path: Path) -> None:
    source, here, store = tmp_path / "source", tmp_path / "here", Store(f"file://{tmp_path}/store", PATIENCE)
    source.mkdir()
    name = sorted(SAMPLES)[0]
    (source / f"{name}.glb").write_bytes(SAMPLES[name]())
    Mirror(here, store.url, PATIENCE).pull()
    committed(here, "helix4d-000000")  # a run was killed before it published this
    before = {path: path.read_bytes() for path in here.rglob("*") if path.is_file()}
    options = ["--output", store.url, "--work", str(here), "--cache", str(tmp_path / "cache"), "--dry-run"]
    assert main(["--source", str(source), *options]) == 0
    assert store.names() == []
    assert {path: path.read_bytes() for path in here.rglob("*") if path.is_file()} == before


def test_nothing_is_published_before_its_ledger_and_no_sidecar_before_its_tar(s3: S3Server, tmp_path: Path) -> None:
    here, s3.refusals = tmp_path / "here", 2
    mirror = Mirror(here, "s3://bucket/out", PATIENCE)
    mirror.pull()
    Ledger(here / LEDGER_FILE).append(outcome("one"))
    mirror.push_ledger()
    publish_shard(Store("s3://bucket/out", PATIENCE), here, committed(here, "helix4d-000000"))
    names = [path.removeprefix("/bucket/out/") for _, path in s3.log]
    assert names == ["ledger/000000.jsonl", "train/helix4d-000000.tar", "train/helix4d-000000.json"]


def test_a_report_replaces_an_earlier_one_and_no_image_is_uploaded_twice(s3: S3Server, tmp_path: Path) -> None:
    pictures = tmp_path / "report" / "pictures" / "aa"
    pictures.mkdir(parents=True)
    (tmp_path / "report" / "index.html").write_text("one")
    (pictures / "a.1.webp").write_bytes(b"a")
    mirror = Mirror(tmp_path, "s3://bucket/out", PATIENCE)
    mirror.push_report()
    (pictures / "a.1.webp").unlink()
    (pictures / "a.2.webp").write_bytes(b"a")
    (pictures / "b.1.webp").write_bytes(b"b")
    mirror.push_report()
    s3.log.clear()
    (tmp_path / "report" / "index.html").write_text("two")
    mirror.push_report()
    assert s3.log == [("PUT", "/bucket/out/report/index.html")]
    assert s3.objects == {
        "/bucket/out/report/index.html": b"two",
        "/bucket/out/report/pictures/aa/a.2.webp": b"a",
        "/bucket/out/report/pictures/aa/b.1.webp": b"b",
    }
    Mirror(tmp_path, None, PATIENCE).push_report()


def test_an_incomplete_write_is_not_visible(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(f"file://{tmp_path}/store", PATIENCE)
    store.write("a", b"old")
    seen = []
    stop = threading.Event()

    def watch() -> None:
        while not stop.is_set():
            seen.append(store.read("a"))

    thread = threading.Thread(target=watch)
    thread.start()
    new = b"new" * 1_000_000
    store.write("a", new)
    stop.set()
    thread.join()
    assert set(seen) <= {b"old", new}
    assert store.names() == ["a"]


def test_an_output_url_has_a_working_folder_of_its_own(tmp_path: Path) -> None:
    one, two = (
        parse_config(["--source", "x", "--output", url, "--cache", str(tmp_path)])
        for url in ("s3://b/one", "s3://b/two/")
    )
    assert (one.remote, two.remote) == ("s3://b/one", "s3://b/two")
    assert one.output.parent == two.output.parent == tmp_path / "outputs"
    assert one.output != two.output
    given = parse_config(["--source", "x", "--output", "s3://b/one", "--work", str(tmp_path / "w")])
    assert given.output == tmp_path / "w"
    local = parse_config(["--source", "x", "--output", "out"])
    assert (local.output, local.remote) == (Path("out"), None)

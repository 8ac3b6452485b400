from __future__ import annotations

import errno
import hashlib
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helix4d.core import ConfigError, ReasonCode
from helix4d.curation.config import CurateConfig, RunConfig, SampleConfig
from helix4d.curation.pipeline import _keep_parts_of, _reopen_failed
from helix4d.curation.plan.plan import (
    KEY_DIGITS,
    check_same_sources,
    known_hashes,
    make_plan,
    sources_to_json,
    split_of,
)
from helix4d.curation.plan.plan_file import read_plan, write_plan
from helix4d.curation.plan.run_plan import plan_run
from helix4d.curation.remote.cache import Cache
from helix4d.curation.remote.config import DownloadConfig
from helix4d.curation.report.summary import print_plan
from helix4d.curation.shards.layout import LEDGER_FILE, SPLITS
from helix4d.curation.shards.ledger import Ledger
from helix4d.curation.shards.mirror import Mirror
from helix4d.curation.sources.hashing import hash_sources
from helix4d.curation.sources.listing import Exclusion, SourceAsset
from helix4d.curation.sources.source import list_folder
from tests.curation.outputs import failure, output_of


def source(name: str, mtime_ns: int = 1) -> SourceAsset:
    return SourceAsset(name, Path("folder") / name, 10, mtime_ns)


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


contents = st.dictionaries(st.text("abcdef", min_size=1, max_size=6), st.integers(0, 40), max_size=60)


@given(contents, st.integers(1, 5))
def test_every_asset_is_planned_once_or_left_out_as_duplicate(names: dict[str, int], per_shard: int) -> None:
    plan = make_plan({source(name): digest(str(content)) for name, content in names.items()}, per_shard)
    planned = [asset.source.name for _, asset in plan.assets()]
    assert sorted([*planned, *plan.left_out]) == sorted(names)
    for name, why in plan.left_out.items():
        kept = why.message.removeprefix("same content as ")
        assert why.reason is ReasonCode.DUPLICATE
        assert names[name] == names[kept]
        assert kept < name
    for shard in plan.shards:
        assert 1 <= len(shard.assets) <= per_shard
        assert {split_of(asset.content_sha256) for asset in shard.assets} == {shard.split}
    for split in SPLITS:
        keys = [a.key_prefix for shard in plan.shards if shard.split == split for a in shard.assets]
        assert keys == sorted(keys)
        numbers = [shard.number for shard in plan.shards if shard.split == split]
        assert numbers == list(range(len(numbers)))


@given(contents)
def test_the_plan_does_not_depend_on_the_order_of_the_sources(names: dict[str, int]) -> None:
    hashes = {source(name): digest(str(content)) for name, content in names.items()}
    backwards = dict(reversed(hashes.items()))
    assert make_plan(hashes, 3) == make_plan(backwards, 3)


@given(contents, st.sets(st.integers(0, 40)))
def test_excluded_contents_are_left_out_under_any_name(names: dict[str, int], excluded: set[int]) -> None:
    hashes = {source(name): digest(str(content)) for name, content in names.items()}
    why = Exclusion(ReasonCode.NEAR_DUPLICATE, "as another")
    plan = make_plan(hashes, 3, {digest(str(content))[:KEY_DIGITS]: why for content in excluded})
    rest = {asset: content for asset, content in hashes.items() if names[asset.name] not in excluded}
    assert plan.shards == make_plan(rest, 3).shards
    left_out = [name for name, reason in plan.left_out.items() if reason == why]
    assert {names[name] for name in left_out} == excluded & set(names.values())
    assert len(left_out) == len(excluded & set(names.values()))


def test_splits_have_the_expected_shares() -> None:
    splits = [split_of(digest(str(n))) for n in range(20_000)]
    assert 0.975 < splits.count("train") / len(splits) < 0.985
    assert 0.007 < splits.count("val") / len(splits) < 0.013
    assert 0.007 < splits.count("test") / len(splits) < 0.013


def test_unchanged_files_are_not_hashed_again() -> None:
    stored = sources_to_json({source("a"): digest("1"), source("b"): digest("2")})
    assert known_hashes([source("a"), source("b", mtime_ns=2), source("c")], stored) == {source("a"): digest("1")}


def test_a_different_set_of_assets_is_rejected_with_the_changes() -> None:
    stored = sources_to_json({source("a"): digest("1"), source("b"): digest("2")})
    check_same_sources({source("a", mtime_ns=5): digest("1"), source("b"): digest("2")}, stored, Path("out"))
    with pytest.raises(ConfigError, match=r"1 added \(c.*1 removed \(b.*1 changed \(a"):
        check_same_sources({source("a"): digest("9"), source("c"): digest("3")}, stored, Path("out"))


def test_folders_are_listed_by_name_without_hidden_files(tmp_path: Path) -> None:
    for name in ["b.glb", "a/deep.GLTF", "c.fbx", ".hidden/d.glb", "e.txt", "a/deep.bin"]:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    assert [asset.name for asset in list_folder(tmp_path)] == ["a/deep.GLTF", "b.glb", "c.fbx"]
    assert [asset.name for asset in list_folder(tmp_path, limit=2)] == ["a/deep.GLTF", "b.glb"]
    with pytest.raises(ConfigError, match="no such folder"):
        list_folder(tmp_path / "none")


def test_a_file_deleted_after_listing_is_a_failed_asset(tmp_path: Path) -> None:
    for name in ("a.glb", "b.glb"):
        (tmp_path / name).write_bytes(name.encode())
    listed = list_folder(tmp_path)
    (tmp_path / "a.glb").unlink()
    hashes, failed = hash_sources(listed, Cache(DownloadConfig(tmp_path / "cache")))
    assert [source.name for source in hashes] == ["b.glb"]
    assert failed["a.glb"].reason is ReasonCode.DOWNLOAD_FAILED


def test_names_that_are_not_utf8_are_planned_and_recognized(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    Path(os.fsdecode(bytes(source) + b"/caf\xe9.glb")).write_bytes(b"a")
    config = CurateConfig(str(source), tmp_path / "out", run=RunConfig(downloads=DownloadConfig(tmp_path / "cache")))
    plan, record = plan_run(config)
    write_plan(config, record, {})
    assert plan_run(config)[0] == plan
    assert read_plan(config.output).plan().assets()[0][1].source.name == os.fsdecode(b"caf\xe9.glb")


@pytest.mark.parametrize("settings", [{"workers": -1}, {"cpus_per_worker": 0}, {"limit": 0}, {"limit": -1}])
def test_numbers_out_of_range_are_rejected(settings: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match="must be at least 1"):
        RunConfig(**settings)


def test_a_clip_name_may_look_like_markup(capsys: pytest.CaptureFixture[str]) -> None:
    print_plan(make_plan({}, 1), SampleConfig(clip="[/idle]"))
    assert "clip=[/idle]" in capsys.readouterr().out


def test_parts_of_other_package_versions_are_deleted(tmp_path: Path) -> None:
    output = output_of(tmp_path / "out", ["a.glb"], [failure("b.glb")])
    stored = read_plan(output)
    assert stored is not None
    plan, work = stored.plan(), output / "work"
    shard = next(shard for shard, asset in plan.assets() if asset.source.name == "a.glb")
    sidecar = (output / f"{shard.name}.json").read_bytes()
    for tools, kept in (({"helix4d": "1"}, False), ({"helix4d": "0"}, True)):  # the second is the shard's
        (output / f"{shard.name}.json").write_bytes(sidecar)
        ledger = Ledger(output / LEDGER_FILE)
        _keep_parts_of(tools, work)
        _reopen_failed(plan, ledger, output, Mirror(output, None, DownloadConfig()), tools)
        assert "b.glb" not in ledger.outcomes
        assert bool(list(work.rglob("*.part"))) is kept
    _keep_parts_of({"helix4d": "0"}, work)
    assert list(work.rglob("*.part"))
    _keep_parts_of({"helix4d": "1"}, work)
    assert not list(work.rglob("*.part"))


def test_unreadable_folders_are_skipped_or_rejected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("a/x.glb", "b/y.glb"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_bytes(b"x")
    plain, number = os.scandir, errno.EACCES

    def scandir(path: str) -> Any:
        if Path(path).name == "b":
            raise OSError(number, os.strerror(number), path)
        return plain(path)

    monkeypatch.setattr(os, "scandir", scandir)
    assert [asset.name for asset in list_folder(tmp_path)] == ["a/x.glb"]
    assert "b: not searched for assets (Permission denied)" in caplog.text
    number = errno.EIO
    with pytest.raises(ConfigError, match=r"b: cannot be listed \(Input/output error\)"):
        list_folder(tmp_path)


def test_links_out_of_the_source_are_refused_unless_the_operator_allows_them(tmp_path: Path) -> None:
    outside = tmp_path / "outside.glb"
    outside.write_bytes(b"glTF")
    folder = tmp_path / "source"
    (folder / "a").mkdir(parents=True)
    (folder / "a" / "own.glb").write_bytes(b"glTF")
    (folder / "inside.glb").symlink_to(folder / "a" / "own.glb")
    assert [asset.name for asset in list_folder(folder)] == ["a/own.glb", "inside.glb"]
    for name in ("escape.glb", "frame_1.obj"):
        link = folder / name
        link.symlink_to(outside)
        with pytest.raises(ConfigError, match=f"{name}: a symbolic link out of the source folder.*--follow-links"):
            list_folder(folder)
        assert list_folder(folder, follow_links=True)
        link.unlink()

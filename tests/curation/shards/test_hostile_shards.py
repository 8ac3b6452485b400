"""Untrusted shards and listings: no name in them leads out of a folder, and every number is validated."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from helix4d.cli.main import main
from helix4d.core import FormatError
from helix4d.curation.places.folder import LocalFolder
from helix4d.curation.places.store import Store, StoreError
from helix4d.curation.shards.members import decode_image, parse_clip
from helix4d.curation.shards.reader import ShardReader
from tests.curation.outputs import output_of

ESCAPE = "../../../config"


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An output with one sample."""
    return output_of(tmp_path_factory.mktemp("base") / "out", ["a.glb"])


def tampered(output: Path, folder: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    """Copy the output's shard with a changed sidecar; returns the path of the tar."""
    (tar,) = output.glob("*/*.tar")
    copy = folder / "test" / tar.name
    copy.parent.mkdir(parents=True)
    copy.write_bytes(tar.read_bytes())
    sidecar = json.loads(tar.with_suffix(".json").read_bytes())
    change(sidecar)
    copy.with_suffix(".json").write_text(json.dumps(sidecar))
    return copy


def first(sidecar: dict[str, Any]) -> dict[str, Any]:
    sample: dict[str, Any] = sidecar["samples"][0]
    return sample


CHANGES: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "key": (lambda s: first(s).update(key=ESCAPE), "key '../../../config': expected 16"),
    "member": (lambda s: first(s)["members"].update({f"{ESCAPE}.webp": [0, 1]}), "member name"),
    "negative extent": (lambda s: first(s)["members"].update({"clip.json": [-512, 10]}), r"expected \[offset, size\]"),
    "endless extent": (lambda s: first(s)["members"].update({"clip.json": [0, 2**70]}), r"expected \[offset, size\]"),
    "extent past the end": (lambda s: first(s)["members"].update({"clip.json": [0, 2**40]}), "ends at byte"),
    "samples": (lambda s: s.update(samples={"a": 1}), "samples is not a list"),
    "sample": (lambda s: s.update(samples=[None]), "has no members"),
    "twice": (lambda s: s.update(samples=s["samples"] * 2), "not unique and sorted"),
    "gaps": (lambda s: s.update(gaps=[{"asset": "a.glb"}]), "without an asset or key, a state or a reason"),
    "tools": (lambda s: s.update(tools=[]), "tools is missing"),
    "config": (lambda s: s.update(config=7), "config is missing"),
    "tokens": (lambda s: first(s).update(tokens=[1, "2"]), "not numbers per frame"),
    "skeleton": (lambda s: first(s).update(skeleton={"joints": "many"}), "number of joints"),
    "up axis": (lambda s: first(s).update(up_axis="<b>"), "up axis is not one of"),
    "asset": (lambda s: first(s).update(asset=None), "no valid asset"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_tampered_sidecars_are_format_errors(output: Path, tmp_path: Path, name: str) -> None:
    change, message = CHANGES[name]
    with pytest.raises(FormatError, match=message):
        ShardReader(tampered(output, tmp_path, change))


def test_no_command_writes_where_a_key_points(output: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change, _ = CHANGES["key"]
    tar = tampered(output, tmp_path / "a" / "b" / "c", change)
    before = {path for path in tmp_path.rglob("*") if path.is_file()}
    for arguments in (["inspect", str(tar)], ["view", str(tar), ESCAPE, "--no-open"]):
        assert main(arguments) == 2
        assert "expected 16 lowercase hexadecimal digits" in capsys.readouterr().err
    assert {path for path in tmp_path.rglob("*") if path.is_file()} == before


def test_a_held_out_split_with_such_a_key_is_not_evaluated(output: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    from helix4d.evaluation.methods.benches import open_bench

    tampered(output, tmp_path, CHANGES["key"][0])
    with pytest.raises(FormatError, match="expected 16"):
        open_bench("texverse-heldout", tmp_path)


@pytest.mark.parametrize("name", [ESCAPE, "train/../../x.json", "train\\..\\x.json", "train//x.json", "a\x00b"])
def test_a_store_that_lists_such_a_name_is_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store("memory://bucket/out")
    listing = {f"{store._root}/{found}": {"size": 1} for found in ("plan.json", name)}
    monkeypatch.setattr(store._files, "find", lambda *arguments, **options: listing)
    with pytest.raises(StoreError, match="expected a relative path without"):
        store.names()


def test_a_range_longer_than_the_file_costs_no_memory(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"abc")
    assert LocalFolder(tmp_path).read_ranges("x", [(1, 2**49), (2**49, 2**49)]) == [b"bc", b""]


CLIP = {
    "version": 1, "key": "0" * 16 + "_0", "asset": "a.glb", "clip": {"name": "", "index": 0}, "frames": 2, "views": 1,
    "resolution": 32, "image_size": 64, "voxels": [1, 2], "tokens": [1, 1],
}  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"frames": 10**9}, "frames is 1000000000: expected a number of at most 100"),
        ({"frames": 0}, "frames or resolution is 0"),
        ({"image_size": 16383}, "at most 4096"),
        ({"image_size": True}, "image_size is True"),
        ({"voxels": [1]}, "expected 2 numbers, one per frame"),
        ({"voxels": [1, -1]}, "expected 2 numbers, one per frame"),
        ({"clip": None}, "clip is None"),
        ({"measures": {"motion": "much"}}, "not a number"),
        ({"extras": [1]}, "extras is"),
        ({"skeleton": {"joints": 1, "names": ["a" * 65], "skinned": True}}, "64 characters"),
        ({"up_axis": "W"}, "up axis is not one of"),
    ],
)
def test_tampered_clips_are_format_errors(changes: dict[str, Any], message: str) -> None:
    assert parse_clip(json.dumps(CLIP).encode(), "clip.json") == CLIP
    with pytest.raises(FormatError, match=message):
        parse_clip(json.dumps({**CLIP, **changes}).encode(), "clip.json")


def test_a_tiny_file_that_announces_a_huge_image_is_not_decoded() -> None:
    size = 16383 - 1
    bits = size | size << 14 | 1 << 28
    chunk = b"VP8L" + (6).to_bytes(4, "little") + b"\x2f" + bits.to_bytes(4, "little") + b"\0"
    bomb = b"RIFF" + (4 + len(chunk)).to_bytes(4, "little") + b"WEBP" + chunk
    assert len(bomb) < 40
    with pytest.raises(FormatError, match=r"x\.webp: (has 16383×16383 pixels, expected 64×64|cannot read image)"):
        decode_image(bomb, "x.webp", 64)

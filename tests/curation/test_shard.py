from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import pytest
import webdataset as wds
from hypothesis import given
from hypothesis import strategies as st

from core import FormatError, sha256_file
from curation.shard import Sample, ShardReader, part_members, read_sidecar, split_shard, write_part, write_shard

FACTS = {"split": "train", "config": {}, "config_sha256": "0" * 64, "tools": {}, "gaps": []}


def sample(key: str, payload: bytes = b"payload") -> Sample:
    clip = {"asset": f"{key}.glb", "content_sha256": key, "clip": {"index": 0}, "voxels": [1], "tokens": [1]}
    return Sample(key, {"clip.json": json.dumps(clip).encode(), "frame_00.vxz": payload, "frame_01.vxz": b""})


def shard(folder: Path, keys: list[str]) -> Path:
    parts = []
    for key in keys:
        parts.append(folder / f"{key}.part")
        write_part(parts[-1], [sample(f"{key}_0", key.encode() * 999)])
    write_shard(folder / "helix4d-000000.tar", parts, FACTS)
    return folder / "helix4d-000000.tar"


def test_a_shard_is_a_plain_tar_without_traces_of_the_machine(tmp_path: Path) -> None:
    path = shard(tmp_path, ["aa", "bb"])
    assert path.stat().st_size % tarfile.RECORDSIZE == 0
    with tarfile.open(path) as archive:
        members = archive.getmembers()
        assert [m.name for m in members] == [
            f"{key}_0.{suffix}" for key in ("aa", "bb") for suffix in ("clip.json", "frame_00.vxz", "frame_01.vxz")
        ]
        assert {(m.mtime, m.uid, m.gid, m.uname, m.gname, m.mode) for m in members} == {(0, 0, 0, "", "", 0o644)}


def test_plain_webdataset_reads_it(tmp_path: Path) -> None:
    path = shard(tmp_path, ["aa", "bb"])
    samples = list(wds.WebDataset(str(path), shardshuffle=False).decode())
    assert [s["__key__"] for s in samples] == ["aa_0", "bb_0"]
    assert samples[0]["clip.json"]["asset"] == "aa_0.glb"
    assert samples[1]["frame_00.vxz"] == b"bb" * 999


def test_the_index_finds_single_members(tmp_path: Path) -> None:
    reader = ShardReader(shard(tmp_path, ["aa", "bb"]))
    assert reader.keys() == ["aa_0", "bb_0"]
    assert reader.members("bb_0") == ["clip.json", "frame_00.vxz", "frame_01.vxz"]
    assert reader.read("bb_0", "frame_00.vxz") == b"bb" * 999
    assert reader.read("bb_0", "frame_01.vxz") == b""
    assert reader.sidecar["sha256"] == sha256_file(reader.path)
    entry = reader.sample("bb_0")
    piece = reader.path.read_bytes()[entry["offset"] : entry["offset"] + entry["bytes"]]
    with tarfile.open(fileobj=io.BytesIO(piece)) as archive:
        assert archive.getnames() == [f"bb_0.{suffix}" for suffix in reader.members("bb_0")]


def test_splitting_a_shard_gives_its_parts_back(tmp_path: Path) -> None:
    path = shard(tmp_path, ["aa", "bb"])
    sidecar = read_sidecar(path)
    assert sidecar is not None
    again = {key: tmp_path / "again" / f"{key}.part" for key in ("aa", "bb")}
    split_shard(path, sidecar, again)
    for key, part in again.items():
        assert part.read_bytes() == (tmp_path / f"{key}.part").read_bytes()
        assert part_members(part)[0] == f"{key}_0.clip.json"


def test_a_shard_without_a_sidecar_does_not_exist(tmp_path: Path) -> None:
    path = shard(tmp_path, ["aa"])
    path.with_suffix(".json").unlink()
    assert read_sidecar(path) is None
    with pytest.raises(FormatError, match="not committed"):
        ShardReader(path)


def test_an_empty_shard_is_a_tar_too(tmp_path: Path) -> None:
    path = shard(tmp_path, [])
    assert ShardReader(path).keys() == []
    with tarfile.open(path) as archive:
        assert archive.getmembers() == []


def test_newer_and_damaged_sidecars_are_refused(tmp_path: Path) -> None:
    path = shard(tmp_path, ["aa"])
    path.with_suffix(".json").write_text('{"version": 99}')
    with pytest.raises(FormatError, match="version 99"):
        read_sidecar(path)
    path.with_suffix(".json").write_text("{")
    with pytest.raises(FormatError, match="not a shard's sidecar"):
        read_sidecar(path)


payloads = st.dictionaries(st.sampled_from(["a_0", "a_1", "b_0"]), st.binary(max_size=2000), min_size=1)


@given(payloads)
def test_parts_hold_what_was_put_in(tmp_path_factory: pytest.TempPathFactory, contents: dict[str, bytes]) -> None:
    folder = tmp_path_factory.mktemp("parts")
    write_part(folder / "x.part", [sample(key, contents[key]) for key in sorted(contents, reverse=True)])
    write_shard(folder / "x.tar", [folder / "x.part"], FACTS)
    reader = ShardReader(folder / "x.tar")
    assert {key: reader.read(key, "frame_00.vxz") for key in reader.keys()} == contents  # noqa: SIM118

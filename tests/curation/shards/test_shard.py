from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import webdataset as wds
from hypothesis import given, settings
from hypothesis import strategies as st

from helix4d.core import FormatError, sha256_file
from helix4d.curation.shards.reader import ShardReader
from helix4d.curation.shards.sidecar import read_sidecar
from helix4d.curation.shards.writer import Sample, part_members, split_shard, write_part, write_shard
from tests.curation.servers import FileServer, serving

A, B = "a" * 16, "b" * 16
FACTS = {"split": "train", "config": {}, "config_sha256": "0" * 64, "tools": {}, "gaps": []}


def sample(key: str, payload: bytes = b"payload") -> Sample:
    clip = {
        "asset": f"{key}.glb",
        "content_sha256": key,
        "clip": {"name": "", "index": 0},
        "voxels": [1],
        "tokens": [1],
    }
    return Sample(key, {"clip.json": json.dumps(clip).encode(), "frame_00.vxz": payload, "frame_01.vxz": b""})


def shard(folder: Path, keys: list[str]) -> Path:
    parts = []
    for key in keys:
        parts.append(folder / f"{key}.part")
        write_part(parts[-1], [sample(f"{key}_0", key.encode() * 999)])
    write_shard(folder / "helix4d-000000.tar", parts, FACTS)
    return folder / "helix4d-000000.tar"


def test_a_shard_is_a_plain_tar_without_traces_of_the_machine(tmp_path: Path) -> None:
    path = shard(tmp_path, [A, B])
    assert path.stat().st_size % tarfile.RECORDSIZE == 0
    with tarfile.open(path) as archive:
        members = archive.getmembers()
        assert [m.name for m in members] == [
            f"{key}_0.{suffix}" for key in (A, B) for suffix in ("clip.json", "frame_00.vxz", "frame_01.vxz")
        ]
        assert {(m.mtime, m.uid, m.gid, m.uname, m.gname, m.mode) for m in members} == {(0, 0, 0, "", "", 0o644)}


def test_plain_webdataset_reads_it(tmp_path: Path) -> None:
    path = shard(tmp_path, [A, B])
    samples = list(wds.WebDataset(str(path), shardshuffle=False).decode())
    assert [s["__key__"] for s in samples] == [f"{A}_0", f"{B}_0"]
    assert samples[0]["clip.json"]["asset"] == f"{A}_0.glb"
    assert samples[1]["frame_00.vxz"] == B.encode() * 999


def test_the_index_finds_single_members(tmp_path: Path) -> None:
    reader = ShardReader(shard(tmp_path, [A, B]))
    assert reader.keys() == [f"{A}_0", f"{B}_0"]
    assert reader.members(f"{B}_0") == ["clip.json", "frame_00.vxz", "frame_01.vxz"]
    assert reader.read(f"{B}_0", "frame_00.vxz") == B.encode() * 999
    assert reader.read(f"{B}_0", "frame_01.vxz") == b""
    assert reader.sidecar["sha256"] == sha256_file(reader.path)
    entry = reader.sample(f"{B}_0")
    piece = reader.path.read_bytes()[entry["offset"] : entry["offset"] + entry["bytes"]]
    with tarfile.open(fileobj=io.BytesIO(piece)) as archive:
        assert archive.getnames() == [f"{B}_0.{suffix}" for suffix in reader.members(f"{B}_0")]


def test_splitting_a_shard_restores_its_parts(tmp_path: Path) -> None:
    path = shard(tmp_path, [A, B])
    sidecar = read_sidecar(path)
    assert sidecar is not None
    again = {key: tmp_path / "again" / f"{key}.part" for key in (A, B)}
    split_shard(path, sidecar, again)
    for key, part in again.items():
        assert part.read_bytes() == (tmp_path / f"{key}.part").read_bytes()
        assert part_members(part)[0] == f"{key}_0.clip.json"


def test_a_shard_without_a_sidecar_does_not_exist(tmp_path: Path) -> None:
    path = shard(tmp_path, [A])
    path.with_suffix(".json").unlink()
    assert read_sidecar(path) is None
    with pytest.raises(FormatError, match="not committed"):
        ShardReader(path)


def test_an_empty_shard_is_a_valid_tar(tmp_path: Path) -> None:
    path = shard(tmp_path, [])
    assert ShardReader(path).keys() == []
    with tarfile.open(path) as archive:
        assert archive.getmembers() == []


def test_newer_and_damaged_sidecars_are_rejected(tmp_path: Path) -> None:
    path = shard(tmp_path, [A])
    path.with_suffix(".json").write_text('{"version": 99}')
    with pytest.raises(FormatError, match="version 99"):
        read_sidecar(path)
    path.with_suffix(".json").write_text("{")
    with pytest.raises(FormatError, match="the shard sidecar is truncated or corrupt"):
        read_sidecar(path)


payloads = st.dictionaries(st.sampled_from([f"{A}_0", f"{A}_1", f"{B}_0"]), st.binary(max_size=2000), min_size=1)


@settings(deadline=None)
@given(payloads)
def test_parts_contain_the_samples(tmp_path_factory: pytest.TempPathFactory, contents: dict[str, bytes]) -> None:
    folder = tmp_path_factory.mktemp("parts")
    write_part(folder / "x.part", [sample(key, contents[key]) for key in sorted(contents)])
    write_shard(folder / "x.tar", [folder / "x.part"], FACTS)
    reader = ShardReader(folder / "x.tar")
    assert {key: reader.read(key, "frame_00.vxz") for key in reader.keys()} == contents  # noqa: SIM118


@pytest.fixture
def far(tmp_path: Path) -> Iterator[tuple[FileServer, Path]]:
    """A shard of two samples with three views, on a web server."""
    members = {"clip.json": sample(A).members["clip.json"].decode()}
    members |= {f"view_{view:02d}.json": "{}" * (view + 1) for view in range(3)}
    members |= {
        f"view_{view:02d}_frame_{f:02d}.webp": "x" * (1000 + 10 * view + f) for view in range(3) for f in range(4)
    }
    members["empty.txt"] = ""
    samples = [Sample(key, {name: text.encode() for name, text in members.items()}) for key in (f"{A}_0", f"{B}_0")]
    write_part(tmp_path / "x.part", samples)
    write_shard(tmp_path / "set" / "x.tar", [tmp_path / "x.part"], FACTS)
    content = {f"/set/{name}": (tmp_path / "set" / name).read_bytes() for name in ("x.tar", "x.json")}
    with serving(FileServer(content)) as server:
        yield server, tmp_path / "set" / "x.tar"


def test_one_view_from_a_url_downloads_its_bytes_and_the_index(far: tuple[FileServer, Path]) -> None:
    server, near = far
    reader = ShardReader(f"{server.url}/set/x.tar")
    view = reader.read_view(f"{B}_0", 1)
    assert view == ShardReader(near).read_view(f"{B}_0", 1)
    assert sorted(view) == ["view_01.json", *(f"view_01_frame_{f:02d}.webp" for f in range(4))]
    assert sum(request.sent for request in server.asked("/set/x.json")) == len(server.files["/set/x.json"])
    assert sum(request.sent for request in server.asked("/set/x.tar")) == sum(map(len, view.values()))
    assert sum(request.sent for request in server.requests) == len(server.files["/set/x.json"]) + sum(
        map(len, view.values())
    )
    assert reader.read(f"{A}_0", "empty.txt") == b""
    with pytest.raises(KeyError):
        reader.read_view(f"{B}_0", 3)


def test_damaged_shards_at_a_url(far: tuple[FileServer, Path]) -> None:
    server, _ = far
    server.faults["/set/x.json"] = [("status", 503), ("half", 100)]
    reader = ShardReader(f"{server.url}/set/x.tar")
    server.files["/set/x.tar"] = server.files["/set/x.tar"][:1000]
    with pytest.raises(FormatError, match="ends after"):
        reader.read(f"{A}_0", "clip.json") + reader.read(f"{A}_0", "view_00_frame_00.webp")
    server.faults["/set/x.tar"] = [("body", b"everything" * 1000)]
    with pytest.raises(FormatError, match="ignores range requests"):
        reader.read(f"{A}_0", "clip.json")
    server.files["/set/x.json"] = b"{"
    with pytest.raises(FormatError, match="sidecar"):
        ShardReader(f"{server.url}/set/x.tar")
    del server.files["/set/x.json"]
    with pytest.raises(FormatError, match="not committed"):
        ShardReader(f"{server.url}/set/x.tar")


def test_a_damaged_shard_is_not_split(tmp_path: Path) -> None:
    path = shard(tmp_path, [A])
    sidecar = read_sidecar(path)
    assert sidecar is not None
    data = bytearray(path.read_bytes())
    data[600] ^= 1
    path.write_bytes(data)
    for _ in ("damaged", "lost"):
        with pytest.raises(FormatError, match="differs from the SHA-256 in its sidecar"):
            split_shard(path, sidecar, {A: tmp_path / "again.part"})
        path.unlink(missing_ok=True)
    assert not (tmp_path / "again.part").exists()


def test_samples_of_a_part_must_be_sorted(tmp_path: Path) -> None:
    for keys in (["b_0", "a_0"], ["a_0", "a_0"]):
        with pytest.raises(ValueError, match="must be sorted by key"):
            write_part(tmp_path / "x.part", map(sample, keys))
    assert not list(tmp_path.iterdir())

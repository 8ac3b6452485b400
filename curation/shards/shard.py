"""WebDataset shards: deterministic tar files with an index beside them, written atomically.

An asset's samples are first written as a part, a piece of a tar file; a shard is its parts one after the other, in the
order of the keys, and an end mark. The sidecar `NAME.json` is written last: a shard without one does not exist.
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from helix4d.core import FormatError, Schema, atomic_writer, sha256_file, write_json
from helix4d.curation.places.folder import Place, folder_and_name, is_far

SIDECAR = Schema(
    "shard sidecar",
    version=1,
    oldest=1,
    rewrite="delete the shard and its sidecar, and run the command that made it again",
)
SAMPLE = Schema("clip.json", version=1, oldest=1, rewrite="curate its asset again into a new output")
_BLOCK = tarfile.BLOCKSIZE
_COPY_BYTES = 1 << 22


@dataclass(frozen=True)
class Sample:
    """A sample to be written: member suffix (`clip.json`, `frame_00.vxz`, ...) -> bytes."""

    key: str
    members: Mapping[str, bytes]


def write_part(path: Path, samples: Iterable[Sample]) -> int:
    """Atomically write samples as a piece of a tar file, their members sorted. Returns its bytes.

    Args:
        path: of the piece.
        samples: sorted by key; each is written, and let go, before the next is asked for.

    Raises:
        ValueError: if they are not sorted.
    """
    with atomic_writer(path) as stream:
        last = ""
        for sample in samples:
            if sample.key <= last:
                raise ValueError(f"sample {sample.key} after {last}: expected in order of the keys")
            last = sample.key
            for suffix in sorted(sample.members):
                _write_member(stream, f"{sample.key}.{suffix}", sample.members[suffix])
            del sample
        return stream.tell()


def write_shard(tar_path: Path, parts: list[Path], facts: Mapping[str, Any]) -> dict[str, Any]:
    """Join parts into `tar_path`, then write its sidecar.

    Args:
        tar_path: ends in `.tar`.
        parts: in the order of their keys.
        facts: what the sidecar says besides the index (config, tools, gaps, ...).

    Returns:
        The sidecar.
    """
    sidecar_path(tar_path).unlink(missing_ok=True)
    with atomic_writer(tar_path) as stream:
        for part in parts:
            with open(part, "rb") as source:
                while block := source.read(_COPY_BYTES):
                    stream.write(block)
        stream.write(bytes(2 * _BLOCK))
        stream.write(bytes(-stream.tell() % tarfile.RECORDSIZE))
    sidecar = {
        **facts,
        "version": SIDECAR.version,
        "shard": tar_path.name,
        "bytes": tar_path.stat().st_size,
        "sha256": sha256_file(tar_path),
        "samples": _index(tar_path),
    }
    write_json(sidecar_path(tar_path), sidecar)
    return sidecar


def split_shard(tar_path: Path, sidecar: Mapping[str, Any], part_of: Mapping[str, Path]) -> None:
    """Write a committed shard's samples back as parts, so that it can be made again with more of them.

    Args:
        part_of: key prefix (before the `_`) -> where that asset's part goes.

    Raises:
        FormatError: if the tar is not what was committed: its damage would get a hash of its own.
    """
    if not tar_path.exists() or sha256_file(tar_path) != sidecar["sha256"]:
        raise FormatError(f"{tar_path}: not what its sidecar says, so nothing can be added: see `helix4d verify`")
    by_part: dict[Path, list[Mapping[str, Any]]] = {}
    for sample in sidecar["samples"]:
        by_part.setdefault(part_of[sample["key"].split("_")[0]], []).append(sample)
    with open(tar_path, "rb") as source:
        for path, samples in by_part.items():
            with atomic_writer(path) as stream:
                for sample in sorted(samples, key=lambda sample: str(sample["key"])):
                    source.seek(sample["offset"])
                    stream.write(source.read(sample["bytes"]))


def sidecar_path(tar_path: Path) -> Path:
    """`train/helix4d-000000.tar` -> `train/helix4d-000000.json`."""
    return tar_path.with_suffix(".json")


def read_sidecar(tar_path: Place) -> dict[str, Any] | None:
    """The sidecar of a committed shard, near or far, or None if the shard is not committed.

    Raises:
        FormatError: if the sidecar is damaged.
        NewerError: if it is newer than this program.
        StoreError: if a far one cannot be had.
    """
    folder, tar = folder_and_name(tar_path)
    name = sidecar_path(Path(tar)).name
    try:
        data = folder.read(name)
    except FileNotFoundError:
        return None
    return parse_sidecar(data, folder.address(name))


def parse_sidecar(text: str | bytes, where: object) -> dict[str, Any]:
    """The content of a sidecar, its version checked.

    Raises:
        FormatError: if it is damaged.
        NewerError: if it is newer than this program.
    """
    try:
        sidecar = json.loads(text)
    except ValueError as error:
        raise FormatError(f"{where}: not a shard's sidecar ({error})") from error
    SIDECAR.check(sidecar, where)
    return dict(sidecar)


@dataclass(frozen=True)
class Committed:
    """A shard in a few words: what is kept of a sidecar where those of all shards are held.

    Attributes:
        keys: of its samples.
        gaps: assets without a sample, and why.
        bytes: of the tar, as the sidecar says.
        config, config_sha256: as they stand there.
    """

    keys: tuple[str, ...]
    gaps: tuple[Mapping[str, Any], ...]
    bytes: Any
    config: Any
    config_sha256: Any


def committed_of(sidecar: Mapping[str, Any]) -> Committed:
    """What is kept of a sidecar."""
    return Committed(
        tuple(sample["key"] for sample in sidecar["samples"]),
        tuple(sidecar["gaps"]),
        sidecar.get("bytes"),
        sidecar.get("config"),
        sidecar.get("config_sha256"),
    )


class ShardReader:
    """Random access to a committed shard, near or far: one member costs one seek and one read, or one ranged request.

    Of a far shard nothing is moved but the sidecar, once, and the members that are asked for.

    Args:
        tar_path: the `.tar`, a path or any URL that fsspec opens; its sidecar lies beside it.
        sidecar: where it was read already.

    Raises:
        FormatError: if the shard is not committed, or not of a version that this program reads.
        StoreError: if a far one cannot be had.
    """

    def __init__(self, tar_path: Place, sidecar: dict[str, Any] | None = None) -> None:
        self._where = str(tar_path)
        self._folder, self._name = folder_and_name(tar_path)
        self.path = Path(tar_path)
        if not is_far(tar_path) and not self.path.is_file():
            example = "a folder; give one shard in it, such as train/helix4d-000000.tar"
            raise FormatError(f"{self._where}: {example if self.path.is_dir() else 'no such file'}")
        sidecar = sidecar or read_sidecar(tar_path)
        if sidecar is None:
            raise FormatError(
                f"{self._where}: no {sidecar_path(self.path).name} beside it: the shard is not committed (its run "
                "goes on or was interrupted), or this is no shard"
            )
        self.sidecar = sidecar
        self._samples = {sample["key"]: sample for sample in sidecar["samples"]}

    def keys(self) -> list[str]:
        """Keys of the samples, sorted."""
        return sorted(self._samples)

    def sample(self, key: str) -> Mapping[str, Any]:
        """The index entry of a sample: offset, bytes, tokens, members.

        Raises:
            KeyError: if the shard has no such sample.
        """
        return self._samples[key]

    def members(self, key: str) -> list[str]:
        """Suffixes of a sample's members, sorted."""
        return sorted(self._samples[key]["members"])

    def read(self, key: str, suffix: str) -> bytes:
        """One member's bytes.

        Raises:
            KeyError: if there is no such sample or member.
            FormatError: if the tar is not there, or ends before the member does.
        """
        return self.read_members(key, [suffix])[suffix]

    def read_view(self, key: str, view: int) -> dict[str, bytes]:
        """Camera, lights and images of one view: suffix (`view_03.json`, `view_03_frame_00.webp`, ...) -> bytes.

        Raises:
            KeyError: if there is no such sample or view.
            FormatError: as `read`.
        """
        wanted = [
            suffix for suffix in self.members(key) if suffix.startswith((f"view_{view:02d}.", f"view_{view:02d}_"))
        ]
        if not wanted:
            raise KeyError(f"{key}: no view {view}")
        return self.read_members(key, wanted)

    def read_members(self, key: str, suffixes: Iterable[str]) -> dict[str, bytes]:
        """Several members of a sample; those of a far shard are asked for at the same time.

        Raises:
            KeyError, FormatError: as `read`.
        """
        members = self._samples[key]["members"]
        ranges = {suffix: members[suffix] for suffix in suffixes}
        try:
            found = self._folder.read_ranges(self._name, [(offset, size) for offset, size in ranges.values()])
        except FileNotFoundError as error:
            raise FormatError(f"{self._where}: not there, though its sidecar is") from error
        for (suffix, (_, size)), data in zip(ranges.items(), found, strict=True):
            if len(data) > size:
                raise FormatError(f"{self._where}: {len(data)} bytes for a range of {size}: the server ignores ranges")
            if len(data) < size:
                raise FormatError(f"{self._where}: {key}.{suffix} ends after {len(data)} of {size} bytes")
        return dict(zip(ranges, found, strict=True))

    def clip(self, key: str) -> dict[str, Any]:
        """A sample's `clip.json`.

        Raises:
            KeyError: if there is no such sample.
            FormatError: if it is damaged, or of a version that this program does not read.
        """
        return parse_clip(self.read(key, "clip.json"), f"{self._where}: {key}.clip.json")


def parse_clip(data: bytes, where: object) -> dict[str, Any]:
    """The content of a `clip.json`, its version checked.

    Raises:
        FormatError: if it is damaged, or of a version that this program does not read.
    """
    try:
        clip = json.loads(data)
    except ValueError as error:
        raise FormatError(f"{where}: not JSON ({error})") from error
    SAMPLE.check(clip, where)
    return dict(clip)


def member_header(name: str, size: int) -> bytes:
    """The block before a member: nothing in it but name and size, so nothing of the machine gets in."""
    # A fresh TarInfo has mtime, uid and gid 0, no user names and mode 644.
    header = tarfile.TarInfo(name)
    header.size = size
    return header.tobuf(tarfile.USTAR_FORMAT)


def _write_member(stream: BinaryIO, name: str, data: bytes) -> None:
    stream.write(member_header(name, len(data)))
    stream.write(data)
    stream.write(bytes(-len(data) % _BLOCK))


def _index(tar_path: Path) -> list[dict[str, Any]]:
    samples: dict[str, dict[str, Any]] = {}
    with open(tar_path, "rb") as stream:
        for name, offset, size in _walk(stream):
            key, suffix = name.split(".", 1)
            sample = samples.setdefault(key, {"key": key, "offset": offset - _BLOCK, "members": {}})
            sample["members"][suffix] = [offset, size]
            sample["bytes"] = offset + size + (-size % _BLOCK) - sample["offset"]
        for sample in samples.values():
            offset, size = sample["members"]["clip.json"]
            stream.seek(offset)
            clip = json.loads(stream.read(size))
            sample.update({name: clip[name] for name in ("asset", "content_sha256", "clip", "voxels", "tokens")})
    return [samples[key] for key in sorted(samples)]


def _walk(stream: BinaryIO) -> Iterator[tuple[str, int, int]]:
    with tarfile.open(fileobj=stream, mode="r:") as archive:
        for member in archive:
            yield member.name, member.offset_data, member.size


def part_members(path: Path) -> list[str]:
    """Names of the members of a part (or a shard), in order.

    Raises:
        FormatError: if it is not a whole piece of a tar file.
    """
    data = io.BytesIO(path.read_bytes())
    try:
        names = [name for name, _, _ in _walk(data)]
    except tarfile.TarError as error:
        raise FormatError(f"{path}: not a piece of a tar file ({error})") from error
    return names

"""WebDataset shards: deterministic tar files with an index beside them, written atomically.

An asset's samples are first written as a part, a fragment of a tar file. A shard is the concatenation of its parts in
the order of their keys, followed by an end mark. Its sidecar `NAME.json` is written last and commits the shard: without
a sidecar, a shard does not exist.
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
from helix4d.core.documents import parse_document
from helix4d.curation.places.folder import Place, folder_and_name, is_far

SIDECAR = Schema(
    "shard sidecar",
    version=1,
    oldest=1,
    rewrite="delete the shard and its sidecar, and rerun the command that wrote them",
)
SAMPLE = Schema("clip.json", version=1, oldest=1, rewrite="curate its asset again, into a new output")
_BLOCK = tarfile.BLOCKSIZE
_COPY_BYTES = 1 << 22


@dataclass(frozen=True)
class Sample:
    """A sample to write. `members` maps a suffix (`clip.json`, `frame_00.vxz`, ...) to bytes."""

    key: str
    members: Mapping[str, bytes]


def write_part(path: Path, samples: Iterable[Sample]) -> int:
    """Atomically write samples as a fragment of a tar file, with sorted members. Returns its size in bytes.

    Args:
        path: path of the fragment.
        samples: samples sorted by key. Each is written and released before the next one is requested.

    Raises:
        ValueError: if the samples are not sorted.
    """
    with atomic_writer(path) as stream:
        last = ""
        for sample in samples:
            if sample.key <= last:
                raise ValueError(f"sample {sample.key} follows {last}: samples must be sorted by key")
            last = sample.key
            for suffix in sorted(sample.members):
                _write_member(stream, f"{sample.key}.{suffix}", sample.members[suffix])
            del sample
        return stream.tell()


def write_shard(tar_path: Path, parts: list[Path], facts: Mapping[str, Any]) -> dict[str, Any]:
    """Join parts into a shard, then write its sidecar.

    Args:
        tar_path: path of the shard, which ends in `.tar`.
        parts: paths of the parts, in the order of their keys.
        facts: content of the sidecar besides the index (config, tools, gaps, ...).

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
    """Split a committed shard into parts again, so that it can be rebuilt with more samples.

    Args:
        tar_path: path of the shard.
        sidecar: its sidecar.
        part_of: key prefix (before the `_`) -> path of the asset's part.

    Raises:
        FormatError: if the tar differs from what was committed; rebuilding it would make the damage permanent.
    """
    if not tar_path.exists() or sha256_file(tar_path) != sidecar["sha256"]:
        raise FormatError(
            f"{tar_path}: differs from the SHA-256 in its sidecar, so no samples can be added: run `helix4d verify`"
        )
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
    """Return the path of a shard's sidecar: `train/helix4d-000000.json` for `train/helix4d-000000.tar`."""
    return tar_path.with_suffix(".json")


def read_sidecar(tar_path: Place) -> dict[str, Any] | None:
    """Read the sidecar of a shard, at a path or URL. None if the shard is not committed.

    Raises:
        FormatError: if the sidecar is damaged.
        NewerError: if it was written by a newer version.
        StoreError: if a URL cannot be read.
    """
    folder, tar = folder_and_name(tar_path)
    name = sidecar_path(Path(tar)).name
    try:
        data = folder.read(name)
    except FileNotFoundError:
        return None
    return parse_sidecar(data, folder.address(name))


def parse_sidecar(text: str | bytes, where: object) -> dict[str, Any]:
    """Parse a sidecar and check its version.

    Raises:
        FormatError: if it is damaged.
        NewerError: if it was written by a newer version.
    """
    return parse_document(text, SIDECAR, where)


@dataclass(frozen=True)
class Committed:
    """Summary of a sidecar, small enough to hold those of all shards in memory.

    Attributes:
        keys: keys of the samples.
        gaps: assets without a sample, with the reasons.
        bytes: size of the tar as recorded.
        config, config_sha256: settings and their hash as recorded.
    """

    keys: tuple[str, ...]
    gaps: tuple[Mapping[str, Any], ...]
    bytes: Any
    config: Any
    config_sha256: Any


def committed_of(sidecar: Mapping[str, Any]) -> Committed:
    """Summarize a sidecar."""
    return Committed(
        tuple(sample["key"] for sample in sidecar["samples"]),
        tuple(sidecar["gaps"]),
        sidecar.get("bytes"),
        sidecar.get("config"),
        sidecar.get("config_sha256"),
    )


class ShardReader:
    """Random access to a committed shard, at a path or URL: one seek and read, or one range request, per member.

    From a URL, only the sidecar (once) and the requested members are downloaded.

    Args:
        tar_path: path or URL (any protocol that fsspec supports) of the `.tar`; its sidecar must be beside it.
        sidecar: its sidecar, if already read.

    Raises:
        FormatError: if the shard is not committed, or its version is not supported.
        StoreError: if a URL cannot be read.
    """

    def __init__(self, tar_path: Place, sidecar: dict[str, Any] | None = None) -> None:
        self._where = str(tar_path)
        self._folder, self._name = folder_and_name(tar_path)
        self.path = Path(tar_path)
        if not is_far(tar_path) and not self.path.is_file():
            hint = "is a folder: pass one shard in it, such as train/helix4d-000000.tar"
            raise FormatError(f"{self._where}: {hint if self.path.is_dir() else 'no such file'}")
        sidecar = sidecar or read_sidecar(tar_path)
        if sidecar is None:
            raise FormatError(
                f"{self._where}: there is no {sidecar_path(self.path).name} beside it: either this is not a shard, or "
                "it is not committed because its run is still in progress or was interrupted"
            )
        self.sidecar = sidecar
        self._samples = {sample["key"]: sample for sample in sidecar["samples"]}

    def keys(self) -> list[str]:
        """Return the keys of the samples, sorted."""
        return sorted(self._samples)

    def sample(self, key: str) -> Mapping[str, Any]:
        """Return the index entry of a sample: offset, bytes, tokens, members.

        Raises:
            KeyError: if the shard has no such sample.
        """
        return self._samples[key]

    def members(self, key: str) -> list[str]:
        """Return the suffixes of a sample's members, sorted."""
        return sorted(self._samples[key]["members"])

    def read(self, key: str, suffix: str) -> bytes:
        """Read one member.

        Raises:
            KeyError: if there is no such sample or member.
            FormatError: if the tar is missing or truncated.
        """
        return self.read_members(key, [suffix])[suffix]

    def read_view(self, key: str, view: int) -> dict[str, bytes]:
        """Read one view: suffix (`view_03.json` with camera and lights, `view_03_frame_00.webp`, ...) -> bytes.

        Raises:
            KeyError: if there is no such sample or view.
            FormatError: as `read`.
        """
        wanted = [
            suffix for suffix in self.members(key) if suffix.startswith((f"view_{view:02d}.", f"view_{view:02d}_"))
        ]
        if not wanted:
            raise KeyError(f"{key}: has no view {view}")
        return self.read_members(key, wanted)

    def read_members(self, key: str, suffixes: Iterable[str]) -> dict[str, bytes]:
        """Read several members of a sample: suffix -> bytes. From a URL, they are requested concurrently.

        Raises:
            KeyError, FormatError: as `read`.
        """
        members = self._samples[key]["members"]
        ranges = {suffix: members[suffix] for suffix in suffixes}
        try:
            found = self._folder.read_ranges(self._name, [(offset, size) for offset, size in ranges.values()])
        except FileNotFoundError as error:
            raise FormatError(f"{self._where}: missing, although its sidecar exists") from error
        for (suffix, (_, size)), data in zip(ranges.items(), found, strict=True):
            if len(data) > size:
                raise FormatError(
                    f"{self._where}: got {len(data):,} bytes for a range of {size:,}: the server ignores range requests"
                )
            if len(data) < size:
                raise FormatError(
                    f"{self._where}: {key}.{suffix} ends after {len(data):,} of {size:,} bytes: the shard is truncated"
                )
        return dict(zip(ranges, found, strict=True))

    def clip(self, key: str) -> dict[str, Any]:
        """Read a sample's `clip.json`.

        Raises:
            KeyError: if there is no such sample.
            FormatError: if it is damaged, or its version is not supported.
        """
        return parse_clip(self.read(key, "clip.json"), f"{self._where}: {key}.clip.json")


def parse_clip(data: bytes, where: object) -> dict[str, Any]:
    """Parse a `clip.json` and check its version.

    Raises:
        FormatError: if it is damaged, or its version is not supported.
    """
    return parse_document(data, SAMPLE, where)


def member_header(name: str, size: int) -> bytes:
    """Return the tar header of a member. It depends only on name and size, not on the machine."""
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
    """Return the names of the members of a part (or a shard), in order.

    Raises:
        FormatError: if the file is not a complete fragment of a tar file.
    """
    data = io.BytesIO(path.read_bytes())
    try:
        names = [name for name, _, _ in _walk(data)]
    except tarfile.TarError as error:
        raise FormatError(f"{path}: not a fragment of a tar file ({error})") from error
    return names

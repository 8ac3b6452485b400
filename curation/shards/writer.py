"""WebDataset shards: deterministic tar files with an index beside them, written atomically.

An asset's samples are first written as a part, a fragment of a tar file. A shard is the concatenation of its parts in
the order of their keys, followed by an end mark; its sidecar is written last.
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from helix4d.core import FormatError, atomic_writer, sha256_file, write_json
from helix4d.curation.shards.sidecar import SIDECAR, sidecar_path

_BLOCK = tarfile.BLOCKSIZE
_COPY_BYTES = 1 << 22
_NEWER = ("engine", "clipped", "skeleton", "up_axis")
"""Fields of `clip.json` in the index that samples written by version 0.3.0 lack."""


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
            sample.update({name: clip[name] for name in _NEWER if name in clip})
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

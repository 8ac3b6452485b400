"""The sidecar of a shard, `NAME.json`: its index, sizes, hash and settings.

It is written last and commits the shard: without a sidecar, a shard does not exist.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from helix4d.assets.skeleton import Skeleton, up_axis_from_json
from helix4d.core import FormatError, Schema
from helix4d.core.documents import parse_document
from helix4d.core.names import check_key, check_suffix
from helix4d.curation.places.folder import Place, folder_and_name

SIDECAR = Schema(
    "shard sidecar",
    version=1,
    oldest=1,
    rewrite="delete the shard and its sidecar, and rerun the command that wrote them",
)


_MOST = 1 << 50
"""Bound of every size and offset, in bytes: more than any file system holds in one file."""


def sidecar_path(tar_path: Path) -> Path:
    """Return the path of a shard's sidecar: `train/helix4d-000000.json` for `train/helix4d-000000.tar`."""
    return tar_path.with_suffix(".json")


def read_sidecar(tar_path: Place) -> dict[str, Any] | None:
    """Read the sidecar of a shard, at a path or URL, and check its form. None if the shard is not committed.

    Raises:
        FormatError: if the sidecar is damaged; its index then names no file outside the shard.
        NewerError: if it was written by a newer version.
        StoreError: if a URL cannot be read.
    """
    folder, tar = folder_and_name(tar_path)
    name = sidecar_path(Path(tar)).name
    try:
        data = folder.read(name)
    except FileNotFoundError:
        return None
    where = folder.address(name)
    sidecar = parse_sidecar(data, where)
    check_form(sidecar, where)
    return sidecar


def parse_sidecar(text: str | bytes, where: object) -> dict[str, Any]:
    """Parse a sidecar and check only its version, so that `helix4d verify` can describe what is wrong with it.

    Raises:
        FormatError: if it is damaged.
        NewerError: if it was written by a newer version.
    """
    return parse_document(text, SIDECAR, where)


def check_form(sidecar: Mapping[str, Any], where: object) -> None:
    """Check that a sidecar has the fields that every reader uses, of the right types.

    Raises:
        FormatError: if a field is missing or malformed.
    """
    size = sidecar.get("bytes")
    if not _is_count(size):
        raise FormatError(f"{where}: bytes is {size!r}: expected the size of the tar")
    for name in ("sha256", "config_sha256", "split"):
        if not isinstance(sidecar.get(name), str):
            raise FormatError(f"{where}: {name} is missing or not a text")
    if not isinstance(sidecar.get("config"), Mapping):
        raise FormatError(f"{where}: config is missing or not an object")
    tools = sidecar.get("tools")
    if not isinstance(tools, Mapping) or not all(isinstance(version, str) for version in tools.values()):
        raise FormatError(f"{where}: tools is missing or not a version for each package")
    entries = index_of(sidecar, where)
    for gap in sidecar["gaps"]:
        if not all(isinstance(text, str) for text in (gap_name(gap), gap.get("state"), gap.get("reason"))):
            raise FormatError(f"{where}: gaps contains an entry without an asset or key, a state or a reason")
    for key, sample in entries.items():
        for suffix, (offset, length) in sample["members"].items():
            if offset + length > size:
                raise FormatError(f"{where}: {key}.{suffix} ends at byte {offset + length} of {size}")
        _check_sample(sample, f"{where}: {key}")


def gap_name(gap: Mapping[str, Any]) -> Any:
    """Return what is missing: the name of an asset, or in a latent shard the key of a clip."""
    return gap.get("asset", gap.get("key"))


def index_of(sidecar: Mapping[str, Any], where: object) -> dict[str, Mapping[str, Any]]:
    """Return the index, key -> entry, after checking its structure and every name in it.

    Raises:
        FormatError: if the index or the gaps are malformed.
    """
    samples = sidecar.get("samples")
    if not isinstance(samples, list):
        raise FormatError(f"{where}: samples is not a list")
    for number, sample in enumerate(samples):
        members = sample.get("members") if isinstance(sample, Mapping) else None
        if not isinstance(members, Mapping):
            raise FormatError(f"{where}: sample {number} of the index has no members")
        key = check_key(sample.get("key"), f"{where}: sample {number} of the index")
        for suffix, extent in members.items():
            check_suffix(suffix, f"{where}: {key}")
            if not (isinstance(extent, list) and len(extent) == 2 and all(map(_is_count, extent))):
                raise FormatError(f"{where}: {key}.{suffix} in the index is {extent!r}, expected [offset, size]")
    keys = [sample["key"] for sample in samples]
    if keys != sorted(set(keys)):
        raise FormatError(f"{where}: the keys of the index are not unique and sorted")
    gaps = sidecar.get("gaps")
    if not isinstance(gaps, list) or not all(isinstance(gap, Mapping) for gap in gaps):
        raise FormatError(f"{where}: gaps is not a list of objects")
    return dict(zip(keys, samples, strict=True))


def _check_sample(sample: Mapping[str, Any], where: str) -> None:
    clip = sample.get("clip")
    well_formed = (
        all(isinstance(sample.get(name), str) for name in ("asset", "content_sha256"))
        and isinstance(clip, Mapping)
        and _is_count(clip.get("index"))
        and "name" in clip
        and isinstance(clip["name"], str | None)
        and all(_is_count(sample.get(name)) for name in ("offset", "bytes"))
    )
    if not well_formed:
        raise FormatError(f"{where}: its entry in the index has no valid asset, clip, offset or bytes")
    counts = [sample.get(name) for name in ("voxels", "tokens")]
    if not all(isinstance(values, list) and all(map(_is_count, values)) for values in counts):
        raise FormatError(f"{where}: voxels or tokens in the index are not numbers per frame")
    clipped = sample.get("clipped", {})  # older shards have none
    if not isinstance(clipped, Mapping) or not all(type(share) in (int, float) for share in clipped.values()):
        raise FormatError(f"{where}: clipped in the index is not a number per view")
    try:
        Skeleton.from_json(sample.get("skeleton"))
        up_axis_from_json(sample.get("up_axis"))
    except ValueError as error:  # older shards have neither
        raise FormatError(f"{where}: {error}") from error
    engine = sample.get("engine", {"name": ""})  # only with --engine auto
    if not isinstance(engine, Mapping) or not isinstance(engine.get("name"), str):
        raise FormatError(f"{where}: engine in the index is not an object with a name")


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value < _MOST


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

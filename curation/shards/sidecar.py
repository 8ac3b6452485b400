"""The sidecar of a shard, `NAME.json`: its index, sizes, hash and settings.

It is written last and commits the shard: without a sidecar, a shard does not exist.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from helix4d.core import Schema
from helix4d.core.documents import parse_document
from helix4d.curation.places.folder import Place, folder_and_name

SIDECAR = Schema(
    "shard sidecar",
    version=1,
    oldest=1,
    rewrite="delete the shard and its sidecar, and rerun the command that wrote them",
)


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

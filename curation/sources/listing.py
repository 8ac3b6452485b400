"""What a source holds: assets by name, and why some that are listed cannot be had."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from helix4d.core import ReasonCode
from helix4d.curation.remote.files import RemoteFile

SUFFIXES = frozenset({".glb", ".gltf", ".fbx", ".dae", ".abc", ".usd", ".usda", ".usdc", ".usdz", ".blend", ".zip"})
"""Of asset files; in a folder of this machine, a folder of numbered .obj files is an asset too."""


@dataclass(frozen=True)
class Exclusion:
    """Why an asset goes into no shard: a reason, and a sentence for people."""

    reason: ReasonCode
    message: str


@dataclass(frozen=True, order=True)
class SourceAsset:
    """A file of the source.

    Attributes:
        name: what ledgers and reports call it: its path relative to the source, or the uid of a manifest.
        path: where it is; of a remote one the name of its file.
        size: bytes; -1 where nobody said.
        mtime_ns: modification time, which with the size tells whether it must be hashed again; 0 for a remote one.
        remote: where a remote one is fetched from.
        sha256: what a manifest says of a local one's bytes.
        metadata: what the source says of it: its license, and further columns of a manifest.
    """

    name: str
    path: Path
    size: int
    mtime_ns: int
    remote: RemoteFile | None = field(default=None, compare=False)
    sha256: str = field(default="", compare=False)
    metadata: Mapping[str, Any] = field(default_factory=dict, compare=False)


@dataclass(frozen=True)
class Listing:
    """What a source holds.

    Attributes:
        assets: sorted by name.
        unreachable: name of an asset that is listed but not there -> why.
        revisions: repository -> the commit that was listed.
    """

    assets: list[SourceAsset]
    unreachable: Mapping[str, Exclusion] = field(default_factory=dict)
    revisions: Mapping[str, str] = field(default_factory=dict)

"""The content of a source: assets by name, and the reasons why some cannot be read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from helix4d.core import ReasonCode
from helix4d.curation.remote.files import RemoteFile

SUFFIXES = frozenset({".glb", ".gltf", ".fbx", ".dae", ".abc", ".usd", ".usda", ".usdc", ".usdz", ".blend", ".zip"})
"""Extensions of asset files. In a local folder, a folder of numbered .obj files is an asset too."""


@dataclass(frozen=True)
class Exclusion:
    """Why an asset is not in any shard: a reason code, and an explanation."""

    reason: ReasonCode
    message: str


@dataclass(frozen=True, order=True)
class SourceAsset:
    """An asset of the source.

    Attributes:
        name: name in ledgers and reports: path relative to the source, or uid in a manifest.
        path: path of a local asset; file name of a remote one.
        size: bytes; -1 if unknown.
        mtime_ns: modification time, used with the size to detect changes; 0 for a remote asset.
        remote: file to download, for a remote asset.
        sha256: expected hash of a local file, if a manifest lists one.
        metadata: what the source publishes about the asset: license, further columns of a manifest.
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
    """The content of a source.

    Attributes:
        assets: sorted by name.
        unreachable: name of a listed asset that cannot be read -> reason.
        revisions: repository -> listed commit.
    """

    assets: list[SourceAsset]
    unreachable: Mapping[str, Exclusion] = field(default_factory=dict)
    revisions: Mapping[str, str] = field(default_factory=dict)

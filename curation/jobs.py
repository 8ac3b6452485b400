"""What workers are told to do. Light to import: Ray's own processes need no more than this."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from curation.config import SampleConfig

WORK_FOLDER = "work"
"""Folder of an output for the parts of shards that are not complete yet."""


@dataclass(frozen=True)
class AssetJob:
    """What a worker is told.

    Attributes:
        asset: the asset's name in the source.
        path: its file.
        content_sha256: its content hash.
        part: where its samples go.
        config: what a sample is.
        threads: for voxelizing and rendering.
        measure_only: stop when the clips are measured; no part is written.
        device: for rendering, one of `render.settings.DEVICES`; with "cpu", voxelizing stays there too.
        hdf5: folder for BlenderProc's files, one folder in it for each sample; None to write none.
        hdri: folder of the environment maps that the configuration names.
    """

    asset: str
    path: Path
    content_sha256: str
    part: Path
    config: SampleConfig
    threads: int = 1
    measure_only: bool = False
    device: str = "auto"
    hdf5: Path | None = None
    hdri: Path | None = None

    def to_json(self) -> dict[str, Any]:
        """The values as JSON."""
        return {
            "asset": self.asset,
            "path": str(self.path),
            "content_sha256": self.content_sha256,
            "part": str(self.part),
            "config": self.config.to_json(),
            "threads": self.threads,
            "measure_only": self.measure_only,
            "device": self.device,
            "hdf5": None if self.hdf5 is None else str(self.hdf5),
            "hdri": None if self.hdri is None else str(self.hdri),
        }

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> AssetJob:
        """The inverse of `to_json`."""
        folders = {name: Path(values[name]) for name in ("path", "part", "hdf5", "hdri") if values[name] is not None}
        return cls(**{**values, **folders, "config": SampleConfig.from_json(values["config"])})


@dataclass(frozen=True)
class ShardJob:
    """A shard to write.

    Attributes:
        tar: the shard's path.
        parts: its parts, in the order of their keys.
        facts: what its sidecar says besides the index.
        patience_s: how long to wait for an output that refuses writes.
    """

    tar: Path
    parts: tuple[Path, ...]
    facts: Mapping[str, Any]
    patience_s: float = 600.0

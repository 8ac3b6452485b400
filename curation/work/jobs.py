"""What workers are told to do. Light to import: Ray's own processes need no more than this."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from helix4d.curation.config import CurateConfig, SampleConfig
from helix4d.curation.plan.plan import PlannedAsset
from helix4d.curation.remote.config import DownloadConfig
from helix4d.curation.remote.files import RemoteFile


@dataclass(frozen=True)
class AssetJob:
    """What a worker is told.

    Attributes:
        asset: the asset's name in the source.
        path: its file; of a remote asset, what its file will be called.
        content_sha256: its content hash.
        part: where its samples go.
        config: what a sample is.
        threads: for voxelizing and rendering.
        measure_only: stop when the clips are measured; no part is written.
        device: for rendering, one of `helix4d.render.scene.settings.DEVICES`; with "cpu", voxelizing stays there too.
        hdf5: folder for BlenderProc's files, one folder in it for each sample; None to write none.
        hdri: folder of the environment maps that the configuration names.
        remote: where a remote asset is fetched from.
        metadata: what the source says of the asset.
        downloads: how it is fetched.
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
    remote: RemoteFile | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    downloads: DownloadConfig = field(default_factory=DownloadConfig)

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
            "remote": self.remote.to_json() if self.remote else None,
            "metadata": dict(self.metadata),
            "downloads": self.downloads.to_json(),
        }

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> AssetJob:
        """The inverse of `to_json`."""
        converted = {
            "path": Path(values["path"]),
            "part": Path(values["part"]),
            "config": SampleConfig.from_json(values["config"]),
            **{name: Path(values[name]) for name in ("hdf5", "hdri") if values[name] is not None},
            "remote": RemoteFile.from_json(values["remote"]) if values["remote"] else None,
            "downloads": DownloadConfig.from_json(values["downloads"]),
        }
        return cls(**{**values, **converted})


def asset_job(config: CurateConfig, asset: PlannedAsset, part: Path, measure_only: bool = False) -> AssetJob:
    """The job for a planned asset; its samples go to `part`."""
    source = asset.source
    return AssetJob(
        asset=source.name,
        path=source.path,
        content_sha256=asset.content_sha256,
        part=part,
        config=config.sample,
        threads=config.run.cpus_per_worker,
        measure_only=measure_only,
        hdf5=None if config.run.hdf5 is None else config.run.hdf5.resolve(),
        hdri=None if config.hdri is None else config.hdri.resolve(),
        remote=source.remote,
        metadata=source.metadata,
        downloads=config.run.downloads,
    )


@dataclass(frozen=True)
class ShardJob:
    """A shard to write.

    Attributes:
        tar: the shard's path.
        parts: its parts, in the order of their keys.
        facts: what its sidecar says besides the index.
        patience_s: how long to wait for an output that refuses writes.
        folder: that the tar's name is relative to.
        remote: URL to publish it at; None: it stays here.
        downloads: patience with that.
    """

    tar: Path
    parts: tuple[Path, ...]
    facts: Mapping[str, Any]
    patience_s: float = 600.0
    folder: Path = Path()
    remote: str | None = None
    downloads: DownloadConfig = field(default_factory=DownloadConfig)

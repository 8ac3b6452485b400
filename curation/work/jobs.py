"""Defines jobs: their interface, and the jobs of curation. Light to import and independent of Ray."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from helix4d.curation.config import CurateConfig, SampleConfig
from helix4d.curation.plan.plan import PlannedAsset
from helix4d.curation.remote.config import DownloadConfig
from helix4d.curation.remote.files import RemoteFile


class Job(Protocol):
    """Input of a task. Pickled, so that it can run on another node."""

    @property
    def name(self) -> str:
        """Name in the ledger and on the display, the same for all jobs of a chain."""

    @property
    def target(self) -> Path:
        """The file or folder that the job writes, for messages about storage that refuses it."""


class Report(Protocol):
    """Shows what a job is doing."""

    def __call__(self, text: str) -> None:
        """Show `text`, such as `render 3/16`. Updates of the same stage within half a second may be dropped."""


@dataclass(frozen=True)
class AssetJob:
    """One asset to turn into samples.

    Attributes:
        asset: name of the asset in the source.
        path: path of its file, or for a remote asset the name that the downloaded file gets.
        content_sha256: content hash that was planned.
        part: path of the part to write its samples to.
        config: settings of the samples.
        threads: number of threads for voxelizing and rendering.
        measure_only: whether to stop once the clips are measured, without writing a part.
        device: device to render on, one of `helix4d.render.scene.settings.DEVICES`; "cpu" voxelizes on the CPU, too.
        hdf5: folder for BlenderProc's files, with a subfolder per sample; None to write none.
        hdri: folder of the environment maps that the configuration names.
        remote: where to download a remote asset from.
        metadata: what the source records about the asset.
        downloads: settings of the download.
        memory_gb: memory of the process that runs the job, in GB (10^9 bytes); None if it is not limited.
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
    memory_gb: float | None = None

    @property
    def name(self) -> str:
        """Name in the ledger."""
        return self.asset

    @property
    def target(self) -> Path:
        """The file that it writes."""
        return self.part

    def to_json(self) -> dict[str, Any]:
        """Return the values as JSON."""
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
            "memory_gb": self.memory_gb,
        }

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> AssetJob:
        """Invert `to_json`."""
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
    """Return the job for a planned asset, with its samples written to `part`."""
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
        downloads=config.downloads,
        memory_gb=config.run.limits.memory_gb,
    )


@dataclass(frozen=True)
class ShardJob:
    """A shard to write.

    Attributes:
        tar: path of the tar file.
        parts: paths of its parts, in the order of their keys.
        facts: content of its sidecar besides the index.
        patience_s: seconds to wait for an output that refuses writes.
        folder: output folder, which the shard's name is relative to.
        remote: URL of the output to publish it to; None to keep it local.
        downloads: settings of transfers to that URL.
    """

    tar: Path
    parts: tuple[Path, ...]
    facts: Mapping[str, Any]
    patience_s: float = 600.0
    folder: Path = Path()
    remote: str | None = None
    downloads: DownloadConfig = field(default_factory=DownloadConfig)

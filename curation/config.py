"""The settings of a curation run: what a sample is (hashed into every shard), and how the run goes (never hashed)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from helix4d.core import ConfigError, sha256_json
from helix4d.curation.filters.thresholds import FilterConfig
from helix4d.curation.places.names import is_url
from helix4d.curation.remote.config import DownloadConfig
from helix4d.render import EngineName, PresetName
from helix4d.render.scene.environment import find_maps

Compression = Literal["zstd", "lzma", "deflate", "none"]


@dataclass(frozen=True)
class SampleConfig:
    """What goes into a sample. Two runs with equal values (and inputs and versions) write equal bytes."""

    resolution: int = 512
    """Voxels per side of an O-Voxel."""
    frames: int = 16
    """Frames sampled evenly over the animation, both ends included."""
    views: int = 16
    """Random views rendered of every frame; 0 renders nothing."""
    image_size: int = 512
    """Pixels per side of a rendered image."""
    engine: EngineName = "cycles"
    """cycles traces paths; raster is some ten times cheaper, and leaves something out; blenderproc is cycles through
    BlenderProc, for its files: see hdf5 (docs/rendering.md)."""
    preset: PresetName = "train"
    """How long Cycles works on an image: draft, train or reference (256 samples), see docs/rendering.md."""
    passes: bool = False
    """Write depth (16-bit PNG) and normals (half-float EXR) beside every image."""
    clip: str = "most-moving"
    """Which animation of a file: most-moving, longest, first, all, or a name."""
    filters: Annotated[FilterConfig, tyro.conf.arg(name="")] = field(default_factory=FilterConfig)
    seed: int = 0
    """The dataset seed: cameras and lights are drawn from (seed, key, view)."""
    vxz_compression: Compression = "zstd"
    """Compression of the `.vxz` members."""
    assets_per_shard: int = 16
    """Assets planned into one shard; filtered and failed ones leave gaps."""
    environment_maps: Annotated[Mapping[str, str], tyro.conf.Suppress] = field(default_factory=dict)
    """File name -> sha256 of the maps of `--hdri`, filled in when the run begins."""

    def __post_init__(self) -> None:
        if self.resolution not in (32, 64, 128, 256, 512, 1024):
            raise ConfigError(f"resolution {self.resolution}: a power of two from 32 to 1024 is needed")
        for name, low, high in [("frames", 1, 100), ("views", 0, 100), ("image_size", 16, 4096)]:
            value = getattr(self, name)
            if not low <= value <= high:
                raise ConfigError(f"--{name.replace('_', '-')} {value}: from {low} to {high} is possible")
        if self.engine == "raster" and self.preset != "train":
            raise ConfigError(f"preset {self.preset}: the engine raster has one quality, leave it out")
        if self.assets_per_shard < 1:
            raise ConfigError(f"assets_per_shard {self.assets_per_shard}: at least 1 is needed")

    def to_json(self) -> dict[str, Any]:
        """The values as JSON; without maps not a word of them, so that the hashes of older shards stand."""
        content = asdict(self)
        if not self.environment_maps:
            del content["environment_maps"]
        return content

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> SampleConfig:
        """The inverse of `to_json`; also of what was written before there were `filters`, with `min_motion` alone.

        Raises:
            ConfigError: for a setting that this program does not have, or an impossible value.
        """
        values = dict(values)
        filters = dict(values.pop("filters", {}))
        if "min_motion" in values:
            filters["min_motion"] = values.pop("min_motion")
        try:
            return cls(**values, filters=FilterConfig(**filters))
        except TypeError as error:
            raise ConfigError(f"settings of another program: {error}") from error

    def sha256(self) -> str:
        """Hash of every value: what a sidecar names as its config hash."""
        return sha256_json(self.to_json())


@dataclass(frozen=True)
class Limits:
    """What one attempt at one asset may cost before its process is killed."""

    timeout_s: float = 3600.0
    """Seconds of wall time: then `failed: timeout`."""
    memory_gb: float = 8.0
    """Resident gigabytes (10^9 bytes): then `failed: out_of_memory`."""
    attempts: int = 2
    """Attempts at an asset whose process crashed, hung or outgrew its memory."""
    assets_per_process: int = 50
    """Assets after which a worker's process is replaced by a fresh one."""
    resting_gb: float = 2.0
    """Resident gigabytes between two assets, beyond which it is replaced at once; half of memory_gb at most."""
    patience_s: float = 600.0
    """Seconds that a write waits while the output is full or refuses; then the run stops, to be resumed."""

    def __post_init__(self) -> None:
        for name in ("timeout_s", "memory_gb", "resting_gb"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name} {getattr(self, name)}: more than 0 is needed")
        for name in ("attempts", "assets_per_process"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} {getattr(self, name)}: at least 1 is needed")


@dataclass(frozen=True)
class RunConfig:
    """How the work is done. Nothing here changes a byte of a shard."""

    address: str | None = None
    """Ray cluster to join ("auto" on one of its nodes). Default: $RAY_ADDRESS, else a local Ray is started."""
    workers: int | None = None
    """Assets worked on at the same time. Default: as many as the CPUs allow."""
    cpus_per_worker: int = 1
    """Threads for one asset's voxelizing and rendering."""
    gpus_per_worker: float | None = None
    """GPUs that Ray reserves for each worker, which renders on them; 0 keeps all work on the CPUs. Default: one where
    there are any that Blender can use, so one worker a GPU (the engine raster reserves none)."""
    memory_gb_per_worker: float = 1.0
    """Gigabytes (10^9 bytes) that Ray reserves for each worker: it begins no more of them than a node has room for."""
    limits: Limits = field(default_factory=Limits)
    hdf5: Path | None = None
    """With the engine blenderproc: a folder for BlenderProc's HDF5 files, HDF5/KEY/frame_00/VIEW.hdf5."""
    downloads: DownloadConfig = field(default_factory=DownloadConfig)
    work: Path | None = None
    """Working folder of an output that is a URL; on a cluster, one that every node sees. Default: inside --cache."""
    limit: int | None = None
    """Only the first N assets of the source, by name."""
    exclude: Path | None = None
    """List from `helix4d filter --write`: its assets go into no shard. An output keeps the list it was begun with."""
    retry_failed: bool = False
    """Try the failed assets of an earlier run again (filtered ones stay filtered)."""
    dry_run: bool = False
    """Print the plan and stop; writes nothing."""
    verbose: bool = False
    """Log every asset."""

    def __post_init__(self) -> None:
        for name in ("workers", "cpus_per_worker", "limit"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"--{name.replace('_', '-')} {value}: at least 1 is needed")
        if self.gpus_per_worker is not None and self.gpus_per_worker < 0:
            raise ConfigError(f"--gpus-per-worker {self.gpus_per_worker:g}: 0 or more is needed")
        if not self.memory_gb_per_worker >= 0:
            raise ConfigError(f"--memory-gb-per-worker {self.memory_gb_per_worker:g}: 0 or more is needed")


@dataclass(frozen=True)
class CurateConfig:
    """What a run is told.

    Attributes:
        source: as given, see docs/sources.md.
        output: folder that the run works in; of a local output, the output itself.
        sample: what a sample is.
        run: how the work is done.
        remote: URL of an output that is not a local folder.
        hdri: folder of the environment maps that light the views; None: lamps do.
    """

    source: str
    output: Path
    sample: SampleConfig = field(default_factory=SampleConfig)
    run: RunConfig = field(default_factory=RunConfig)
    remote: str | None = None
    hdri: Path | None = None

    def with_environment_maps(self) -> CurateConfig:
        """The same, its samples naming the files of `hdri` and their hashes.

        Raises:
            ConfigError: if there are none.
        """
        if self.hdri is None:
            return self
        return replace(self, sample=replace(self.sample, environment_maps=find_maps(self.hdri)))


@dataclass(frozen=True)
class _Arguments:
    """Turn animated 3D assets into WebDataset shards.

    Run it again to go on where it stopped: finished assets are kept, and the shards come out byte for byte the same.
    """

    source: str
    """Where the assets are: a folder (searched recursively), a manifest (.csv, .jsonl, .parquet), a URL of either,
    `texverse`, `texverse:IDS` or `objaverse:IDS` with a list of ids. See docs/sources.md."""
    output: str
    """Folder for the shards; on a cluster, one that every node sees. Or a URL that fsspec can write to, s3://..."""
    sample: Annotated[SampleConfig, tyro.conf.arg(name="")] = field(default_factory=SampleConfig)
    run: Annotated[RunConfig, tyro.conf.arg(name="")] = field(default_factory=RunConfig)
    hdri: Path | None = None
    """Folder with equirectangular .hdr and .exr files: each view is lit by one of them instead of lamps."""


def flat_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as JSON, those of the filters beside the others: what options are called."""
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        flat.update(flat_settings(value) if isinstance(value, Mapping) else {name: value})
    return flat


def parse_config(arguments: list[str] | None = None, program: str = "pipeline.py") -> CurateConfig:
    """Read a `CurateConfig` from command-line arguments (default: this process's)."""
    given = tyro.cli(tyro.conf.OmitArgPrefixes[_Arguments], prog=program, args=arguments)
    url = given.output.rstrip("/") if is_url(given.output) else None
    return CurateConfig(
        source=given.source,
        output=Path(given.output) if url is None else working_folder(url, given.run),
        sample=given.sample,
        run=given.run,
        remote=url,
        hdri=given.hdri,
    )


def working_folder(url: str, run: RunConfig) -> Path:
    """Where a run works whose output is a URL: the same folder each time."""
    if run.work is not None:
        return run.work
    name = f"{re.sub(r'[^A-Za-z0-9.-]+', '_', url)[-60:]}-{sha256_json(url)[:12]}"
    return run.downloads.cache.expanduser() / "outputs" / name

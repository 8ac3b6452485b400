"""Settings of a curation run: those that define a sample (hashed into every shard) and those that do not."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from helix4d.assets.sampling import Sampling, Static
from helix4d.core import ConfigError, sha256_json
from helix4d.core.options import Option
from helix4d.curation.filters.thresholds import ADDED, FilterConfig
from helix4d.curation.remote.config import DownloadConfig
from helix4d.curation.sources.source import named_by_source
from helix4d.render import EngineOption, PresetName
from helix4d.render.scene.cameras import CameraDistribution
from helix4d.render.scene.environment import find_maps
from helix4d.render.scene.fixed_views import fixed_azimuths
from helix4d.render.scene.lighting import LightDistribution
from helix4d.render.scene.view_transforms import ViewTransform
from helix4d.voxelize import Emissive

MAX_TRACKS = 65536
_RESOLUTIONS = ("32", "64", "128", "256", "512", "1024")

Compression = Literal["zstd", "lzma", "deflate", "none"]

EARLIER: Mapping[str, Any] = {
    "cameras": "even",
    "lights": "even",
    "view_transform": "standard",
    "fixed_views": "",
    "tracks": 0,
    "sampling": "whole",
    "fps": 12.0,
    "windows": 1,
    "stride": None,
    "static": "never",
    "emissive": "ignore",
    "environment_maps": {},
}
"""Values that version 0.3 always used for settings added since. Omitted at these values, so its hashes stay valid."""


@dataclass(frozen=True)
class SampleConfig:
    """Settings that define a sample. Runs with equal settings, inputs and versions write identical bytes."""

    resolution: Annotated[int | str, Option(metavar="R[,R...]")] = 512
    """Voxels per side of an O-Voxel. Several, such as 512,256,1024, are voxelized in one pass; readers and `encode` use
    the first one by default."""
    frames: int = 16
    """Frames sampled evenly over the animation, first and last included (1 to 100)."""
    views: int = 16
    """Random views rendered of every frame (0 to 100); 0 skips rendering."""
    image_size: int = 512
    """Pixels per side of a rendered image (16 to 4096)."""
    engine: EngineOption = "cycles"
    """Renderer, see docs/rendering.md: cycles traces paths.
    raster draws with OpenGL, two to three times cheaper, with approximate light.
    auto renders two images of each clip with both, and uses raster for the clip if they agree within 38 dB.
    blenderproc is cycles run through BlenderProc, which can also write its HDF5 files (--hdf5)."""
    preset: PresetName = "train"
    """Quality of the Cycles renderer: draft, train, or reference (256 samples per pixel). See docs/rendering.md."""
    cameras: CameraDistribution = "trellis2"
    """Directions of the random views: trellis2 puts a quarter of them below the horizon; even spreads them evenly."""
    lights: LightDistribution = "trellis2"
    """Distribution of the lamps: trellis2 varies the exposure (bright surfaces may clip) and casts soft shadows; even
    gives every view the same exposure and hard shadows."""
    view_transform: ViewTransform = "standard"
    """Conversion of linear light to stored colors: standard (sRGB), or filmic, Blender's curve with soft highlights."""
    fixed_views: Annotated[str, Option(metavar="NAMES", default="(optional)")] = ""
    """Additional views at elevation 0, the same for every asset, with even lights: front, right, back, left, orbit:N,
    or several of them separated by commas."""
    tracks: int = 0
    """Number of surface points to track through all frames, such as 8192, with positions and normals; 0 for none."""
    passes: bool = False
    """Also write depth (16-bit PNG) and normals (half-float EXR) for every image."""
    clip: str = "most-moving"
    """Animation of a file to use: most-moving, longest, first, all, or its name."""
    sampling: Literal["whole", "window"] = "whole"
    """Times of the frames: whole spaces them evenly over the animation; window takes consecutive frames at --fps from
    the part that moves most. An animation that is shorter than a window is sampled as a whole."""
    fps: float = 12.0
    """With --sampling window: frames per second."""
    windows: int = 1
    """With --sampling window: maximum number of windows per animation (1 to 100). Each window is a sample."""
    stride: Annotated[int | None, Option(metavar="N", default="(default: --frames, no overlap)")] = None
    """With --sampling window: number of frames from the start of one window to the start of the next."""
    static: Static = "never"
    """Samples of one frame: never; also, for assets without a moving animation; only, for all assets."""
    filters: Annotated[FilterConfig, Option(flat=True)] = field(default_factory=FilterConfig)
    emissive: Emissive = "ignore"
    """Emission of materials, which an O-Voxel cannot store: ignore, as TRELLIS.2 does, or add it to the base color.
    See docs/voxelize.md."""
    seed: int = 0
    """Dataset seed: cameras and lights are drawn from (seed, key, view)."""
    vxz_compression: Compression = "zstd"
    """Compression of the `.vxz` O-Voxel files in the shards."""
    assets_per_shard: int = 16
    """Assets planned per shard. Filtered and failed assets leave gaps, so a shard may hold fewer samples."""
    environment_maps: Annotated[Mapping[str, str], Option(hidden=True)] = field(default_factory=dict)
    """File name -> sha256 of each map in `--hdri`, filled in at the start of a run."""

    def __post_init__(self) -> None:
        sides = parse_resolutions(self.resolution)
        object.__setattr__(self, "resolution", sides[0] if len(sides) == 1 else ",".join(map(str, sides)))
        if not 0.0 < self.fps < float("inf"):
            raise ConfigError(f"--fps {self.fps:g}: must be greater than 0")
        if self.stride is not None and self.stride < 1:
            raise ConfigError(f"--stride {self.stride}: must be at least 1")
        for name, low, high in [
            ("frames", 1, 100),
            ("windows", 1, 100),
            ("views", 0, 100),
            ("image_size", 16, 4096),
            ("tracks", 0, MAX_TRACKS),
        ]:
            value = getattr(self, name)
            if not low <= value <= high:
                raise ConfigError(f"--{name.replace('_', '-')} {value}: must be between {low} and {high}")
        fixed_azimuths(self.fixed_views)
        if self.emissive not in get_args(Emissive):
            raise ConfigError(f"--emissive {self.emissive}: must be {' or '.join(get_args(Emissive))}")
        poses = self.filters.min_distinct_poses
        if poses is not None and poses > self.frames:
            raise ConfigError(f"--min-distinct-poses {poses}: exceeds --frames {self.frames}, so no clip could pass")
        if self.engine == "raster" and self.preset != "train":
            raise ConfigError(f"--preset {self.preset}: --engine raster has no quality presets; remove the option")
        if self.assets_per_shard < 1:
            raise ConfigError(f"--assets-per-shard {self.assets_per_shard}: must be at least 1")

    @property
    def moments(self) -> Sampling:
        """How animations are sampled."""
        fps = self.fps if self.sampling == "window" else None
        return Sampling(self.frames, fps, self.windows, self.stride, self.static)

    @property
    def resolutions(self) -> tuple[int, ...]:
        """The resolutions of the O-Voxels; the first is the one that readers use by default."""
        return parse_resolutions(self.resolution)

    def to_json(self) -> dict[str, Any]:
        """Return the values as JSON, without those that equal what version 0.3 always used."""
        content = {**asdict(self), "filters": self.filters.to_json()}
        return {name: value for name, value in content.items() if name not in EARLIER or value != EARLIER[name]}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> SampleConfig:
        """Invert `to_json`. Also accepts the format before `filters`, which had `min_motion` at the top level.

        Raises:
            ConfigError: if a setting is unknown or a value is out of range.
        """
        values = {**EARLIER, **values}
        filters = {**ADDED, **values.pop("filters", {})}
        if "min_motion" in values:
            filters["min_motion"] = values.pop("min_motion")
        try:
            return cls(**values, filters=FilterConfig(**filters))
        except TypeError as error:
            raise ConfigError(f"settings written by an incompatible helix4d version: {error}") from error

    def sha256(self) -> str:
        """Return the hash of all values, which sidecars record as `config_sha256`."""
        return sha256_json(self.to_json())


def parse_resolutions(value: object) -> tuple[int, ...]:
    """Return the resolutions that a setting names: a number, or several separated by commas.

    Raises:
        ConfigError: unless they are distinct powers of two from 32 to 1024.
    """
    names = str(value).split(",")
    sides = tuple(int(name) for name in names if name in _RESOLUTIONS)
    if len(sides) != len(names) or len(set(sides)) != len(sides):
        if len(names) == 1:
            raise ConfigError(f"--resolution {value}: must be a power of two from 32 to 1024")
        raise ConfigError(f"--resolution {value}: must be distinct powers of two from 32 to 1024, separated by commas")
    return sides


@dataclass(frozen=True)
class Limits:
    """Limits on the time and memory that one asset may use."""

    timeout_s: float = 3600.0
    """Wall-clock seconds per attempt; a slower asset ends as `failed: timeout`."""
    memory_gb: float = 8.0
    """Resident memory per attempt, in GB (10^9 bytes); a larger asset ends as `failed: out_of_memory`."""
    attempts: int = 2
    """Attempts at an asset whose process crashes, hangs or exceeds its memory."""
    assets_per_process: int = 50
    """Assets after which a worker process is restarted."""
    resting_gb: float = 2.0
    """Resident memory between assets, in GB, above which a worker process is restarted; at most half of --memory-gb."""
    patience_s: float = 600.0
    """Seconds to keep retrying a write that the output refuses, for example because its disk is full.
    After that the run stops; rerun it to resume."""

    def __post_init__(self) -> None:
        for name in ("timeout_s", "memory_gb", "resting_gb"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"--{name.replace('_', '-')} {getattr(self, name)}: must be greater than 0")
        for name in ("attempts", "assets_per_process"):
            if getattr(self, name) < 1:
                raise ConfigError(f"--{name.replace('_', '-')} {getattr(self, name)}: must be at least 1")


@dataclass(frozen=True)
class RunConfig:
    """Settings of the execution. None of them changes a byte of a shard."""

    address: Annotated[str | None, Option(metavar="ADDRESS", default="(default: $RAY_ADDRESS, else a local Ray)")] = (
        None
    )
    """Ray cluster to join; "auto" on one of its nodes."""
    workers: Annotated[int | None, Option(metavar="N", default="(default: all CPUs)")] = None
    """Number of assets to process at the same time."""
    cpus_per_worker: int = 1
    """Threads for voxelizing and rendering one asset."""
    gpus_per_worker: Annotated[
        float | None,
        Option(metavar="N", default="(default: 1 if Blender can use a GPU, else 0; 0 for raster)"),
    ] = None
    """GPUs that Ray reserves for each worker, which renders on them; 0 renders on the CPU. A fraction shares a GPU."""
    memory_gb_per_worker: float = 1.0
    """Memory that Ray reserves for each worker, in GB (10^9 bytes); it limits the number of workers per node."""
    limits: Limits = field(default_factory=Limits)
    hdf5: Annotated[Path | None, Option(metavar="DIR", default="(optional)")] = None
    """With --engine blenderproc: also write BlenderProc's files here, as DIR/KEY/frame_00/VIEW.hdf5."""
    downloads: DownloadConfig = field(default_factory=DownloadConfig)
    work: Annotated[Path | None, Option(metavar="DIR", default="(default: inside --cache)")] = None
    """Working folder for an output that is a URL. On a cluster, every node must see it."""
    limit: Annotated[int | None, Option(metavar="N", default="(default: all)")] = None
    """Use only the first N assets of the source, by name."""
    exclude: Annotated[Path | None, Option(metavar="FILE", default="(optional)")] = None
    """Exclusion list from `helix4d filter --write`. It belongs to the output: a resumed run keeps using it."""
    follow_links: bool = False
    """Also read files behind symbolic links that point outside the source folder. By default, these stop the run."""
    retry_failed: bool = False
    """Process the failed assets of earlier runs again. Filtered assets stay filtered."""
    dry_run: bool = False
    """Print the plan and stop, without writing anything."""
    verbose: bool = False
    """Log every asset, not only the failed ones."""

    def __post_init__(self) -> None:
        for name in ("workers", "cpus_per_worker", "limit"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"--{name.replace('_', '-')} {value}: must be at least 1")
        if self.gpus_per_worker is not None and self.gpus_per_worker < 0:
            raise ConfigError(f"--gpus-per-worker {self.gpus_per_worker:g}: must be at least 0")
        if not self.memory_gb_per_worker >= 0:
            raise ConfigError(f"--memory-gb-per-worker {self.memory_gb_per_worker:g}: must be at least 0")


@dataclass(frozen=True)
class CurateConfig:
    """Everything that defines a run.

    Attributes:
        source: location of the assets, see docs/sources.md.
        output: working folder of the run; for a local output, the output itself.
        sample: settings that define a sample.
        run: settings of the execution.
        remote: URL of the output, None if it is a local folder.
        hdri: folder of environment maps that light the views, None to use lamps.
    """

    source: str
    output: Path
    sample: SampleConfig = field(default_factory=SampleConfig)
    run: RunConfig = field(default_factory=RunConfig)
    remote: str | None = None
    hdri: Path | None = None

    @property
    def downloads(self) -> DownloadConfig:
        """Settings of the downloads: those of the run, and the places that the operator named by `source`."""
        downloads = self.run.downloads
        return replace(downloads, allow_host=(*downloads.allow_host, *named_by_source(self.source)))

    def with_environment_maps(self) -> CurateConfig:
        """Return a copy whose sample settings list the files of `hdri` and their hashes.

        Raises:
            ConfigError: if the folder contains no maps.
        """
        if self.hdri is None:
            return self
        return replace(self, sample=replace(self.sample, environment_maps=find_maps(self.hdri)))


def flat_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Flatten nested settings into one mapping, keyed by the names of the command-line options."""
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        flat.update(flat_settings(value) if isinstance(value, Mapping) else {name: value})
    return flat


def working_folder(url: str, run: RunConfig) -> Path:
    """Return the working folder of a run whose output is a URL, the same for every run to that URL."""
    if run.work is not None:
        return run.work
    name = f"{re.sub(r'[^A-Za-z0-9.-]+', '_', url)[-60:]}-{sha256_json(url)[:12]}"
    return run.downloads.cache.expanduser() / "outputs" / name

"""One clip of a curation shard becomes its part of a latent shard. Independent of Ray."""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from helix4d.core import (
    AssetState,
    ConfigError,
    FormatError,
    ReasonCode,
    Schema,
    canonical_json,
    sha256_json,
)
from helix4d.core.messages import reproducible
from helix4d.core.storage import REFUSING
from helix4d.curation.shards.ledger import Outcome
from helix4d.curation.shards.members import at_resolution
from helix4d.curation.shards.reader import ShardReader
from helix4d.curation.shards.writer import Sample, write_part
from helix4d.curation.work.jobs import Report
from helix4d.model.checkpoint.checkpoint import CheckpointSource
from helix4d.model.latents.encode import Encoders, encode_clip
from helix4d.model.latents.latents import OCCUPANCY_RESOLUTION
from helix4d.train.latents.latents import DTYPES, moments, to_members
from helix4d.voxelize import decode_vxz

log = logging.getLogger("helix4d.train")

LATENTS = Schema("latents", version=1, oldest=1, rewrite="encode its clip again into a new output")


@dataclass(frozen=True)
class LatentConfig:
    """Settings of latents besides the encoders. Their hash is recorded in every latent shard."""

    occupancy_resolution: int = OCCUPANCY_RESOLUTION
    """Voxels per side of the occupancy grid that the sparse-structure encoder reads."""
    dtype: Literal["float16", "bfloat16", "float32"] = "float16"
    """Type of the stored latents; training reads them as float32."""
    compute_dtype: Literal["float32", "float16", "bfloat16"] = "float32"
    """Type of the activations inside the encoders."""

    resolution: int | None = None
    """Resolution of the O-Voxels to encode, if the shards contain several. Default: the first of their --resolution."""

    def __post_init__(self) -> None:
        if self.occupancy_resolution < 1:
            raise ConfigError(f"occupancy_resolution is {self.occupancy_resolution}: must be at least 1")

    def to_json(self) -> dict[str, Any]:
        """Return the values as JSON, without a resolution of None, so that hashes of version 0.3 stay valid."""
        return {name: value for name, value in asdict(self).items() if name != "resolution" or value is not None}

    def sha256(self, fingerprint: str) -> str:
        """Hash of every value and of the encoders' fingerprint."""
        return sha256_json({**self.to_json(), "encoders": fingerprint})


@dataclass(frozen=True)
class EncodeJob:
    """One clip to encode.

    Attributes:
        key: key of the sample.
        shard: path of the curation shard that holds it.
        part: path of the part to write its latents to.
        models: folder or hub repository with the encoders.
        offline: whether to read the hub's local cache only.
        config: settings of the latents.
        device: "cpu" or "cuda".
    """

    key: str
    shard: Path
    part: Path
    models: str
    offline: bool
    config: LatentConfig
    device: str = "cpu"

    @property
    def name(self) -> str:
        """Name in the ledger."""
        return self.key

    @property
    def target(self) -> Path:
        """The file that it writes."""
        return self.part


def encode_sample(job: EncodeJob, report: Report) -> Outcome:
    """Write the part of one clip; whatever is wrong with the clip becomes its outcome.

    Raises:
        OSError: if storage refuses the part, or the shard's file server is away.
    """
    start = time.perf_counter()
    try:
        with _reproducible():
            sample = _encode(job, report)
    except (FormatError, KeyError, ValueError) as error:
        return _failed(job, ReasonCode.CORRUPT_FILE, error, start)
    except OSError as error:
        if error.errno in REFUSING:
            raise
        return _failed(job, ReasonCode.CRASHED, error, start)
    except (torch.OutOfMemoryError, MemoryError) as error:
        return _failed(job, ReasonCode.OUT_OF_MEMORY, error, start)
    write_part(job.part, [sample])
    seconds = {"encode": round(time.perf_counter() - start, 3)}
    return Outcome(job.key, AssetState.DONE, keys=(job.key,), timings_s=seconds)


def _encode(job: EncodeJob, report: Report) -> Sample:
    reader = ShardReader(job.shard)
    clip = reader.clip(job.key)
    encoders = _encoders(job.models, job.offline, job.device, job.config.compute_dtype)
    report("encoding")
    clip, names = at_resolution(clip, job.config.resolution, f"{job.shard.name}: {job.key}")
    ovoxels = [decode_vxz(reader.read(job.key, name)) for name in names]
    latents = encode_clip(ovoxels, encoders, job.config.occupancy_resolution)
    if list(latents.lengths) != list(clip["tokens"]):
        raise FormatError(
            f"{job.shard.name}: {job.key} has {list(latents.lengths)} tokens per frame, but its clip.json records "
            f"{clip['tokens']}"
        )
    described = {
        **clip,
        "latents": {
            "version": LATENTS.version,
            "config_sha256": job.config.sha256(encoders.fingerprint),
            "moments": moments(latents),
            "structure": list(latents.structure.shape[1:]),
        },
    }
    members = to_members(latents, DTYPES[job.config.dtype])
    return Sample(job.key, {"clip.json": canonical_json(described), **members})


def _failed(job: EncodeJob, reason: ReasonCode, error: BaseException, start: float) -> Outcome:
    return Outcome(
        job.key,
        AssetState.FAILED,
        reason,
        stage="encode",
        message=reproducible(f"{type(error).__name__}: {error}"),
        timings_s={"encode": round(time.perf_counter() - start, 3)},
    )


@contextmanager
def _reproducible() -> Iterator[None]:
    """Compute with one thread, because results depend on their number, and with deterministic algorithms."""
    threads = torch.get_num_threads()
    deterministic = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(deterministic, warn_only=warn_only)


@functools.cache
def _encoders(models: str, offline: bool, device: str, compute_dtype: str) -> Encoders:
    return Encoders.load(CheckpointSource(models, offline=offline), torch.device(device), DTYPES[compute_dtype])

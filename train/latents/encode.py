"""`helix4d encode`: curation shards in, latent shards out, with the same guarantees.

A latent shard has the name, the keys and the order of the curation shard that it was made from, and records its hash.
It contains latents only. Training reads images from the curation shards by index, because they take forty times as
much space as the latents and only one view in sixteen is read.
"""

from __future__ import annotations

import logging
import shutil
import sys
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any

from helix4d import __version__
from helix4d.core import (
    AssetState,
    ConfigError,
    FormatError,
    Schema,
    canonical_json,
    differences,
    sha256_json,
    write_bytes,
    write_json,
)
from helix4d.core.documents import parse_document
from helix4d.core.locks import locked
from helix4d.core.options import Option
from helix4d.curation.config import RunConfig, parse_resolutions
from helix4d.curation.index.subset import read_subset
from helix4d.curation.shards.layout import LEDGER_FILE, PLAN_FILE, SPLITS, WORK_FOLDER
from helix4d.curation.shards.ledger import Ledger, count
from helix4d.curation.shards.reader import ShardReader
from helix4d.curation.shards.sidecar import read_sidecar
from helix4d.curation.work.events import follow
from helix4d.curation.work.jobs import ShardJob
from helix4d.curation.work.progress import Display
from helix4d.model.checkpoint.checkpoint import CheckpointSource
from helix4d.model.latents.encode import encoders_fingerprint
from helix4d.train.latents.engines import ray_engine, serial_engine
from helix4d.train.latents.jobs import LATENTS, EncodeJob, LatentConfig
from helix4d.train.latents.latents import check_moments, statistics_from_moments
from helix4d.train.latents.storage import INDEX, INDEX_FILE, planned_shards, refuse_partial

log = logging.getLogger("helix4d.train")

PLAN = Schema("plan of latent shards", version=1, oldest=0, rewrite="use a new --output")
STATISTICS_FILE = "statistics.json"


@dataclass(frozen=True)
class EncodeConfig:
    """Encode the O-Voxels of curation shards to latent shards.

    Resumable: rerun the command after a crash and it continues where it stopped. Finished clips are kept, and the
    shards are byte-identical to those of an uninterrupted run.
    """

    shards: Path
    """Output folder of `helix4d curate`."""
    output: Path
    """Folder for the latent shards; on a cluster, one that every node can access."""
    models: str
    """Folder or hub repository with the encoders, in TRELLIS.2's layout."""
    subset: Annotated[Path | None, Option(metavar="FILE", default="(optional)")] = None
    """Encode only the samples in this file, which `helix4d select` writes."""
    offline: bool = False
    """Read models from the hub's local cache only."""
    latents: Annotated[LatentConfig, Option(flat=True)] = field(default_factory=LatentConfig)
    workers: Annotated[int | None, Option(metavar="N", default="(default: as many as the CPUs and GPUs allow)")] = None
    """Number of clips to encode at the same time."""
    cpus_per_worker: int = 1
    """CPUs that Ray reserves for a worker."""
    gpus_per_worker: float = 0.0
    """GPUs that Ray reserves for a worker; 0 runs the encoders on the CPU."""
    address: Annotated[str | None, Option(metavar="ADDRESS", default="(default: $RAY_ADDRESS, else a local Ray)")] = (
        None
    )
    """Ray cluster to join."""
    serial: bool = False
    """Encode one clip after another in this process, without Ray; on a GPU with --gpus-per-worker 1."""
    retry_failed: bool = False
    """Retry the clips that failed in earlier runs."""
    allow_partial: bool = False
    """Encode the existing shards, even if shards in the plan of --shards are missing."""

    def __post_init__(self) -> None:
        if self.serial and (self.address is not None or (self.workers or 1) > 1):
            raise ConfigError("--serial encodes in this process: remove --address and --workers, or --serial")


@dataclass(frozen=True)
class _PlannedShard:
    """A curation shard, and the latent shard to make from it."""

    name: str
    source: Path
    sha256: str
    keys: tuple[str, ...]
    resolution: int


def encode(config: EncodeConfig) -> dict[str, int]:
    """Run to the end and return the number of clips per final state.

    Raises:
        ConfigError: if the output was started from other shards or with other encoders.
        StorageError: if the output refuses writes for too long.
    """
    fingerprint = encoders_fingerprint(CheckpointSource(config.models, offline=config.offline))
    subset = None if config.subset is None else read_subset(config.subset)
    plan = plan_shards(config.shards, config.latents.resolution, config.allow_partial, subset)
    run = RunConfig(config.address, config.workers, config.cpus_per_worker, config.gpus_per_worker)
    with locked(config.output):
        _agree(config, plan, fingerprint, subset)
        ledger = Ledger(config.output / LEDGER_FILE, run.limits.patience_s)
        if config.retry_failed:
            _reopen_failed(config, plan, ledger)
        _fill_shards(config, run, plan, ledger, fingerprint)
        shutil.rmtree(config.output / WORK_FOLDER, ignore_errors=True)
        _write_summary_files(config.output, plan)
    counts = dict(count(ledger.outcomes[key] for shard in plan for key in shard.keys))
    log.info("%s: %s", config.output, ", ".join(f"{n} {state}" for state, n in sorted(counts.items())))
    return counts


def plan_shards(
    folder: Path, resolution: int | None = None, allow_partial: bool = False, subset: frozenset[str] | None = None
) -> list[_PlannedShard]:
    """Return the committed shards of a curation folder, in order of name.

    Args:
        folder: output of `helix4d curate`.
        resolution: resolution of the O-Voxels to encode; None for the default one of each shard.
        allow_partial: whether shards may be missing.
        subset: keys of the samples to encode; None for all. Shards without any of them are left out.

    Raises:
        ConfigError: if there are none, one is not committed or does not hold that resolution, some are missing, or no
            shard holds a key of the subset.
    """
    planned = []
    present, absent = set(), set(subset or ())
    for split in SPLITS:
        for tar in sorted((folder / split).glob("*.tar")):
            sidecar = read_sidecar(tar)
            if sidecar is None:
                raise ConfigError(f"{tar}: not committed yet: let `helix4d curate` finish first")
            present.add(f"{split}/{tar.name}")
            keys = tuple(sample["key"] for sample in sidecar["samples"] if subset is None or sample["key"] in subset)
            if subset is not None and not keys:
                continue
            absent.difference_update(keys)
            sides = parse_resolutions(sidecar["config"].get("resolution"))
            if resolution is not None and resolution not in sides:
                found = ", ".join(map(str, sides))
                raise ConfigError(f"{tar}: has no O-Voxels of resolution {resolution}, only of {found}")
            planned.append(_PlannedShard(f"{split}/{tar.stem}", tar, sidecar["sha256"], keys, resolution or sides[0]))
    if present and not allow_partial:
        committed = {f"{split}/{path.stem}.tar" for split in SPLITS for path in (folder / split).glob("*.json")}
        expected = {*planned_shards(str(folder), present), *committed}
        refuse_partial(str(folder), expected - present, "Restore them, or let `helix4d curate` finish")
    if present and absent and not allow_partial:
        raise ConfigError(
            f"{folder}: has no sample {min(absent)}, which the subset selects ({len(absent)} are missing): rerun "
            "`helix4d select` on this output"
        )
    if not planned:
        raise ConfigError(f"{folder}: has no shards in {', '.join(SPLITS)}: not an output of `helix4d curate`")
    return planned


def _agree(config: EncodeConfig, plan: list[_PlannedShard], fingerprint: str, subset: frozenset[str] | None) -> None:
    expected = {
        "subset": None if subset is None else sha256_json(sorted(subset)),
        "latents": config.latents.to_json(),
        "encoders": fingerprint,
        "shards": {shard.name: shard.sha256 for shard in plan},
    }
    path = config.output / PLAN_FILE
    if not path.exists():
        write_json(path, {"version": PLAN.version, **{k: v for k, v in expected.items() if v is not None}})
        return
    stored = parse_document(path.read_bytes(), PLAN, path)
    latents = stored.get("latents", {})
    if not isinstance(latents, dict):
        raise FormatError(f"{path}: latents is {latents!r:.80}: expected an object: use a new --output")
    if different := differences(latents, config.latents.to_json()):
        raise ConfigError(
            f"{config.output}: was started with different settings ({'; '.join(different)}): use a new --output"
        )
    for name, value in expected.items():
        if stored.get(name) != value:
            raise ConfigError(f"{config.output}: was started with different {name}: use a new --output")


def _reopen_failed(config: EncodeConfig, plan: list[_PlannedShard], ledger: Ledger) -> None:
    for shard in plan:
        failed = [k for k in shard.keys if k in ledger.outcomes and ledger.outcomes[k].state is AssetState.FAILED]
        tar = _tar(config.output, shard)
        if failed and tar.with_suffix(".json").exists():
            _unpack(config, shard, tar)
        for key in failed:
            del ledger.outcomes[key]


def _unpack(config: EncodeConfig, shard: _PlannedShard, tar: Path) -> None:
    """Split a committed shard into parts again, so that it can be rewritten with more of them."""
    reader = ShardReader(tar)
    with open(tar, "rb") as stream:
        for key in reader.keys():  # noqa: SIM118 (not a dict)
            entry = reader.sample(key)
            stream.seek(entry["offset"])
            write_bytes(_part(config.output, shard, key), stream.read(entry["bytes"]))
    tar.with_suffix(".json").unlink()


def _fill_shards(
    config: EncodeConfig, run: RunConfig, plan: list[_PlannedShard], ledger: Ledger, fingerprint: str
) -> None:
    open_shards = [shard for shard in plan if read_sidecar(_tar(config.output, shard)) is None]
    if not open_shards:
        return
    shard_of = {key: shard for shard in open_shards for key in shard.keys}
    todo = {shard.name: {key for key in shard.keys if _unfinished(config, shard, key, ledger)} for shard in open_shards}
    jobs = [_job(config, shard, key) for shard in open_shards for key in shard.keys if key in todo[shard.name]]
    total = sum(len(shard.keys) for shard in plan)
    opened = nullcontext(serial_engine(run)) if config.serial else ray_engine(run)
    with opened as engine, Display(total, total - len(jobs), "clips") as display:

        def write_if_complete(shard: _PlannedShard) -> None:
            if not todo[shard.name]:
                engine.write_shard(_shard_job(config, shard, ledger, fingerprint, run.limits.patience_s))

        for shard in open_shards:
            write_if_complete(shard)
        for outcome in follow(engine.run(jobs), ledger, display, engine.check):
            shard = shard_of[outcome.asset]
            todo[shard.name].discard(outcome.asset)
            write_if_complete(shard)
        engine.finish()


def _unfinished(config: EncodeConfig, shard: _PlannedShard, key: str, ledger: Ledger) -> bool:
    outcome = ledger.outcomes.get(key)
    done = outcome is not None and outcome.state is AssetState.DONE
    return outcome is None or (done and not _part(config.output, shard, key).exists())


def _job(config: EncodeConfig, shard: _PlannedShard, key: str) -> EncodeJob:
    return EncodeJob(
        key,
        shard.source.resolve(),
        _part(config.output, shard, key).resolve(),
        str(Path(config.models).resolve()) if Path(config.models).is_dir() else config.models,
        config.offline,
        config.latents,
        "cuda" if config.gpus_per_worker else "cpu",
    )


def _shard_job(
    config: EncodeConfig, shard: _PlannedShard, ledger: Ledger, fingerprint: str, patience_s: float
) -> ShardJob:
    outcomes = [ledger.outcomes[key] for key in shard.keys]
    parts = tuple(_part(config.output, shard, o.asset).resolve() for o in outcomes if o.state is AssetState.DONE)
    source = read_sidecar(shard.source)
    if source is None:
        raise ConfigError(f"{shard.source}: its sidecar was removed while the run was encoding it")
    facts = {
        "split": shard.name.split("/")[0],
        "config": config.latents.to_json(),
        "config_sha256": config.latents.sha256(fingerprint),
        "encoders": fingerprint,
        "source": {
            "shard": f"{shard.name}.tar",
            "sha256": shard.sha256,
            "config": {**source["config"], "resolution": shard.resolution},
        },
        "tools": {
            "helix4d": __version__,
            "python": ".".join(map(str, sys.version_info[:3])),
            **_package_versions(),
        },
        "gaps": [
            {"key": o.asset, "state": o.state, "reason": o.reason} for o in outcomes if o.state is not AssetState.DONE
        ],
    }
    return ShardJob(_tar(config.output, shard).resolve(), parts, facts, patience_s)


def _package_versions() -> dict[str, str]:
    """Return the versions of the packages that can change a byte of a shard; zstandard only reads some sources."""
    versions = {name: metadata.version(name) for name in ("numpy", "safetensors", "torch")}
    with suppress(metadata.PackageNotFoundError):
        versions["zstandard"] = metadata.version("zstandard")
    return versions


def _write_summary_files(output: Path, plan: list[_PlannedShard]) -> None:
    """Write the list of shards, which remote readers start from, and the statistics of the train split."""
    clips: list[dict[str, Any]] = []
    for shard in plan:
        reader = ShardReader(_tar(output, shard))
        if shard.name.startswith("train/"):
            for key in reader.keys():  # noqa: SIM118 (not a dict)
                where = f"{reader.path}: {key}"
                latents = reader.clip(key).get("latents", {})
                LATENTS.check(latents, where)
                clips.append(check_moments(latents.get("moments"), where))
    write_bytes(output / STATISTICS_FILE, canonical_json(statistics_from_moments(clips)))
    write_json(output / INDEX_FILE, {"version": INDEX.version, "shards": [f"{shard.name}.tar" for shard in plan]})


def _tar(output: Path, shard: _PlannedShard) -> Path:
    return output / f"{shard.name}.tar"


def _part(output: Path, shard: _PlannedShard, key: str) -> Path:
    return output / WORK_FOLDER / shard.name / f"{key}.part"

"""`helix4d bench build`: the stills of a manifest become its videos, with the guarantees of curation's shards.

The driver plans, gathers the stills, runs the entries on Ray and writes the ledger. Its whole state is in the output
folder, so it is resumable: finished videos are kept, and the others are built identically.
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

from helix4d.bench_builder.build_tasks import build_tasks
from helix4d.bench_builder.entry import read_entry, wrong_files
from helix4d.bench_builder.jobs import BuildSettings, EntryJob
from helix4d.bench_builder.manifest import (
    HELIX4DBENCH,
    Entry,
    Generator,
    Manifest,
    full_negative_prompt,
    full_prompt,
    read_manifest,
)
from helix4d.bench_builder.matting import load_matting, matting_identity
from helix4d.bench_builder.report import write_contact_sheet
from helix4d.bench_builder.stills import gather_stills
from helix4d.bench_builder.wan import Checkpoint, DType, check_settings, find_checkpoint, read_checkpoint
from helix4d.core import AssetState, ConfigError, FormatError, NewerError, Schema, differences, write_bytes, write_json
from helix4d.core.locks import locked
from helix4d.core.options import Option
from helix4d.curation.config import RunConfig
from helix4d.curation.shards.layout import LEDGER_FILE
from helix4d.curation.shards.ledger import Ledger, Outcome, count
from helix4d.curation.work.cluster import Cluster
from helix4d.curation.work.events import follow
from helix4d.curation.work.progress import Display
from helix4d.curation.work.ray_loop import run_tasks

log = logging.getLogger("helix4d.bench")

PLAN = Schema("plan of a benchmark", version=1, oldest=1, rewrite="use a new --output")
PLAN_FILE, MANIFEST_FILE, SHEET_FILE = "plan.json", "manifest.yaml", "contact_sheet.webp"
VIDEOS, STILLS, WORK = "videos", "stills", "work"


@dataclass(frozen=True, kw_only=True)
class BuildConfig:
    """Animate the stills of a benchmark with Wan2.2 and remove their backgrounds.

    For every entry of the manifest, OUTPUT/videos/ID gets 16 square RGBA frames, previews (WebP with alpha, MP4 on
    white) and entry.json, which records the prompts, seed, settings, fingerprint of the model and hash of every file.
    OUTPUT/contact_sheet.webp shows all videos. Resumable: rerun the command after a crash and it continues where it
    stopped. Finished videos are kept, and all files are byte-identical for any number of workers.
    `helix4d bench verify OUTPUT` checks the result.

    A first look on one GPU: helix4d bench build --output bench --limit 3
    """

    output: Path
    """Folder for the videos; on a cluster, one that every node can access."""
    model: Annotated[str | None, Option(metavar="NAME", default="(default: default_model of the manifest)")] = None
    """Model of the manifest (a14b, ti2v_5b), or a folder or hub repository with a Wan checkpoint in the layout of
    diffusers."""
    settings: Annotated[
        str | None, Option(metavar="NAME", default="(default: the first with as many experts as the checkpoint)")
    ] = None
    """Model of the manifest to take the settings from."""
    stills: Annotated[Path | None, Option(metavar="DIR", default="(default: download them to OUTPUT/stills)")] = None
    """Folder with the stills, which are checked against their hashes."""
    matting: str = "isnet-general-use"
    """How the background is removed: the name of a rembg model, which is downloaded; NAME_custom:FILE.onnx for your own
    file (u2net_custom, dis_custom, ben_custom); or `color`, the distance from the background color, without a model."""
    manifest: Annotated[Path, Option(metavar="FILE", default="(default: the 52 videos of Helix4DBench)")] = HELIX4DBENCH
    """Manifest to build."""
    limit: Annotated[int | None, Option(metavar="N", default="(default: all)")] = None
    """Build only the first N entries. A later run without a limit, or with a larger one, adds the rest."""
    size: Annotated[int | None, Option(metavar="N", default="(default: from the manifest)")] = None
    """Pixels per side of generated and finished frames."""
    steps: Annotated[int | None, Option(metavar="N", default="(default: from the manifest)")] = None
    """Denoising steps."""
    num_frames: Annotated[int | None, Option(metavar="N", default="(default: from the manifest)")] = None
    """Number of frames to generate, 4k + 1."""
    dtype: DType = "bfloat16"
    """Data type of the networks; the VAE is always float32."""
    revision: Annotated[str | None, Option(metavar="REVISION", default="(optional)")] = None
    """Revision of the hub repository; use a commit for reproducible results."""
    offline: bool = False
    """Read the hub's local cache only."""
    offload: bool = True
    """Keep networks in main memory except while they are used. Without it, the GPU must hold all of them at once."""
    workers: Annotated[
        int | None, Option(metavar="N", default="(default: as many as the GPUs allow, or the CPUs without a GPU)")
    ] = None
    """Number of videos to generate at the same time."""
    gpus_per_worker: Annotated[
        float | None, Option(metavar="N", default="(default: 1 if the cluster has a GPU, else 0)")
    ] = None
    """GPUs that Ray reserves for a worker; 0 generates on the CPU."""
    cpus_per_worker: int = 1
    """CPUs that Ray reserves to remove the background of one video."""
    address: Annotated[str | None, Option(metavar="ADDRESS", default="(default: $RAY_ADDRESS, else a local Ray)")] = (
        None
    )
    """Ray cluster to join."""
    retry_failed: bool = False
    """Retry the entries that failed in earlier runs."""
    allow_host: Annotated[tuple[str, ...], Option(metavar="HOST", default="(repeatable)", append=True)] = ()
    """HOST or HOST:PORT that stills may be downloaded from even if its address is not public: docs/security.md."""

    def __post_init__(self) -> None:
        for name in ("limit", "workers", "cpus_per_worker"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise ConfigError(f"{name} is {value}: must be at least 1")
        if self.gpus_per_worker is not None and self.gpus_per_worker < 0:
            raise ConfigError(f"gpus_per_worker is {self.gpus_per_worker}: must be at least 0")


def build(config: BuildConfig) -> dict[str, int]:
    """Run to the end and return the number of entries per final state.

    Raises:
        ConfigError: if stills, checkpoint, matting or settings are invalid, or differ from those of an earlier run.
        StorageError: if the output refuses writes for too long.
    """
    manifest = read_manifest(config.manifest)
    checkpoint, settings = plan_build(config, manifest)
    run = RunConfig(config.address, config.workers, config.cpus_per_worker)
    entries = manifest.entries[: config.limit]
    with locked(config.output):
        _agree(config, settings)
        stills = gather_stills(manifest, entries, config.stills, config.output / STILLS, config.allow_host)
        jobs = [_job(config, manifest, entry, stills, checkpoint, settings) for entry in entries]
        ledger = Ledger(config.output / LEDGER_FILE, run.limits.patience_s)
        todo = _unfinished(config, jobs, ledger)
        if todo:
            load_matting(config.matting, settings.framing.background)  # fails or downloads before GPUs are paid for
            _work(config, run, todo, len(jobs), ledger)
        shutil.rmtree(config.output / WORK, ignore_errors=True)
        write_contact_sheet(config.output / SHEET_FILE, manifest, config.output / VIDEOS, stills)
    counts = dict(count(ledger.outcomes[entry.id] for entry in entries))
    log.info("%s: %s", config.output, ", ".join(f"{n} {state}" for state, n in sorted(counts.items())))
    return counts


def plan_build(config: BuildConfig, manifest: Manifest) -> tuple[Checkpoint, BuildSettings]:
    """Find and hash the checkpoint, and collect everything that the videos depend on.

    Raises:
        ConfigError: if the checkpoint cannot be found, or the settings do not fit it.
    """
    model = config.model or manifest.default_model
    named = manifest.models.get(model)
    if config.settings is not None and config.settings not in manifest.models:
        names = ", ".join(sorted(manifest.models))
        raise ConfigError(f"settings {config.settings!r}: must be one of the manifest's models ({names})")
    source = named.checkpoint if named is not None else model
    folder = find_checkpoint(source, config.revision, config.offline)
    log.info("%s: hashing the checkpoint's files for its fingerprint", folder)
    checkpoint = read_checkpoint(folder)
    generator = manifest.models[config.settings] if config.settings else named or _fitting(manifest, checkpoint)
    changes: dict[str, Any] = {name: getattr(config, name) for name in ("size", "steps", "num_frames")}
    generator = replace(generator, **{name: value for name, value in changes.items() if value is not None})
    if generator.num_frames < manifest.framing.frames:
        raise ConfigError(
            f"num_frames is {generator.num_frames}: must be at least the manifest's {manifest.framing.frames}"
        )
    check_settings(checkpoint, generator)
    matting, matting_sha256 = matting_identity(config.matting)
    label = Path(source).name if Path(source).is_dir() else source
    return checkpoint, BuildSettings(
        label, checkpoint.sha256, generator, manifest.framing, config.dtype, matting, matting_sha256
    )


def _fitting(manifest: Manifest, checkpoint: Checkpoint) -> Generator:
    for generator in manifest.models.values():
        if len(generator.guidance) == checkpoint.experts:
            return generator
    raise ConfigError(
        f"{checkpoint.folder}: the manifest has no settings for a checkpoint with {checkpoint.experts} expert(s)"
    )


def _agree(config: BuildConfig, settings: BuildSettings) -> None:
    """Write the plan, or check that it is the one that the first run wrote."""
    manifest = config.manifest.read_bytes()
    expected = settings.to_json()
    path, copy = config.output / PLAN_FILE, config.output / MANIFEST_FILE
    if not path.exists():
        write_bytes(copy, manifest)
        write_json(path, {"version": PLAN.version, "settings": expected})
        return
    stored = json.loads(path.read_bytes())
    PLAN.check(stored, path)
    if different := differences(stored["settings"], expected):
        raise ConfigError(
            f"{config.output}: was started with different settings ({'; '.join(different)}): use a new --output"
        )
    if not copy.exists() or copy.read_bytes() != manifest:
        raise ConfigError(f"{config.output}: started with another manifest than {config.manifest}: use a new --output")


def _job(
    config: BuildConfig,
    manifest: Manifest,
    entry: Entry,
    stills: Path,
    checkpoint: Checkpoint,
    settings: BuildSettings,
) -> EntryJob:
    # Workers have other working directories, so every path is made absolute.
    kind, colon, file = config.matting.partition(":")
    return EntryJob(
        entry,
        full_prompt(manifest, entry),
        full_negative_prompt(manifest, entry),
        (stills / entry.still).resolve(),
        (config.output / VIDEOS / entry.id).resolve(),
        (config.output / WORK).resolve(),
        settings,
        replace(checkpoint, folder=checkpoint.folder.resolve()),
        f"{kind}:{Path(file).resolve()}" if colon else kind,
        config.offload,
    )


def _unfinished(config: BuildConfig, jobs: Sequence[EntryJob], ledger: Ledger) -> list[EntryJob]:
    """Return the jobs left to do. Finished ones that the ledger lacks are added to it."""
    todo = []
    for job in jobs:
        name = job.entry.id
        known = ledger.outcomes.get(name)
        if _is_whole(job):
            if known is None or known.state is not AssetState.DONE:
                # The run was killed after the folder's rename and before the ledger's line.
                ledger.append(Outcome(name, AssetState.DONE, keys=(name,)))
        elif known is None or known.state is AssetState.DONE or config.retry_failed:
            todo.append(job)
    return todo


def _is_whole(job: EntryJob) -> bool:
    try:
        entry = read_entry(job.folder)
    except NewerError:
        raise
    except FormatError as error:
        log.warning("%s: rebuilding it", error)
        return False
    if entry is None:
        return False
    if entry["settings_sha256"] != job.sha256():
        raise ConfigError(f"{job.folder}: built with different settings: remove it or use a new --output")
    if wrong := wrong_files(job.folder, entry):
        log.warning("%s: rebuilding it, because %s is %s", job.folder, *wrong[0])
    return not wrong


def _work(config: BuildConfig, run: RunConfig, todo: Sequence[EntryJob], total: int, ledger: Ledger) -> None:
    with Cluster(run) as cluster, Display(total, total - len(todo), "videos") as display:
        news = run_tasks(cluster, build_tasks(cluster, run, config.gpus_per_worker), todo)
        for _ in follow(news, ledger, display):
            pass

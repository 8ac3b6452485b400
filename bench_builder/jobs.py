"""The two steps of an entry: generate a video, then finish it. Independent of Ray.

They are separate because the first needs a GPU and the second, matting on CPUs, takes long enough to leave one idle.
In between, the video is in the work folder, so that a run that is killed there does not generate it again.
"""

from __future__ import annotations

import errno
import functools
import logging
import os
import platform
import sys
import time
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from helix4d import __version__
from helix4d.bench_builder.entry import read_entry, write_entry
from helix4d.bench_builder.frames import Pixels, choose_frames, crop_frames, pad_still, shared_square
from helix4d.bench_builder.manifest import Entry, Framing, Generator
from helix4d.bench_builder.matting import load_matting, make_masks
from helix4d.bench_builder.measures import measure
from helix4d.bench_builder.wan import Checkpoint, DType, VideoModel
from helix4d.core import AssetState, ConfigError, FormatError, ReasonCode, atomic_writer, insist, sha256_json
from helix4d.curation.shards.ledger import Outcome
from helix4d.curation.work.jobs import Report
from helix4d.model.conditioning.video_input import Matting

log = logging.getLogger("helix4d.bench")

_PACKAGES = ("av", "diffusers", "numpy", "onnxruntime", "pillow", "rembg", "torch", "transformers")


@dataclass(frozen=True)
class BuildSettings:
    """Everything that the videos of a build depend on, besides their entries, package versions and the device."""

    model: str
    """Name of the checkpoint, for display only."""
    model_sha256: str
    generator: Generator
    framing: Framing
    dtype: DType
    matting: str
    matting_sha256: str | None

    def to_json(self) -> dict[str, Any]:
        """Return the values as JSON."""
        values = asdict(self)
        for name in ("checkpoint", "published"):
            del values["generator"][name]
        return values


@dataclass(frozen=True)
class EntryJob:
    """One video to generate.

    Attributes:
        entry: entry of the manifest.
        prompt: full prompt.
        negative_prompt: full negative prompt.
        still: path of the still.
        folder: folder to write the finished entry to.
        work: folder for unfinished files; names that begin with the entry's id belong to this job.
        settings: settings of the build.
        checkpoint: checkpoint of the video model.
        matting: name of the matting, as `load_matting` takes it.
        offload: whether to keep networks in main memory except while they are used.
    """

    entry: Entry
    prompt: str
    negative_prompt: str
    still: Path
    folder: Path
    work: Path
    settings: BuildSettings
    checkpoint: Checkpoint
    matting: str
    offload: bool = True

    @property
    def name(self) -> str:
        """Name in the ledger."""
        return self.entry.id

    @property
    def target(self) -> Path:
        """The file that generating it writes."""
        return self.video

    def facts(self) -> dict[str, Any]:
        """Everything that the result depends on, as JSON."""
        return {
            "id": self.entry.id,
            "category": self.entry.category,
            "still": {"name": self.entry.still, "sha256": self.entry.sha256},
            "prompt": self.prompt,
            "negative_prompt": self.negative_prompt,
            "seed": self.entry.seed,
            "settings": self.settings.to_json(),
        }

    def sha256(self) -> str:
        """Hash of `facts`."""
        return sha256_json(self.facts())

    @property
    def video(self) -> Path:
        """Path of the generated video until the entry is finished."""
        return self.work / f"{self.entry.id}.{self.sha256()[:16]}.npz"


@dataclass(frozen=True)
class FinishJob:
    """A generated video to finish.

    Attributes:
        entry_job: job that generated it.
        generate_s: seconds that generating it took, for the ledger.
    """

    entry_job: EntryJob
    generate_s: float

    @property
    def name(self) -> str:
        """Name in the ledger."""
        return self.entry_job.name

    @property
    def target(self) -> Path:
        """The folder that finishing it writes."""
        return self.entry_job.folder


def generate_video(job: EntryJob, report: Report, device: str, patience_s: float = 0.0) -> Outcome | FinishJob:
    """Write the job's video unless it exists.

    Args:
        job: entry to generate.
        report: shows the progress.
        device: "cpu" or "cuda".
        patience_s: seconds to wait for a disk that refuses the video.

    Returns:
        The job that finishes it, or the outcome if the video is unusable.

    Raises:
        ConfigError: if no entry can be made with these settings.
        StorageError: if the disk refuses the video.
    """
    start = time.perf_counter()
    if job.video.exists():
        return FinishJob(job, 0.0)
    report("loading the model")
    model = _video_model(job.checkpoint, job.settings.generator, job.settings.dtype, device, job.offload)
    try:
        video = model.generate(
            padded_still(job),
            job.prompt,
            job.negative_prompt,
            job.entry.seed,
            lambda step, steps: report(f"generating, step {step}/{steps}"),
        )
    except FormatError as error:
        return _failed(job, ReasonCode.UNUSABLE_VIDEO, "generate", error)
    except (torch.OutOfMemoryError, MemoryError) as error:
        return _failed(job, ReasonCode.OUT_OF_MEMORY, "generate", error)
    frames = video[choose_frames(len(video), job.settings.framing.frames)]
    device_name = torch.cuda.get_device_name() if device == "cuda" else f"CPU ({platform.machine()})"
    # Waited for here, where the video is still in memory: generating it again takes much longer.
    insist(lambda: _save_video(job.video, frames, device_name), job.video, patience_s, tell=report)
    return FinishJob(job, time.perf_counter() - start)


def _save_video(path: Path, frames: Pixels, device_name: str) -> None:
    with atomic_writer(path) as stream:
        np.savez(stream, frames=frames, device=np.array(device_name))


def _load_video(path: Path) -> tuple[Pixels, str]:
    """Frames, and the name of the device that generated them."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            return stored["frames"], str(stored["device"])
    except FileNotFoundError as error:
        # A network file system may show another node's files only after a minute.
        raise OSError(errno.ESTALE, f"{path}: missing, or not visible on this node yet") from error


def finish_entry(finish: FinishJob, report: Report) -> Outcome:
    """Remove the background of a generated video and write the entry's folder.

    Raises:
        OSError: if storage refuses the folder, or does not show the video yet.
    """
    job, start = finish.entry_job, time.perf_counter()
    if (outcome := _finished_before(finish)) is not None:
        return outcome
    report("removing the background")
    video, device = _load_video(job.video)
    framing, generator = job.settings.framing, job.settings.generator
    masks = make_masks(video, _matting(job.matting, framing.background))
    try:
        _check_first_frame(masks)
        square = shared_square(masks)
    except FormatError as error:
        return _failed(job, ReasonCode.UNUSABLE_VIDEO, "matte", error)
    frames = crop_frames(np.concatenate([video, masks[..., None]], axis=3), square, generator.size)
    facts = {
        **job.facts(),
        "settings_sha256": job.sha256(),
        "frames": len(frames),
        "source_frames": choose_frames(generator.num_frames, framing.frames),
        "size": generator.size,
        "square": list(square),
        "measures": measure(frames, np.asarray(padded_still(job)), square, framing.background).to_json(),
        "device": device,
        "tools": tool_versions(),
    }
    fps = generator.fps / _stride(generator.num_frames, framing.frames)
    write_entry(job.folder, frames, fps, facts, job.work / job.entry.id)
    job.video.unlink()
    return _done(finish, time.perf_counter() - start)


def _finished_before(finish: FinishJob) -> Outcome | None:
    """Return the outcome if an earlier attempt wrote the entry and lost its worker before it could report that."""
    job = finish.entry_job
    if job.video.exists():
        return None
    entry = read_entry(job.folder)
    return _done(finish, 0.0) if entry is not None and entry["settings_sha256"] == job.sha256() else None


def _done(finish: FinishJob, finish_s: float) -> Outcome:
    seconds = {"generate": round(finish.generate_s, 3), "finish": round(finish_s, 3)}
    return Outcome(finish.name, AssetState.DONE, keys=(finish.name,), timings_s=seconds)


def padded_still(job: EntryJob) -> Image.Image:
    """Return the still as the model sees it, on a square background."""
    framing = job.settings.framing
    with Image.open(job.still) as still:
        return pad_still(still, job.settings.generator.size, framing.fill, framing.background)


def tool_versions() -> dict[str, str]:
    """Versions of everything that can change a byte of an entry."""
    versions = {"helix4d": __version__, "python": ".".join(map(str, sys.version_info[:3]))}
    for name in _PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


def _check_first_frame(masks: Pixels) -> None:
    """Refuse an empty first frame, because methods build everything from it."""
    if masks[0].max() <= 127:
        raise FormatError("matting removed everything from the first frame: try another --matting")


def _stride(generated: int, kept: int) -> int:
    chosen = choose_frames(generated, kept)
    return chosen[1] if kept > 1 else 1


def _failed(job: EntryJob, reason: ReasonCode, stage: str, error: BaseException) -> Outcome:
    return Outcome(job.entry.id, AssetState.FAILED, reason, stage=stage, message=str(error))


@functools.cache
def _video_model(checkpoint: Checkpoint, settings: Generator, dtype: DType, device: str, offload: bool) -> VideoModel:
    # Must be set before the first matrix product: without it, results on a GPU may differ between runs.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True, warn_only=True)
    if device == "cuda" and not torch.cuda.is_available():
        raise ConfigError(f"--gpus-per-worker asks for a GPU, but torch {torch.__version__} finds none")
    return VideoModel(checkpoint, settings, dtype, device, offload)


@functools.cache
def _matting(name: str, background: tuple[int, ...]) -> Matting:
    return load_matting(name, background)

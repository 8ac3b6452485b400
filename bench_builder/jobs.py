"""What workers are told, and the two things that they do: generate a video, and make an entry of it.

They are apart because the first needs a GPU, and the second, which mattes on CPUs, takes long enough to let one idle.
Between them the video lies in the work folder, so a run that is killed there does not generate it again. Knows nothing
of Ray.
"""

from __future__ import annotations

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
from helix4d.bench_builder.entry import write_entry
from helix4d.bench_builder.frames import Pixels, choose_frames, crop_frames, pad_still, shared_square
from helix4d.bench_builder.manifest import Entry, Framing, Generator
from helix4d.bench_builder.matting import load_matting, make_masks
from helix4d.bench_builder.measures import measure
from helix4d.bench_builder.wan import Checkpoint, DType, Progress, VideoModel
from helix4d.core import AssetState, ConfigError, FormatError, ReasonCode, atomic_writer, sha256_json
from helix4d.curation.shards.ledger import Outcome
from helix4d.model.conditioning.video_input import Matting

log = logging.getLogger("helix4d.bench")

_PACKAGES = ("av", "diffusers", "numpy", "onnxruntime", "pillow", "rembg", "torch", "transformers")


@dataclass(frozen=True)
class BuildSettings:
    """What every video of a build depends on, besides its entry, the package versions and the device."""

    model: str
    """What people call the checkpoint."""
    model_sha256: str
    generator: Generator
    framing: Framing
    dtype: DType
    matting: str
    matting_sha256: str | None

    def to_json(self) -> dict[str, Any]:
        """The values as JSON."""
        values = asdict(self)
        for name in ("checkpoint", "published"):
            del values["generator"][name]
        return values


@dataclass(frozen=True)
class EntryJob:
    """One video.

    Attributes:
        entry: of the manifest.
        prompt: in full.
        negative_prompt: in full.
        still: the file.
        folder: where the result goes.
        work: a folder for what is not finished; nobody else uses names that begin with the entry's id.
        settings: of the build.
        checkpoint: the files of the video model.
        matting: what `load_matting` takes.
        offload: keep networks in main memory except while they are used.
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

    def facts(self) -> dict[str, Any]:
        """What the result depends on, as JSON."""
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
        """Where the generated video lies until it is an entry."""
        return self.work / f"{self.entry.id}.{self.sha256()[:16]}.npz"


def generate_video(job: EntryJob, device: str, progress: Progress | None = None) -> Outcome | float:
    """Write the job's video, unless it is there; seconds that it took, or how the entry failed.

    Raises:
        ConfigError: if no entry could be made with these settings.
    """
    start = time.perf_counter()
    if job.video.exists():
        return 0.0
    model = _video_model(job.checkpoint, job.settings.generator, job.settings.dtype, device, job.offload)
    try:
        video = model.generate(padded_still(job), job.prompt, job.negative_prompt, job.entry.seed, progress)
    except FormatError as error:
        return _failed(job, ReasonCode.UNUSABLE_VIDEO, "generate", error)
    except (torch.OutOfMemoryError, MemoryError) as error:
        return _failed(job, ReasonCode.OUT_OF_MEMORY, "generate", error)
    kept = video[choose_frames(len(video), job.settings.framing.frames)]
    name = torch.cuda.get_device_name() if device == "cuda" else f"CPU ({platform.machine()})"
    with atomic_writer(job.video) as stream:
        np.savez(stream, frames=kept, device=np.array(name))
    return time.perf_counter() - start


def finish_entry(job: EntryJob, generate_s: float, matting: Matting | None = None) -> Outcome:
    """The job's video without its background, in its folder.

    Args:
        job: whose video has been generated.
        generate_s: seconds that that took, for the ledger.
        matting: instead of the one that the job names.
    """
    start = time.perf_counter()
    with np.load(job.video, allow_pickle=False) as stored:
        video, device = stored["frames"], str(stored["device"])
    framing, generator = job.settings.framing, job.settings.generator
    masks = make_masks(video, matting or _matting(job.matting, framing.background))
    try:
        _check_first(masks)
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
    seconds = {"generate": round(generate_s, 3), "finish": round(time.perf_counter() - start, 3)}
    return Outcome(job.entry.id, AssetState.DONE, keys=(job.entry.id,), timings_s=seconds)


def padded_still(job: EntryJob) -> Image.Image:
    """The still as the model sees it."""
    framing = job.settings.framing
    with Image.open(job.still) as still:
        return pad_still(still, job.settings.generator.size, framing.fill, framing.background)


def tool_versions() -> dict[str, str]:
    """Versions of everything that can change a byte of an entry."""
    found = {"helix4d": __version__, "python": ".".join(map(str, sys.version_info[:3]))}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _check_first(masks: Pixels) -> None:
    """Everything downstream is built from the first frame."""
    if masks[0].max() <= 127:
        raise FormatError("nothing of the first frame is left without its background: try another --matting")


def _stride(generated: int, kept: int) -> int:
    chosen = choose_frames(generated, kept)
    return chosen[1] if kept > 1 else 1


def _failed(job: EntryJob, reason: ReasonCode, stage: str, error: BaseException) -> Outcome:
    return Outcome(job.entry.id, AssetState.FAILED, reason, stage=stage, message=str(error))


@functools.cache
def _video_model(checkpoint: Checkpoint, settings: Generator, dtype: DType, device: str, offload: bool) -> VideoModel:
    # Asked for before the first product of matrices; without it, sums on a GPU may differ from run to run.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True, warn_only=True)
    if device == "cuda" and not torch.cuda.is_available():
        raise ConfigError(f"a GPU was asked for, but torch {torch.__version__} finds none")
    return VideoModel(checkpoint, settings, dtype, device, offload)


@functools.cache
def _matting(name: str, background: tuple[int, ...]) -> Matting:
    return load_matting(name, background)

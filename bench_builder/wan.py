"""Wan2.2 image-to-video through diffusers: a padded still and its prompts become frames.

Works with any folder in the layout of Wan's published checkpoints, with two experts (A14B) or one network (TI2V-5B).
Settings that change the video are always taken from the manifest, never from the checkpoint or the defaults of
diffusers: guidance of each expert, the boundary between them, flow_shift, steps and size.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image

from helix4d.bench_builder.frames import Pixels
from helix4d.bench_builder.manifest import Generator
from helix4d.core import ConfigError, FormatError, sha256_file, sha256_json
from helix4d.core.extras import missing_package

DType = Literal["bfloat16", "float32"]
Progress = Callable[[int, int], None]
"""Called with the number of finished steps and the total."""

INDEX = "model_index.json"
_READ = ("*.json", "*.safetensors", "*.model", "*.txt")
_LIBRARIES = {"diffusers", "transformers"}
_PIPELINES = {"WanImageToVideoPipeline", "WanPipeline"}
_MAX_TOKENS = 512
_HASH_THREADS = 4


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint in the layout of diffusers.

    Attributes:
        folder: folder with its model_index.json.
        experts: 2 if two networks share the denoising steps, else 1.
        sha256: hash of every file that is read.
    """

    folder: Path
    experts: int
    sha256: str


def find_checkpoint(model: str, revision: str | None = None, offline: bool = False) -> Path:
    """Return the local folder of a checkpoint; a hub repository is downloaded.

    Raises:
        ConfigError: if it is neither a folder nor a repository, or the download fails.
    """
    if Path(model).is_dir():
        return Path(model)
    if model.count("/") != 1 or model.startswith(("/", ".")):
        raise ConfigError(f"model {model!r}: must be one of the manifest, a folder or a hub repository (owner/name)")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    patterns = [INDEX, *(f"*/{kind}" for kind in _READ)]
    try:
        folder = snapshot_download(model, revision=revision, allow_patterns=patterns, local_files_only=offline)
    except (OSError, HfHubHTTPError, LocalEntryNotFoundError) as error:
        raise ConfigError(f"cannot download the hub repository {model}: {error}") from error
    return Path(folder)


def read_checkpoint(folder: Path) -> Checkpoint:
    """Inspect and hash a checkpoint without loading it. Takes minutes for the published ones.

    Raises:
        ConfigError: if it is not a Wan checkpoint, would run its own code, or has weights other than safetensors.
    """
    components = _components(folder)
    files = [folder / INDEX]
    for name in components:
        component_files = sorted(path for pattern in _READ for path in (folder / name).glob(pattern))
        if not component_files:
            raise ConfigError(f"{folder}: {INDEX} lists {name}, but {name}/ has no files: is the download complete?")
        if list((folder / name).glob("*.bin")) and not list((folder / name).glob("*.safetensors")):
            raise ConfigError(f"{folder / name}: has .bin weights only, which can run code; use .safetensors")
        files += component_files
    with ThreadPoolExecutor(_HASH_THREADS) as pool:
        hashes = dict(zip((f.relative_to(folder).as_posix() for f in files), pool.map(sha256_file, files), strict=True))
    return Checkpoint(folder, 2 if "transformer_2" in components else 1, sha256_json(hashes))


def _components(folder: Path) -> list[str]:
    path = folder / INDEX
    try:
        index = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: cannot be read ({error}): is the checkpoint in diffusers layout?") from error
    name = index.get("_class_name") if isinstance(index, dict) else None
    if name not in _PIPELINES:
        raise ConfigError(f"{path}: has the pipeline {name!r}, must be one of {', '.join(sorted(_PIPELINES))}")
    components = {key: value for key, value in index.items() if isinstance(value, list) and value[:1] != [None]}
    for key, (library, *_) in components.items():
        if library not in _LIBRARIES:
            raise ConfigError(f"{path}: {key} comes from {library!r}: a checkpoint must not bring its own code")
    if missing := {"tokenizer", "text_encoder", "vae", "scheduler", "transformer"} - components.keys():
        raise ConfigError(f"{path}: lacks {', '.join(sorted(missing))}")
    return sorted(components)


class VideoModel:
    """A loaded checkpoint.

    Args:
        checkpoint: checkpoint to load.
        settings: settings of the generation.
        dtype: data type of the networks; the VAE stays float32, as in Wan's own code.
        device: "cpu" or "cuda".
        offload: whether to keep networks in main memory except while they are used; ignored on a CPU.

    Raises:
        ConfigError: if the settings do not fit the checkpoint, or it cannot be loaded.
    """

    def __init__(
        self, checkpoint: Checkpoint, settings: Generator, dtype: DType, device: str, offload: bool = True
    ) -> None:
        check_settings(checkpoint, settings)
        try:
            from diffusers import WanImageToVideoPipeline
            from diffusers.utils import logging as diffusers_logging
        except ImportError as error:
            raise missing_package("animating stills with Wan2.2", "diffusers", extras="bench") from error
        diffusers_logging.disable_progress_bar()
        dtypes = {"default": getattr(torch, dtype), "vae": torch.float32}
        try:
            self._pipeline: Any = WanImageToVideoPipeline.from_pretrained(
                checkpoint.folder, dtype=dtypes, use_safetensors=True, local_files_only=True
            )
        except (OSError, ValueError, RuntimeError) as error:
            raise ConfigError(f"{checkpoint.folder}: cannot be loaded: {error}") from error
        self._settings = settings
        self._pipeline.set_progress_bar_config(disable=True)
        self._pipeline.register_to_config(boundary_ratio=settings.boundary_ratio)
        self._check_strides()
        if device == "cuda" and offload:
            self._pipeline.enable_model_cpu_offload()
        else:
            self._pipeline.to(device)

    def generate(
        self, still: Image.Image, prompt: str, negative_prompt: str, seed: int, progress: Progress | None = None
    ) -> Pixels:
        """Generate a video, (num_frames, size, size, 3). Deterministic, and independent of earlier calls.

        Raises:
            ConfigError: if the still has another size, or a prompt is longer than the model can read.
            FormatError: if the frames are not finite.
        """
        settings, pipeline = self._settings, self._pipeline
        if still.size != (settings.size, settings.size) or still.mode != "RGB":
            raise ConfigError(f"the padded still is {still.mode} {still.size}: must be RGB at {settings.size}")
        for text in (prompt, negative_prompt):
            if (tokens := len(pipeline.tokenizer(text).input_ids)) > _MAX_TOKENS:
                raise ConfigError(f"the prompt has {tokens} tokens, more than {_MAX_TOKENS}: shorten it: {text}")
        # A scheduler keeps state from its last video, so each video gets a new one.
        pipeline.scheduler = with_flow_shift(pipeline.scheduler, settings.flow_shift)

        def report(_: Any, step: int, __: Any, values: dict[str, Any]) -> dict[str, Any]:
            if progress is not None:
                progress(step + 1, settings.steps)
            return values

        low, high = settings.guidance[0], settings.guidance[-1]
        video = pipeline(
            image=still,
            prompt=prompt,
            negative_prompt=negative_prompt,
            height=settings.size,
            width=settings.size,
            num_frames=settings.num_frames,
            num_inference_steps=settings.steps,
            guidance_scale=high,
            guidance_scale_2=None if settings.boundary_ratio is None else low,
            # On the CPU, so that every device gets the same noise.
            generator=torch.Generator("cpu").manual_seed(seed),
            max_sequence_length=_MAX_TOKENS,
            output_type="pt",
            callback_on_step_end=report,
        ).frames[0]
        return _to_pixels(video, (settings.num_frames, 3, settings.size, settings.size))

    def _check_strides(self) -> None:
        """Refuse sizes that the pipeline would silently round."""
        pipeline, settings = self._pipeline, self._settings
        multiple = pipeline.vae_scale_factor_spatial * pipeline.transformer.config.patch_size[1]
        if settings.size % multiple:
            raise ConfigError(f"size is {settings.size}: must be a multiple of {multiple} for this checkpoint")
        if settings.num_frames % pipeline.vae_scale_factor_temporal != 1:
            stride = pipeline.vae_scale_factor_temporal
            raise ConfigError(f"num_frames is {settings.num_frames}: must be {stride}k + 1 for this checkpoint")


def check_settings(checkpoint: Checkpoint, settings: Generator) -> None:
    """Refuse settings for two experts with a checkpoint of one, and vice versa.

    Raises:
        ConfigError: if their numbers of experts differ.
    """
    expected = 1 if settings.boundary_ratio is None else 2
    if expected != checkpoint.experts:
        raise ConfigError(
            f"{checkpoint.folder}: has {checkpoint.experts} expert(s), but the settings are for {expected}: "
            "choose others with --settings"
        )


def with_flow_shift(scheduler: Any, flow_shift: float) -> Any:
    """A new scheduler with the same configuration except for `flow_shift`.

    Raises:
        ConfigError: if the scheduler has no such setting and would silently ignore it.
    """
    for name in ("flow_shift", "shift"):
        if name in scheduler.config:
            return type(scheduler).from_config(scheduler.config, **{name: flow_shift})
    raise ConfigError(f"the checkpoint's scheduler {type(scheduler).__name__} does not support flow_shift")


def _to_pixels(video: torch.Tensor, shape: tuple[int, ...]) -> Pixels:
    """Convert (T, 3, H, W) in [0, 1] to uint8 (T, H, W, 3)."""
    if tuple(video.shape) != shape:
        raise FormatError(f"the model returned frames of shape {tuple(video.shape)}, expected {shape}")
    values = video.float().cpu().permute(0, 2, 3, 1)
    if not bool(torch.isfinite(values).all()):
        raise FormatError("the generated frames contain values that are not finite: try --dtype float32")
    return np.ascontiguousarray((values.clamp(0, 1) * 255).round().to(torch.uint8).numpy())

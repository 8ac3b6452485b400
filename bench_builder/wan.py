"""One padded still and its words become frames, by Wan2.2 image-to-video through diffusers.

Any folder in the layout of Wan's published checkpoints works: two experts that take turns (A14B) or one network
(TI2V-5B). Everything that diffusers would take from the checkpoint or from its own defaults, though it changes the
video, is set here from the manifest: guidance of each expert, the boundary between them, flow_shift, steps, size.
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

DType = Literal["bfloat16", "float32"]
Progress = Callable[[int, int], None]
"""Told steps done and steps in all."""

INDEX = "model_index.json"
_READ = ("*.json", "*.safetensors", "*.model", "*.txt")
_LIBRARIES = {"diffusers", "transformers"}
_PIPELINES = {"WanImageToVideoPipeline", "WanPipeline"}
_MAX_TOKENS = 512
_HASH_THREADS = 4


@dataclass(frozen=True)
class Checkpoint:
    """A folder in diffusers' layout.

    Attributes:
        folder: with model_index.json in it.
        experts: 2 where two networks take turns, else 1.
        sha256: over every file that is read.
    """

    folder: Path
    experts: int
    sha256: str


def find_checkpoint(model: str, revision: str | None = None, offline: bool = False) -> Path:
    """The local folder of a checkpoint: a folder is its own, a hub repository is fetched.

    Raises:
        ConfigError: if it is neither, or cannot be fetched.
    """
    if Path(model).is_dir():
        return Path(model)
    if model.count("/") != 1 or model.startswith(("/", ".")):
        raise ConfigError(f"model {model!r}: no name in the manifest, no folder, and no hub repository (owner/name)")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    patterns = [INDEX, *(f"*/{kind}" for kind in _READ)]
    try:
        folder = snapshot_download(model, revision=revision, allow_patterns=patterns, local_files_only=offline)
    except (OSError, HfHubHTTPError, LocalEntryNotFoundError) as error:
        raise ConfigError(f"the hub repository {model} cannot be fetched: {error}") from error
    return Path(folder)


def read_checkpoint(folder: Path) -> Checkpoint:
    """Look at a checkpoint without loading it; its files are hashed, which takes minutes for the published ones.

    Raises:
        ConfigError: if it is no checkpoint of Wan, would run code of its own, or its weights are not safetensors.
    """
    components = _components(folder)
    files = [folder / INDEX]
    for name in components:
        found = sorted(path for pattern in _READ for path in (folder / name).glob(pattern))
        if not found:
            raise ConfigError(f"{folder}: {INDEX} names {name}, but {name}/ has no files: is the download complete?")
        if list((folder / name).glob("*.bin")) and not list((folder / name).glob("*.safetensors")):
            raise ConfigError(f"{folder / name}: weights are read from .safetensors only, found .bin")
        files += found
    with ThreadPoolExecutor(_HASH_THREADS) as pool:
        hashes = dict(zip((f.relative_to(folder).as_posix() for f in files), pool.map(sha256_file, files), strict=True))
    return Checkpoint(folder, 2 if "transformer_2" in components else 1, sha256_json(hashes))


def _components(folder: Path) -> list[str]:
    path = folder / INDEX
    try:
        index = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} cannot be read ({error}): is this a checkpoint in diffusers' layout?") from error
    name = index.get("_class_name") if isinstance(index, dict) else None
    if name not in _PIPELINES:
        raise ConfigError(f"{path}: a pipeline {name!r}; one of {', '.join(sorted(_PIPELINES))} is needed")
    components = {key: value for key, value in index.items() if isinstance(value, list) and value[:1] != [None]}
    for key, (library, *_) in components.items():
        if library not in _LIBRARIES:
            raise ConfigError(f"{path}: {key} comes from {library!r}: a checkpoint must not bring code of its own")
    if missing := {"tokenizer", "text_encoder", "vae", "scheduler", "transformer"} - components.keys():
        raise ConfigError(f"{path}: names no {', '.join(sorted(missing))}")
    return sorted(components)


class VideoModel:
    """A loaded checkpoint.

    Args:
        checkpoint: where its files are.
        settings: how it is used.
        dtype: of the networks; the VAE stays float32, as Wan's own code has it.
        device: "cpu" or "cuda".
        offload: keep networks in main memory except while they are used; means nothing on a CPU.

    Raises:
        ConfigError: if the settings do not fit the checkpoint.
    """

    def __init__(
        self, checkpoint: Checkpoint, settings: Generator, dtype: DType, device: str, offload: bool = True
    ) -> None:
        check_settings(checkpoint, settings)
        try:
            from diffusers import WanImageToVideoPipeline
            from diffusers.utils import logging as diffusers_logging
        except ImportError as error:
            raise ConfigError(f"Wan2.2 needs the extra bench: pip install 'helix4d[bench]' ({error})") from error
        diffusers_logging.disable_progress_bar()
        dtypes = {"default": getattr(torch, dtype), "vae": torch.float32}
        try:
            self._pipeline: Any = WanImageToVideoPipeline.from_pretrained(
                checkpoint.folder, dtype=dtypes, use_safetensors=True, local_files_only=True
            )
        except (OSError, ValueError, RuntimeError) as error:
            raise ConfigError(f"{checkpoint.folder} cannot be loaded: {error}") from error
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
        """All generated frames, (num_frames, size, size, 3); the same for the same arguments, whatever came before.

        Raises:
            ConfigError: if the still has another size, or a prompt is longer than the model reads.
            FormatError: if what comes out is not finite.
        """
        settings, pipeline = self._settings, self._pipeline
        if still.size != (settings.size, settings.size) or still.mode != "RGB":
            raise ConfigError(f"the padded still is {still.mode} {still.size}, the model wants RGB at {settings.size}")
        for text in (prompt, negative_prompt):
            if (tokens := len(pipeline.tokenizer(text).input_ids)) > _MAX_TOKENS:
                raise ConfigError(f"{tokens} tokens, {_MAX_TOKENS} are read: shorten the prompt: {text}")
        # A scheduler remembers its last video.
        pipeline.scheduler = with_flow_shift(pipeline.scheduler, settings.flow_shift)

        def tell(_: Any, step: int, __: Any, values: dict[str, Any]) -> dict[str, Any]:
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
            # On the CPU, so that the noise is the same on every device.
            generator=torch.Generator("cpu").manual_seed(seed),
            max_sequence_length=_MAX_TOKENS,
            output_type="pt",
            callback_on_step_end=tell,
        ).frames[0]
        return _to_pixels(video, (settings.num_frames, 3, settings.size, settings.size))

    def _check_strides(self) -> None:
        """The pipeline would round what does not fit; we refuse."""
        pipeline, settings = self._pipeline, self._settings
        multiple = pipeline.vae_scale_factor_spatial * pipeline.transformer.config.patch_size[1]
        if settings.size % multiple:
            raise ConfigError(f"size is {settings.size}: this checkpoint needs a multiple of {multiple}")
        if settings.num_frames % pipeline.vae_scale_factor_temporal != 1:
            raise ConfigError(
                f"num_frames is {settings.num_frames}: this checkpoint needs {pipeline.vae_scale_factor_temporal}k + 1"
            )


def check_settings(checkpoint: Checkpoint, settings: Generator) -> None:
    """Refuse settings of two experts for a checkpoint of one, and the other way round."""
    wanted = 1 if settings.boundary_ratio is None else 2
    if wanted != checkpoint.experts:
        raise ConfigError(
            f"{checkpoint.folder}: {checkpoint.experts} expert(s), but the settings are those of {wanted}: "
            "choose others with --settings"
        )


def with_flow_shift(scheduler: Any, flow_shift: float) -> Any:
    """A new scheduler like this one, whose noise levels are shifted by `flow_shift`.

    Raises:
        ConfigError: if it knows no shift, as then the published value would silently be ignored.
    """
    for name in ("flow_shift", "shift"):
        if name in scheduler.config:
            return type(scheduler).from_config(scheduler.config, **{name: flow_shift})
    raise ConfigError(f"the checkpoint's scheduler {type(scheduler).__name__} knows no flow_shift")


def _to_pixels(video: torch.Tensor, shape: tuple[int, ...]) -> Pixels:
    """(T, 3, H, W) in [0, 1] to (T, H, W, 3)."""
    if tuple(video.shape) != shape:
        raise FormatError(f"the model gave frames of shape {tuple(video.shape)}, {shape} were asked for")
    values = video.float().cpu().permute(0, 2, 3, 1)
    if not bool(torch.isfinite(values).all()):
        raise FormatError("the model's frames hold values that are not finite: try --dtype float32")
    return np.ascontiguousarray((values.clamp(0, 1) * 255).round().to(torch.uint8).numpy())

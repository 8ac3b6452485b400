"""Evaluate a finished run: its samples of held-out clips against the ground truth, its loss, and seconds per step.

Frame 0 and the other stages' latents are ground truth, and samples and ground truth are decoded with the same decoder,
so the figures reflect only what this stage has learned. Frame 0 is never counted.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from helix4d.core import ConfigError, write_json
from helix4d.model.checkpoint.checkpoint import CheckpointSource, Pipeline
from helix4d.model.device import choose_device
from helix4d.train.checkpoint import list_checkpoints
from helix4d.train.config import Stage, TrainConfig
from helix4d.train.data.dataset import ClipReader, Latent
from helix4d.train.export import load_trained
from helix4d.train.latents.latents import SHAPE
from helix4d.train.metrics import read_metrics
from helix4d.train.network import load_image_encoder
from helix4d.train.samples.sampling import decode_meshes, decode_occupancy, sample_video, stage_sampler
from helix4d.train.study.distances import aligned_chamfer, chamfer

_DECODERS = {Stage.STRUCTURE: "sparse_structure_decoder", Stage.GEOMETRY: "shape_slat_decoder"}
_FILE = "held_out.json"
_VERSION = 2  # version of the file format


@dataclass(frozen=True)
class RunFigures:
    """Figures of one run.

    Attributes:
        aligned, in_place: chamfer distances, means over the frames after frame 0 of all clips, in units of the cube.
        loss: mean over the last tenth of the lines of metrics.jsonl.
        seconds_per_step: median over the lines of metrics.jsonl, without the time spent waiting for data.
        frames: number of frames over which the distances are averaged.
        empty: number of frames in which the ground truth has a surface but the sample has none.
    """

    aligned: float | None
    in_place: float | None
    loss: float
    seconds_per_step: float
    frames: int
    empty: int


class HeldOut:
    """Held-out clips on which runs are evaluated, and the decoder for them.

    Args:
        config: settings of any of the runs; as in previews, `run.preview_models` (or the network's checkpoint) provides
            the decoders and `run.preview_guidance` the guidance strength.
        split: split of the clips.
        clips: maximum number of clips, in order of key.

    Raises:
        ConfigError: if clips or decoders are missing, or the stage does not generate surfaces.
    """

    def __init__(self, config: TrainConfig, split: str, clips: int) -> None:
        if config.stage not in _DECODERS:
            raise ConfigError(
                f"{config.name}: the {config.stage} stage generates no surface: use a structure or geometry stage"
            )
        models = config.run.preview_models or config.network.checkpoint
        if models is None:
            raise ConfigError("the study requires decoders: set run.preview_models to their folder")
        try:
            self._reader = ClipReader(replace(config.data, split=split), config.stage)
        except ConfigError as error:
            raise ConfigError(f"{error}; choose another split for the held-out clips with --split") from error
        self._settings = {"split": split, "clips": clips, "models": models, "guidance": config.run.preview_guidance}
        self._numbers = range(min(clips, len(self._reader)))
        self._device = choose_device(config.run.device)
        name = _DECODERS[config.stage]
        source = CheckpointSource(models, offline=config.network.offline)
        decoder = Pipeline.from_pretrained(source, [name]).networks[name]
        self._decoder: Any = decoder.float().to(self._device).requires_grad_(False)

    @property
    def keys(self) -> list[str]:
        """Keys of the clips."""
        return [self._reader.entries[number].key for number in self._numbers]

    def measure(self, config: TrainConfig) -> RunFigures:
        """Return the figures of a finished run, cached next to its checkpoints while the settings do not change."""
        path = config.folder / _FILE
        settings = {
            "version": _VERSION,
            **self._settings,
            "keys": self.keys,
            "checkpoint": list_checkpoints(config.folder)[-1].name,
        }
        if path.exists() and (cached := json.loads(path.read_bytes()))["settings"] == settings:
            return RunFigures(**cached["figures"])
        figures = self._measure(config)
        write_json(path, {"settings": settings, "figures": asdict(figures)})
        return figures

    def _measure(self, config: TrainConfig) -> RunFigures:
        network = load_trained(config, self._device)
        encoder = load_image_encoder(config.network, self._device)
        sampler = stage_sampler(config.stage, config.run.preview_guidance)
        in_place, aligned, empty = [], [], 0
        for number in self._numbers:
            latent = self._reader.latent(number)
            with torch.no_grad():
                cond = encoder(self._reader.images(number, 0).to(self._device))
            sampled = sample_video(network, latent, cond, sampler, config.seed, config.network.first_frame)
            pairs = zip(self._points(latent, sampled), self._points(latent, latent.clean), strict=True)
            for sample, truth in list(pairs)[1:]:
                if len(sample) and len(truth):
                    in_place.append(chamfer(sample, truth))
                    aligned.append(aligned_chamfer(sample, truth))
                elif len(truth):
                    empty += 1
        return RunFigures(_mean(aligned), _mean(in_place), *_loss_and_time(config.folder), len(in_place), empty)

    def _points(self, latent: Latent, clean: Tensor) -> list[Tensor]:
        """Return points [P, 3] for each frame: dual vertices in stage 2, centers of occupied cells in stage 1."""
        clean = clean.to(self._device)
        if latent.coords is None:
            grids = decode_occupancy(self._decoder, clean).cpu()
            return [(grid.nonzero() + 0.5) / grid.shape[0] - 0.5 for grid in grids]
        shape = self._reader.statistics[SHAPE].denormalize(clean)
        resolution = self._reader.token_grid * 2 ** (len(self._decoder.config.model_channels) - 1)
        meshes = decode_meshes(self._decoder, shape, latent.coords, latent.lengths, resolution)
        return [torch.from_numpy(mesh.vertices) for mesh in meshes]


def _loss_and_time(run: Path) -> tuple[float, float]:
    """Return loss and seconds per step from metrics.jsonl; the first line's time includes warm-up and is ignored."""
    lines = read_metrics(run)
    last = [line["loss"] for line in lines[-max(len(lines) // 10, 1) :]]
    seconds = sorted(line["seconds_per_step"] * (1 - line["data_wait"]) for line in lines[1:] or lines)
    return sum(last) / len(last), seconds[len(seconds) // 2]


def _mean(values: list[float]) -> float | None:
    return sum(values) / len(values) if values else None

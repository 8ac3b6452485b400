"""A finished run's figures: its samples of held-out clips against the truth, its loss, its seconds a step.

Frame 0 and every other stage's part are the truth, and both sides go through the same decoder, so a figure shows what
this stage learned and nothing else. Frame 0 does not count, in any run.
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
from helix4d.model.sampling.sampler import SHAPE_SAMPLER, STRUCTURE_SAMPLER
from helix4d.train.checkpoint import list_checkpoints
from helix4d.train.config import Stage, TrainConfig
from helix4d.train.data.dataset import ClipReader, Latent
from helix4d.train.export import load_trained
from helix4d.train.latents.latents import SHAPE
from helix4d.train.metrics import read_metrics
from helix4d.train.network import load_image_encoder
from helix4d.train.samples.sampling import decode_meshes, decode_occupancy, sample_video
from helix4d.train.study.distances import aligned_chamfer, chamfer

_DECODERS = {Stage.STRUCTURE: "sparse_structure_decoder", Stage.GEOMETRY: "shape_slat_decoder"}
_SAMPLERS = {Stage.STRUCTURE: STRUCTURE_SAMPLER, Stage.GEOMETRY: SHAPE_SAMPLER}
_FILE = "held_out.json"


@dataclass(frozen=True)
class RunFigures:
    """What one run came to.

    Attributes:
        cd_3d, cd_4d: means over the frames after frame 0 of all clips, in units of the cube.
        loss: the mean of the last tenth of the lines of metrics.jsonl.
        seconds_per_step: the median of those lines, without the time that was spent waiting for data.
        frames: how many frames the distances are means over.
        empty: frames where the truth has a surface and the sample has none; they have no distance.
    """

    cd_3d: float | None
    cd_4d: float | None
    loss: float
    seconds_per_step: float
    frames: int
    empty: int


class HeldOut:
    """The clips that runs are measured on, and what decodes them.

    Args:
        config: of any of the runs; `run.preview_models` (or the network's checkpoint) has the decoders and
            `run.preview_guidance` is the guidance, as in previews.
        split: which clips.
        clips: how many of them at most, in order of key.

    Raises:
        ConfigError: if there are no clips or decoders, or the stage has no surface of its own.
    """

    def __init__(self, config: TrainConfig, split: str, clips: int) -> None:
        if config.stage not in _DECODERS:
            raise ConfigError(f"{config.name}: the {config.stage} stage makes no surface: study structure or geometry")
        models = config.run.preview_models or config.network.checkpoint
        if models is None:
            raise ConfigError("the study needs decoders: name a folder in run.preview_models")
        try:
            self._reader = ClipReader(replace(config.data, split=split), config.stage)
        except ConfigError as error:
            raise ConfigError(f"{error}; held-out clips are those of --split, {split} now: name another") from error
        self._settings = {"split": split, "clips": clips, "models": models, "guidance": config.run.preview_guidance}
        self._numbers = range(min(clips, len(self._reader)))
        self._device = choose_device(config.run.device)
        name = _DECODERS[config.stage]
        source = CheckpointSource(models, offline=config.network.offline)
        decoder = Pipeline.from_pretrained(source, [name]).networks[name]
        self._decoder: Any = decoder.float().to(self._device).requires_grad_(False)

    @property
    def keys(self) -> list[str]:
        """Of the clips."""
        return [self._reader.entries[number].key for number in self._numbers]

    def measure(self, config: TrainConfig) -> RunFigures:
        """The figures of a finished run; kept beside its checkpoints and read again if nothing changed."""
        path = config.folder / _FILE
        settings = {**self._settings, "keys": self.keys, "checkpoint": list_checkpoints(config.folder)[-1].name}
        if path.exists() and (kept := json.loads(path.read_bytes()))["settings"] == settings:
            return RunFigures(**kept["figures"])
        figures = self._measure(config)
        write_json(path, {"settings": settings, "figures": asdict(figures)})
        return figures

    def _measure(self, config: TrainConfig) -> RunFigures:
        network = load_trained(config, self._device)
        encoder = load_image_encoder(config.network, self._device)
        sampler = replace(_SAMPLERS[config.stage], guidance=config.run.preview_guidance)
        in_place, aligned, empty = [], [], 0
        for number in self._numbers:
            latent = self._reader.latent(number)
            with torch.no_grad():
                cond = encoder(self._reader.images(number, 0).to(self._device))
            sampled = sample_video(network, latent, cond, sampler, config.seed, config.network.first_frame)
            pairs = zip(self._points(latent, sampled), self._points(latent, latent.clean), strict=True)
            for ours, truth in list(pairs)[1:]:
                if len(ours) and len(truth):
                    in_place.append(chamfer(ours, truth))
                    aligned.append(aligned_chamfer(ours, truth))
                elif len(truth):
                    empty += 1
        return RunFigures(_mean(aligned), _mean(in_place), *_told(config.folder), len(in_place), empty)

    def _points(self, latent: Latent, clean: Tensor) -> list[Tensor]:
        """[P, 3] a frame: dual vertices in stage 2, centers of occupied cells in stage 1."""
        clean = clean.to(self._device)
        if latent.coords is None:
            grids = decode_occupancy(self._decoder, clean).cpu()
            return [(grid.nonzero() + 0.5) / grid.shape[0] - 0.5 for grid in grids]
        shape = self._reader.statistics[SHAPE].denormalize(clean)
        resolution = self._reader.token_grid * 2 ** (len(self._decoder.config.model_channels) - 1)
        meshes = decode_meshes(self._decoder, shape, latent.coords, latent.lengths, resolution)
        return [torch.from_numpy(mesh.vertices) for mesh in meshes]


def _told(run: Path) -> tuple[float, float]:
    """Loss and seconds a step, as metrics.jsonl tells them. The first line holds the warming up: it has no say."""
    lines = read_metrics(run)
    last = [line["loss"] for line in lines[-max(len(lines) // 10, 1) :]]
    seconds = sorted(line["seconds_per_step"] * (1 - line["data_wait"]) for line in lines[1:] or lines)
    return sum(last) / len(last), seconds[len(seconds) // 2]


def _mean(values: list[float]) -> float | None:
    return sum(values) / len(values) if values else None

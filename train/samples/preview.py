"""Previews during training: animations of fixed clips sampled with the averaged weights, next to the ground truth.

The other stages' latents are ground truth, so a preview shows only what this stage has learned.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from helix4d.core import ConfigError, first_line
from helix4d.model.checkpoint.checkpoint import CheckpointSource, Pipeline
from helix4d.model.conditioning.images import ImageEncoder
from helix4d.model.latents.decode import decode_frame
from helix4d.model.networks.flow import FlowTransformer
from helix4d.train.config import Stage, TrainConfig
from helix4d.train.data.dataset import UNREADABLE, ClipReader, Latent
from helix4d.train.latents.latents import SHAPE, TEXTURE
from helix4d.train.samples.generate import ColoredMesh, animate, picture
from helix4d.train.samples.sampling import SampledMesh, decode_meshes, decode_occupancy, sample_video, stage_sampler

log = logging.getLogger("helix4d.train")

_DECODERS = {
    Stage.STRUCTURE: ("sparse_structure_decoder",),
    Stage.GEOMETRY: ("shape_slat_decoder",),
    Stage.MATERIAL: ("shape_slat_decoder", "tex_slat_decoder"),
}
_PIXELS = 192


class Previews:
    """Writes previews of the fixed clips of a run.

    Args:
        config: settings of the run.
        encoder: image encoder.
        device: device of the network.
        save: called with name and content of each preview.
        stop: returns whether the run was asked to stop; the remaining previews are then skipped.

    Raises:
        ConfigError: if decoders or clips are missing.
    """

    def __init__(
        self,
        config: TrainConfig,
        encoder: ImageEncoder,
        device: torch.device,
        save: Callable[[str, bytes], None],
        stop: Callable[[], bool],
    ) -> None:
        models = config.run.preview_models or config.network.checkpoint
        if models is None:
            raise ConfigError("run.preview_every requires decoders: set run.preview_models to their folder")
        source = CheckpointSource(models, offline=config.network.offline)
        self._config, self._encoder, self._device, self._save, self._stop = config, encoder, device, save, stop
        self._reader = ClipReader(replace(config.data, split=config.run.preview_split), config.stage)
        self._decoders = [
            network.float().to(device).requires_grad_(False)
            for network in Pipeline.from_pretrained(source, _DECODERS[config.stage]).networks.values()
        ]

    def write(
        self, step: int, network: FlowTransformer, trained: Mapping[str, nn.Parameter], average: Mapping[str, Tensor]
    ) -> None:
        """Sample the clips and write `previews/step_00000500/KEY.webp`: ground truth left, sample right.

        A clip that cannot be read, or does not fit into memory, has no preview.
        """
        with _averaged(trained, average):
            for number in range(min(self._config.run.preview_clips, len(self._reader))):
                if self._stop():
                    break
                key = self._reader.entries[number].key
                try:
                    picture = self._picture(network, number)
                except (*UNREADABLE, torch.OutOfMemoryError) as error:
                    log.warning("step %d: no preview of %s: %s: %s", step, key, type(error).__name__, first_line(error))
                else:
                    self._save(f"previews/step_{step:08d}/{key}.webp", picture)
        network.train()

    def _picture(self, network: FlowTransformer, number: int) -> bytes:
        latent = self._reader.latent(number)
        cond = self._encoder(self._reader.images(number, 0).to(self._device))
        sampler = stage_sampler(self._config.stage, self._config.run.preview_guidance)
        first = self._config.network.first_frame
        sampled = sample_video(network, latent, cond, sampler, self._config.seed, first)
        pairs = zip(self._show(latent, latent.clean), self._show(latent, sampled), strict=True)
        return animate([np.concatenate(pair, axis=1) for pair in pairs])

    @torch.no_grad()
    def _show(self, latent: Latent, clean: Tensor) -> list[np.ndarray]:
        """Render one image uint8 (P, P, 3) per frame."""
        clean = clean.to(self._device)
        if self._config.stage is Stage.STRUCTURE:
            return [silhouette(grid) for grid in decode_occupancy(self._decoders[0], clean)]  # type: ignore[arg-type]
        if latent.coords is None:
            raise ConfigError("sparse stages need latents with voxels")
        statistics, grid = self._reader.statistics, self._reader.token_grid
        if self._config.stage is Stage.GEOMETRY:
            shape = statistics[SHAPE].denormalize(clean)
            decoder: nn.Module = self._decoders[0]
            resolution = grid * 16
            meshes = decode_meshes(decoder, shape, latent.coords, latent.lengths, resolution)  # type: ignore[arg-type]
            return [picture(shaded(mesh), _PIXELS) for mesh in meshes]
        if latent.side is None:
            raise ConfigError("the material latent has no shape latent as side input")
        shape = statistics[SHAPE].denormalize(latent.side.to(self._device))
        texture = statistics[TEXTURE].denormalize(clean)
        lengths = list(latent.lengths)
        pieces = zip(shape.split(lengths), texture.split(lengths), latent.coords.split(lengths), strict=True)
        shape_decoder, texture_decoder = self._decoders
        frames = [decode_frame(shape_decoder, texture_decoder, *piece, grid) for piece in pieces]  # type: ignore[arg-type]
        return [picture(ColoredMesh.of(frame), _PIXELS) for frame in frames]


def shaded(mesh: SampledMesh) -> ColoredMesh:
    """Color the mesh gray by depth along y, so that its shape is visible."""
    gray = (220 - 180 * (mesh.vertices[:, 1:2] + 0.5).clip(0, 1)).astype(np.uint8)
    return ColoredMesh(mesh.vertices, np.repeat(gray, 3, axis=1), mesh.faces)


def silhouette(occupied: Tensor) -> np.ndarray:
    """Draw bool [R, R, R] as seen along y, nearer cells darker: uint8 (P, P, 3)."""
    grid = occupied.cpu().numpy()
    side = grid.shape[0]
    depth = np.where(grid.any(axis=1), grid.argmax(axis=1), -1)
    gray = np.where(depth < 0, 255, 40 + 180 * depth // side).astype(np.uint8).T[::-1]
    rows = np.arange(_PIXELS) * side // _PIXELS
    return np.repeat(gray[rows][:, rows, None], 3, axis=2)


@contextmanager
def _averaged(trained: Mapping[str, nn.Parameter], average: Mapping[str, Tensor]) -> Iterator[None]:
    """Temporarily replace the trained weights by the averaged ones."""
    original = {name: parameter.data for name, parameter in trained.items()}
    try:
        for name, parameter in trained.items():
            parameter.data = average[name]
        yield
    finally:
        for name, parameter in trained.items():
            parameter.data = original[name]

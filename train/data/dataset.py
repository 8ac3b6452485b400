"""Clips by index: a stage's latents and one random view's images, and every random number that the step needs.

Everything drawn for a clip comes from (seed, step, epoch, key), so it is the same whichever rank or thread draws it.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from helix4d.core import ConfigError, FormatError, generator
from helix4d.curation.places.store import StoreError
from helix4d.curation.shards.shard import ShardReader
from helix4d.model.conditioning.images import prepare_frames
from helix4d.model.latents.latents import LATENT_STRIDE, SHAPE_STATISTICS, TEXTURE_STATISTICS, LatentStatistics
from helix4d.train.config import DataConfig, Stage
from helix4d.train.latents.latents import SHAPE, STRUCTURE, TEXTURE, read_member, statistics_from_json
from helix4d.train.latents.storage import list_shards, open_shard, read_file

UNREADABLE = (FormatError, KeyError, OSError, StoreError)
"""What reading a clip raises that is missing, broken, or not to be had from its store."""
_LOOKED_AT = 8
"""Shards, before the folder of images is called a wrong one."""


@dataclass(frozen=True)
class ClipEntry:
    """A clip of the index: its key, its shard's name, tokens of each frame, views rendered."""

    key: str
    shard: str
    tokens: tuple[int, ...]
    views: int


@dataclass(frozen=True)
class Latent:
    """What a stage learns to produce of a clip, normalized.

    Attributes:
        clean: [T, C, r, r, r] in stage 1, [L, C] after it.
        lengths: tokens of each frame.
        coords: int32 [L, 3]; None in stage 1.
        side: [L, C'], the normalized shape latent beside the material's; None elsewhere.
    """

    clean: Tensor
    lengths: tuple[int, ...]
    coords: Tensor | None = None
    side: Tensor | None = None


@dataclass(frozen=True)
class TrainingClip:
    """A clip ready for a step.

    Attributes:
        key, view: which clip, seen from where.
        latent: what is to be learned.
        images: float32 [T, 3, S, S].
        noise: as `latent.clean`.
        t: between 0 (data) and 1 (noise), one for the clip.
        dropped: whether its condition is zeroed.
    """

    key: str
    view: int
    latent: Latent
    images: Tensor
    noise: Tensor
    t: float
    dropped: bool


class ClipReader:
    """The clips of one split for one stage.

    Args:
        config: where they are.
        stage: which latents are read.
    """

    def __init__(self, config: DataConfig, stage: Stage) -> None:
        self.config = config
        self.stage = stage
        names = list_shards(config.latents, config.split)  # first: it says what a folder without an index is
        self.statistics = latent_statistics(config)
        self.entries: list[ClipEntry] = []
        resolutions = set()
        for name in names:
            sidecar = open_shard(config.latents, name).sidecar
            source = sidecar["source"]["config"]
            resolutions.add(source["resolution"])
            for sample in sidecar["samples"]:
                self.entries.append(ClipEntry(sample["key"], name, tuple(sample["tokens"]), source["views"]))
        self.entries.sort(key=lambda entry: entry.key)
        if not self.entries:
            raise ConfigError(f"{config.latents}: no clips in the split {config.split}")
        if len(resolutions) > 1:
            raise ConfigError(f"{config.latents}: clips at several resolutions {sorted(resolutions)}: one is needed")
        if not all(entry.views for entry in self.entries):
            raise ConfigError(f"{config.images}: clips without rendered views give no condition")
        self.token_grid: int = resolutions.pop() // LATENT_STRIDE

    def __len__(self) -> int:
        return len(self.entries)

    def check_images(self) -> None:
        """Whether any of the first shards has its images at `data.images`: if none has, the folder is a wrong one.

        Raises:
            ConfigError: if none has.
        """
        told: list[str] = []
        for name in dict.fromkeys(entry.shard for entry in self.entries):
            try:
                self._image_shard(name)
            except (FormatError, OSError, StoreError) as error:
                told.append(str(error))
            else:
                return
            if len(told) == _LOOKED_AT:
                break
        raise ConfigError(f"data.images {self.config.images}: not what the latents were made from ({told[0]})")

    def costs(self, structure_grid: int) -> tuple[int, ...]:
        """Tokens of each clip in this stage."""
        if self.stage is Stage.STRUCTURE:
            return tuple(len(entry.tokens) * structure_grid**3 for entry in self.entries)
        return tuple(sum(entry.tokens) for entry in self.entries)

    def latent(self, number: int) -> Latent:
        """The normalized latent of clip `number`.

        Raises:
            UNREADABLE: if it is missing or broken.
        """
        entry = self.entries[number]
        shard = self._shard(self.config.latents, entry.shard)

        def member(kind: str) -> dict[str, Tensor]:
            return read_member(shard.read(entry.key, f"{kind}.safetensors"), f"{entry.shard}: {entry.key}.{kind}")

        if self.stage is Stage.STRUCTURE:
            grids = member(STRUCTURE)["latent"]
            if len(grids) != len(entry.tokens):
                raise FormatError(f"{entry.shard}: {entry.key}: {len(grids)} grids for {len(entry.tokens)} frames")
            return Latent(grids, (grids.shape[-1] ** 3,) * len(grids))
        stored = member(SHAPE)
        shape = self.statistics[SHAPE].normalize(stored["latent"])
        lengths = tuple(stored["lengths"].tolist())
        if lengths != entry.tokens or len(stored["coords"]) != len(shape) or len(shape) != sum(lengths):
            raise FormatError(f"{entry.shard}: {entry.key}: its tokens are not those of the index")
        if self.stage is Stage.GEOMETRY:
            return Latent(shape, lengths, stored["coords"])
        texture = self.statistics[TEXTURE].normalize(member(TEXTURE)["latent"])
        if len(texture) != len(shape):
            raise FormatError(f"{entry.shard}: {entry.key}: {len(texture)} texture tokens for {len(shape)} of shape")
        return Latent(texture, lengths, stored["coords"], side=shape)

    def images(self, number: int, view: int) -> Tensor:
        """One view's frames, prepared for the image encoder: float32 [T, 3, S, S]."""
        entry = self.entries[number]
        shard = self._image_shard(entry.shard)
        frames = []
        suffixes = [f"view_{view:02d}_frame_{frame:02d}.webp" for frame in range(len(entry.tokens))]
        for suffix, data in shard.read_members(entry.key, suffixes).items():
            try:
                image = Image.open(io.BytesIO(data), formats=("WEBP",))
                image.load()
            except (UnidentifiedImageError, OSError) as error:
                raise FormatError(f"{entry.shard}: {entry.key}.{suffix}: not an image ({error})") from error
            frames.append(image)
        if len(sizes := {frame.size for frame in frames}) > 1:
            raise FormatError(f"{entry.shard}: {entry.key}: frames of view {view} of several sizes {sorted(sizes)}")
        return prepare_frames(frames, self.config.image_size)

    def training_clip(self, number: int, names: tuple[int, int, int], dropout: float) -> TrainingClip:
        """Clip `number` and its random numbers.

        Args:
            number: in the index.
            names: seed, step and epoch, which with the key name the generators.
            dropout: share of conditions zeroed.
        """
        entry = self.entries[number]
        choices = generator(*names, entry.key, "choices")
        view = int(choices.integers(entry.views))
        t = draw_time(choices, self.stage)
        dropped = bool(choices.random() < dropout)
        latent = self.latent(number)
        noise = generator(*names, entry.key, "noise").standard_normal(latent.clean.shape, dtype=np.float32)
        return TrainingClip(entry.key, view, latent, self.images(number, view), torch.from_numpy(noise), t, dropped)

    def _image_shard(self, name: str) -> ShardReader:
        shard = self._shard(self.config.images, name)
        wanted = self._shard(self.config.latents, name).sidecar["source"]["sha256"]
        if shard.sidecar["sha256"] != wanted:
            raise FormatError(f"{name}: the images' shard is not the one that the latents were made from")
        return shard

    @lru_cache(maxsize=512)  # noqa: B019 (a reader lives as long as its run)
    def _shard(self, root: str, name: str) -> ShardReader:
        return open_shard(root, name)


def draw_time(source: np.random.Generator, stage: Stage) -> float:
    """t of a clip: sigmoid of N(1, 1) in stage 1, uniform in the others (TRELLIS.2)."""
    if stage is Stage.STRUCTURE:
        return float(1 / (1 + np.exp(-source.normal(1.0, 1.0))))
    return float(source.random())


def latent_statistics(config: DataConfig) -> Mapping[str, LatentStatistics]:
    """Of the shape and the texture: what latents are normalized with."""
    if config.statistics == "trellis2":
        return {SHAPE: SHAPE_STATISTICS, TEXTURE: TEXTURE_STATISTICS}
    data = read_file(config.latents, "statistics.json")
    return {kind: statistics_from_json(data, kind) for kind in (SHAPE, TEXTURE)}

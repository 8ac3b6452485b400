"""Read clips by index: a stage's latents, the images of one random view, and all random numbers of the step.

Random numbers of a clip are derived from (seed, step, epoch, key), so they do not depend on the rank or thread.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from helix4d.core import ConfigError, FormatError, generator
from helix4d.curation.index.subset import read_subset
from helix4d.curation.places.store import StoreError
from helix4d.curation.shards.members import MOST, decode_image
from helix4d.curation.shards.reader import ShardReader
from helix4d.model.conditioning.images import prepare_frames
from helix4d.model.latents.latents import LATENT_STRIDE, SHAPE_STATISTICS, TEXTURE_STATISTICS, LatentStatistics
from helix4d.train.config import DataConfig, Stage
from helix4d.train.data.schedule import Schedule
from helix4d.train.latents.latents import SHAPE, STRUCTURE, TEXTURE, read_member, statistics_from_json
from helix4d.train.latents.storage import (
    list_shards,
    missing_shards,
    open_shard,
    planned_shards,
    read_file,
    refuse_partial,
)

log = logging.getLogger("helix4d.train")

UNREADABLE = (FormatError, KeyError, OSError, StoreError)
"""Exceptions raised when a clip is missing, broken or cannot be fetched from its store."""
_SETTINGS = ("resolution", "views", "image_size")
_PROBED_SHARDS = 8
"""Maximum number of shards to try before the folder of images is rejected."""


@dataclass(frozen=True)
class ClipEntry:
    """A clip of the index: key, name of its shard, number of tokens of each frame, rendered views and their size."""

    key: str
    shard: str
    tokens: tuple[int, ...]
    views: int
    image_size: int


@dataclass(frozen=True)
class Latent:
    """Normalized latent of a clip, the target of a stage.

    Attributes:
        clean: [T, C, r, r, r] in stage 1, [L, C] in stages 2 and 3.
        lengths: number of tokens of each frame.
        coords: int32 [L, 3], token coordinates; None in stage 1.
        side: [L, C'], normalized shape latent, side input of the material stage; None in other stages.
    """

    clean: Tensor
    lengths: tuple[int, ...]
    coords: Tensor | None = None
    side: Tensor | None = None


@dataclass(frozen=True)
class TrainingClip:
    """A clip ready for a step.

    Attributes:
        key: key of the clip.
        view: index of the view that provides the images.
        latent: target latent.
        images: float32 [T, 3, S, S], prepared for the image encoder.
        noise: noise of the shape of `latent.clean`.
        t: time of the whole clip, between 0 (data) and 1 (noise).
        dropped: whether the condition is zeroed.
    """

    key: str
    view: int
    latent: Latent
    images: Tensor
    noise: Tensor
    t: float
    dropped: bool


class ClipReader:
    """Reads the clips of one split for one stage.

    Args:
        config: locations of latents and images, the split, and limits on the clips.
        stage: stage whose latents are read.

    Attributes:
        statistics: statistics with which the latents are normalized, by kind.
        entries: the clips, in order of key.
        encoders: fingerprints of the encoders that the latents were made with, sorted.
        token_grid: tokens per side of the grid.

    Raises:
        ConfigError: if there are no clips, shards are missing, or clips of different resolutions are mixed.
    """

    def __init__(self, config: DataConfig, stage: Stage) -> None:
        self.config = config
        self.stage = stage
        names = list_shards(
            config.latents, config.split
        )  # first, because its error explains what is wrong with the folder
        self.statistics = latent_statistics(config)
        missing = missing_shards(config.latents, names)
        if not config.allow_partial:
            refuse_partial(config.latents, missing, "Restore them, or rerun `helix4d encode`")
        subset = None if config.subset is None else read_subset(Path(config.subset))
        self.entries: list[ClipEntry] = []
        resolutions, encoders = set(), set()
        for name in sorted({*names} - {*missing}):
            sidecar = open_shard(config.latents, name).sidecar
            encoders.add(str(sidecar.get("encoders")))
            source = source_settings(sidecar, f"{config.latents}: {name}")
            resolutions.add(source["resolution"])
            for sample in sidecar["samples"]:
                if subset is not None and sample["key"] not in subset:
                    continue
                self.entries.append(
                    ClipEntry(sample["key"], name, tuple(sample["tokens"]), source["views"], source["image_size"])
                )
        self.encoders = sorted(encoders)
        self.entries.sort(key=lambda entry: entry.key)
        self._leave_out_large()
        if not self.entries:
            of_subset = f" that {config.subset} selects" if config.subset else ""
            raise ConfigError(f"{config.latents}: no clips in the {config.split} split{of_subset}")
        if len(resolutions) > 1:
            raise ConfigError(
                f"{config.latents}: clips have different resolutions {sorted(resolutions)}: all must have the same one"
            )
        if not all(entry.views for entry in self.entries):
            raise ConfigError(f"{config.images}: no rendered views to condition on: curate with `--views 1` or more")
        self.token_grid: int = resolutions.pop() // LATENT_STRIDE

    def __len__(self) -> int:
        return len(self.entries)

    def _leave_out_large(self) -> None:
        most = self.config.max_tokens
        kept = [entry for entry in self.entries if most is None or sum(entry.tokens) <= most]
        if len(kept) < len(self.entries):
            left_out = len(self.entries) - len(kept)
            log.info(
                "omitting %d of %d clips, which have more than %s tokens", left_out, len(self.entries), f"{most:,}"
            )
            if not kept:
                raise ConfigError(f"data.max_tokens is {most}: all {left_out} clips have more tokens: increase it")
        self.entries = kept

    def check_images(self) -> None:
        """Check that no shards are missing, and that images and latents come from the same shards.

        Raises:
            ConfigError: if the images belong to other shards than the latents, so the folder is probably wrong; or if
                shards of images are missing, or shards of the plan have no latents, and `allow_partial` is not set.
        """
        known = list_shards(self.config.latents, self.config.split)
        missing = set(missing_shards(self.config.images, known))
        used = list(dict.fromkeys(entry.shard for entry in self.entries))
        self._check_origin([name for name in used if name not in missing] or used)
        if self.config.allow_partial:
            self.entries = [entry for entry in self.entries if entry.shard not in missing]
            return
        refuse_partial(self.config.images, missing, "Restore the images")
        planned = planned_shards(self.config.images, known)
        unknown = {name for name in planned if name.startswith(f"{self.config.split}/")} - {*known}
        refuse_partial(self.config.latents, unknown, "Let `helix4d curate` finish and rerun `helix4d encode`")

    def _check_origin(self, shards: Sequence[str]) -> None:
        errors: list[str] = []
        for name in shards:
            try:
                self._image_shard(name)
            except (FormatError, OSError, StoreError) as error:
                errors.append(str(error))
            else:
                return
            if len(errors) == _PROBED_SHARDS:
                break
        raise ConfigError(
            f"data.images is {self.config.images}: the latents were not encoded from these shards ({errors[0]})"
        )

    def costs(self, structure_grid: int) -> tuple[int, ...]:
        """Return the number of tokens of each clip in this stage."""
        if self.stage is Stage.STRUCTURE:
            return tuple(len(entry.tokens) * structure_grid**3 for entry in self.entries)
        return tuple(sum(entry.tokens) for entry in self.entries)

    def schedule(self, structure_grid: int, seed: int) -> Schedule:
        """Return the order of the clips in this stage."""
        config = self.config
        return Schedule(
            self.costs(structure_grid),
            seed,
            tuple(len(entry.tokens) == 1 for entry in self.entries),
            None if config.mix is None else config.mix.static_share,
            config.balance_steps,
        )

    def latent(self, number: int) -> Latent:
        """Read the normalized latent of clip `number`.

        Raises:
            UNREADABLE: if the latent is missing or broken.
        """
        entry = self.entries[number]
        shard = self._shard(self.config.latents, entry.shard)

        def member(kind: str) -> dict[str, Tensor]:
            return read_member(shard.read(entry.key, f"{kind}.safetensors"), f"{entry.shard}: {entry.key}.{kind}")

        if self.stage is Stage.STRUCTURE:
            grids = member(STRUCTURE)["latent"]
            if grids.ndim != 5 or len(grids) != len(entry.tokens) or len(set(grids.shape[2:])) != 1:
                raise FormatError(
                    f"{entry.shard}: {entry.key}: structure has shape {list(grids.shape)}: expected one cubic grid for "
                    f"each of {len(entry.tokens)} frames"
                )
            return Latent(grids, (grids.shape[-1] ** 3,) * len(grids))
        stored = member(SHAPE)
        shape = self._normalized(SHAPE, stored["latent"], entry)
        lengths, coords = tuple(stored["lengths"].flatten().tolist()), stored["coords"]
        if lengths != entry.tokens or tuple(coords.shape) != (len(shape), 3):
            raise FormatError(f"{entry.shard}: {entry.key}: number of tokens differs from the index")
        if len(coords) and not (int(coords.min()) >= 0 and int(coords.max()) < self.token_grid):
            raise FormatError(f"{entry.shard}: {entry.key}: coords leave the grid of {self.token_grid} tokens per side")
        if self.stage is Stage.GEOMETRY:
            return Latent(shape, lengths, coords)
        texture = self._normalized(TEXTURE, member(TEXTURE)["latent"], entry)
        return Latent(texture, lengths, coords, side=shape)

    def _normalized(self, kind: str, latent: Tensor, entry: ClipEntry) -> Tensor:
        expected = (sum(entry.tokens), len(self.statistics[kind].mean))
        if tuple(latent.shape) != expected:
            raise FormatError(
                f"{entry.shard}: {entry.key}: the {kind} latent has shape {list(latent.shape)}: expected "
                f"{list(expected)}, the tokens of the index and the channels of the statistics"
            )
        return self.statistics[kind].normalize(latent)

    def images(self, number: int, view: int) -> Tensor:
        """Read the frames of one view, prepared for the image encoder: float32 [T, 3, S, S]."""
        entry = self.entries[number]
        shard = self._image_shard(entry.shard)
        frames = []
        suffixes = [f"view_{view:02d}_frame_{frame:02d}.webp" for frame in range(len(entry.tokens))]
        for suffix, data in shard.read_members(entry.key, suffixes).items():
            frames.append(decode_image(data, f"{entry.shard}: {entry.key}.{suffix}", entry.image_size))
        return prepare_frames(frames, self.config.image_size)

    def training_clip(self, number: int, names: tuple[int, int, int], dropout: float) -> TrainingClip:
        """Read clip `number` and draw its random numbers.

        Args:
            number: position in the index.
            names: seed, step and epoch, which together with the key seed the generators.
            dropout: fraction of conditions to zero.
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
        expected = self._shard(self.config.latents, name).sidecar["source"]["sha256"]
        if shard.sidecar["sha256"] != expected:
            raise FormatError(f"{name}: this shard of images is not the one that the latents were encoded from")
        return shard

    @lru_cache(maxsize=512)  # noqa: B019 (a reader lives as long as its run)
    def _shard(self, root: str, name: str) -> ShardReader:
        return open_shard(root, name)


def source_settings(sidecar: Mapping[str, Any], where: str) -> dict[str, int]:
    """Return the settings of the curated samples that a latent shard was encoded from: resolution, views, image size.

    Raises:
        FormatError: if the sidecar does not record them.
    """
    source = sidecar.get("source")
    config = source.get("config") if isinstance(source, Mapping) else None
    settings: dict[str, int] = {}
    for name in _SETTINGS:
        value = config.get(name) if isinstance(config, Mapping) else None
        if type(value) is not int or not 0 <= value <= MOST[name]:
            raise FormatError(f"{where}: does not record {name} of its source, or not as a number")
        settings[name] = value
    return settings


def draw_time(source: np.random.Generator, stage: Stage) -> float:
    """Draw t of a clip: sigmoid of N(1, 1) in stage 1, uniform in the others (as in TRELLIS.2)."""
    if stage is Stage.STRUCTURE:
        return float(1 / (1 + np.exp(-source.normal(1.0, 1.0))))
    return float(source.random())


def latent_statistics(config: DataConfig) -> Mapping[str, LatentStatistics]:
    """Return the statistics that shape and texture latents are normalized with."""
    if config.statistics == "trellis2":
        return {SHAPE: SHAPE_STATISTICS, TEXTURE: TEXTURE_STATISTICS}
    data = read_file(config.latents, "statistics.json")
    return {kind: statistics_from_json(data, kind) for kind in (SHAPE, TEXTURE)}

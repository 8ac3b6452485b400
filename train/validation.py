"""The loss on fixed clips with fixed times and noise. It does not depend on the number of ranks.

Clip i of N is evaluated at t = (i + 1/2) / N, so the times are evenly spaced instead of random. Each clip is evaluated
alone, and the ranks exchange the sums of single clips.
"""

from __future__ import annotations

import logging
from dataclasses import replace

import torch

from helix4d.core import first_line
from helix4d.model.conditioning.images import ImageEncoder
from helix4d.model.networks.flow import FlowTransformer
from helix4d.train.config import TrainConfig
from helix4d.train.data.batch import collate
from helix4d.train.data.dataset import UNREADABLE, ClipReader, TrainingClip
from helix4d.train.data.loader import padded
from helix4d.train.objective import elements, squared_errors
from helix4d.train.parallel import World

log = logging.getLogger("helix4d.train")

_STEP = -1  # not the number of a training step, so the noise differs from that of training


class Validation:
    """Evaluates the first clips of `run.validation_split`, in order of key. Clips that cannot be read are skipped.

    Args:
        config: settings of the run.
        encoder: image encoder.
        comm: ranks, which share the clips.

    Raises:
        ConfigError: if the split has no clips.
    """

    def __init__(self, config: TrainConfig, encoder: ImageEncoder, comm: World) -> None:
        self._config, self._encoder, self._comm = config, encoder, comm
        reader = ClipReader(replace(config.data, split=config.run.validation_split), config.stage)
        self._count = min(config.run.validation_clips, len(reader))
        read = [(number, self._read(reader, number)) for number in range(comm.rank, self._count, comm.ranks)]
        self._own = [(number, clip) for number, clip in read if clip is not None]
        # All sharded ranks must run the network equally often, even those without a clip.
        self._sharded = config.network.shard and comm.ranks > 1
        spare = self._read(reader, comm.rank % self._count) if self._sharded and not self._own else None
        self._spare = None if spare is None else [spare]

    @torch.no_grad()
    def loss(self, network: FlowTransformer) -> float | None:
        """Return the loss, or None if no clip can be read. All ranks must call this."""
        comm, first_frame = self._comm, self._config.network.first_frame
        network.eval()
        passes = comm.max(len(self._own)) if self._sharded else len(self._own)
        errors = []
        for clips, _ in padded([[clip] for _, clip in self._own], passes, self._spare):
            batch = collate(clips, comm.device)
            errors.append(float(squared_errors(network, batch, self._encoder(batch.images), first_frame)))
        network.train()
        sums = [0.0] * (2 * self._count)
        for (number, clip), error in zip(self._own, errors, strict=False):
            sums[number], sums[self._count + number] = error, float(elements([clip], first_frame))
        totals = comm.sum(sums)
        count = sum(totals[self._count :])
        return sum(totals[: self._count]) / count if count else None

    def _read(self, reader: ClipReader, number: int) -> TrainingClip | None:
        try:
            clip = reader.training_clip(number, (self._config.seed, _STEP, 0), dropout=0.0)
        except UNREADABLE as error:
            key = reader.entries[number].key
            log.warning("skipping clip %s in validation: %s: %s", key, type(error).__name__, first_line(error))
            return None
        return replace(clip, t=(number + 0.5) / self._count)

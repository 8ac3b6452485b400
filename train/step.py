"""The gradient of a step's loss, accumulated over the microbatches of a rank.

An attempt may end early: on a request to stop, or when a microbatch does not fit into memory. The ranks must then agree
on what to do, so each attempt reduces the gradients exactly once on every rank, even if it ended early.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from helix4d.core import Helix4DError
from helix4d.model.conditioning.images import ImageEncoder
from helix4d.model.networks.flow import FlowTransformer
from helix4d.train.data.batch import Copier
from helix4d.train.data.dataset import TrainingClip
from helix4d.train.gradients import GradientSum
from helix4d.train.objective import squared_errors
from helix4d.train.parallel import World

log = logging.getLogger("helix4d.train")

Microbatch = list[TrainingClip]


class OutOfMemoryError(Helix4DError):
    """A microbatch of sharded ranks does not fit into the memory of the device; the message lists its clips."""


@dataclass(frozen=True)
class Pass:
    """A forward and backward pass that succeeded.

    Attributes:
        clips: clips of the microbatch.
        weight: 1, or 0 if it only keeps sharded ranks in sync.
        t: float32 [clips], time of each clip.
        errors: float32 [clips], summed squared errors.
        cond_tokens: number of image tokens per frame.
    """

    clips: Microbatch
    weight: float
    t: Tensor
    errors: Tensor
    cond_tokens: int


@dataclass(frozen=True)
class Attempt:
    """An attempt at a step on this rank.

    Attributes:
        passes: the passes that succeeded.
        stopped: whether it ended early because the run was asked to stop.
        failed: the microbatch that did not fit into memory, if any.
    """

    passes: list[Pass]
    stopped: bool = False
    failed: Microbatch | None = None


@dataclass(frozen=True)
class Accumulator:
    """Accumulates the gradients of attempts at steps.

    Attributes:
        network, encoder: network to train and image encoder.
        first_frame: whether frame 0 is the clean anchor.
        copier: copies microbatches to the device.
        sums: sums the gradients over the ranks; None for sharded ranks, which reduce them in every pass.
        comm: the ranks.
    """

    network: FlowTransformer
    encoder: ImageEncoder
    first_frame: bool
    copier: Copier
    sums: GradientSum | None
    comm: World

    def attempt(
        self, pieces: Sequence[tuple[Microbatch, float]], count: float, upcoming: Callable[[], Microbatch]
    ) -> Attempt:
        """Accumulate the gradient of the mean loss in the parameters, without synchronizing with the device.

        Args:
            pieces: microbatches with their weights.
            count: number of elements of the loss, over all ranks.
            upcoming: returns the first microbatch of the next step if it has been read, to copy it in advance.

        Raises:
            OutOfMemoryError: if a microbatch of sharded ranks does not fit.
        """
        passes: list[Pass] = []
        stopped, failed = False, None
        for number, (clips, weight) in enumerate(pieces):
            if stopped := self._stop():
                break
            is_last = number + 1 == len(pieces)
            if is_last and self.sums is not None:
                self.sums.arm()
            try:
                passes.append(self._pass(clips, weight, count))
            except torch.OutOfMemoryError as error:
                failed = clips
                problem = str(error)
            if failed is not None:  # outside the handler, which keeps all activations alive
                self._release(failed, problem)
                break
            self.copier.start(upcoming() if is_last else pieces[number + 1][0])
        if self.sums is not None:
            self.sums.finish()
        return Attempt(passes, stopped, failed)

    def _stop(self) -> bool:
        # Sharded ranks run the network together, so they must also leave together.
        return bool(self.comm.max(self.comm.stop())) if self.sums is None else self.comm.stop()

    def _pass(self, clips: Microbatch, weight: float, count: float) -> Pass:
        batch = self.copier.take(clips)
        cond = self.encoder(batch.images)
        errors = squared_errors(self.network, batch, cond, self.first_frame)
        (weight * errors.sum() / max(count, 1)).backward()
        return Pass(clips, weight, batch.t, errors.detach(), cond.shape[1])

    def _release(self, clips: Microbatch, problem: str) -> None:
        if self.sums is None:
            raise OutOfMemoryError(
                f"out of memory with the clips {_keys(clips)} ({problem}): set a smaller tokens_per_microbatch, or "
                "leave out the largest clips with data.max_tokens"
            )
        fate = "it is split" if len(clips) > 1 else "it is skipped"
        log.warning("a microbatch does not fit into memory: %s: %s (%s)", _keys(clips), fate, problem)
        if self.comm.device.type == "cuda":
            torch.cuda.empty_cache()


def _keys(clips: Microbatch) -> str:
    return ", ".join(clip.key for clip in clips)


def smaller(microbatches: Sequence[Microbatch], failed: Microbatch) -> tuple[list[Microbatch], Microbatch]:
    """Return the microbatches to try after `failed` ran out of memory, and the clips that are given up.

    A microbatch of several clips is split into its clips once. A single clip is given up.
    """
    if len(failed) == 1:
        return [clips for clips in microbatches if clips is not failed], failed
    pieces = [[clip] for clip in failed]
    return [part for clips in microbatches for part in (pieces if clips is failed else [clips])], []

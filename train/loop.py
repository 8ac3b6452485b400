"""The training loop, one function from top to bottom. A killed run resumes from its last checkpoint.

All random numbers are derived from (seed, step, epoch, key) and the state is a handful of numbers, so on a CPU a
resumed run matches the uninterrupted run bit for bit.
"""

from __future__ import annotations

import logging
import math
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor

from helix4d.core import ConfigError, Helix4DError, sha256_json, write_json
from helix4d.core.locks import locked
from helix4d.model.device import upload
from helix4d.model.networks.flow import FlowTransformer
from helix4d.train.checkpoint import Checkpoint, TrainState, list_checkpoints, load_checkpoint, restore, save_checkpoint
from helix4d.train.config import Stage, TrainConfig
from helix4d.train.data.batch import Copier
from helix4d.train.data.dataset import UNREADABLE, ClipReader, Latent, TrainingClip
from helix4d.train.data.loader import BrokenDataError, Loader, padded
from helix4d.train.data.schedule import Schedule
from helix4d.train.flops import peak_flops, step_flops
from helix4d.train.metrics import Metrics
from helix4d.train.network import agree_on_attention, build_network, load_image_encoder
from helix4d.train.objective import TIME_BINS, elements, squared_errors, time_bins
from helix4d.train.optimizer import (
    AdaptiveClip,
    MovingAverage,
    learning_rate,
    make_optimizer,
    optimizer_tensors,
    restore_optimizer,
)
from helix4d.train.parallel import World, world
from helix4d.train.samples.preview import Previews
from helix4d.train.sharding import check_shardable, gather, shard, unshard

log = logging.getLogger("helix4d.train")


class NonFiniteLossError(Helix4DError):
    """A loss or gradient is not finite; the message lists the clips."""


def train(config: TrainConfig) -> TrainState:
    """Train until `config.steps` or SIGTERM, resuming from the run's last checkpoint if there is one.

    Raises:
        ConfigError: if the run was started with different settings, or the data does not fit the network.
        BrokenDataError: if more clips are broken than `data.max_broken` allows.
        NonFiniteLossError: if a loss or gradient is not finite.
    """
    with world(config.run.device) as comm, _sigterm() as stop_requested, _writer(config, comm):
        # Data and network.
        reader = ClipReader(config.data, config.stage)
        sharded = config.network.shard and comm.ranks > 1
        if sharded:
            check_shardable(config)
        network = build_network(config, comm.device)
        agree_on_attention(network, comm)
        check_data(reader, network, config)
        if config.batch < comm.ranks:
            raise ConfigError(f"batch is {config.batch} with {comm.ranks} ranks: must be at least one clip per rank")
        clips = sha256_json([entry.key for entry in reader.entries])
        schedule = Schedule(reader.costs(network.config.resolution), config.seed)
        encoder = load_image_encoder(config.network, comm.device)
        if encoder.channels != network.config.cond_channels:
            raise ConfigError(
                f"{config.network.image_encoder} has {encoder.channels} channels per token, but the network expects "
                f"{network.config.cond_channels}"
            )

        # Training state, initial or from the last checkpoint.
        if sharded:
            shard(network)
        trained = {name: p for name, p in network.named_parameters() if p.requires_grad}
        optimizer = make_optimizer(trained, config.optimizer)
        average = MovingAverage(trained, config.optimizer.ema)
        clip = AdaptiveClip(config.optimizer)
        step = position = broken = 0
        if saved := list_checkpoints(config.folder):
            checkpoint = load_checkpoint(saved[-1])
            check_same_run(checkpoint.state.config, config)
            if checkpoint.state.clips not in ("", clips):
                raise ConfigError(
                    f"{config.folder}: this run was started with different clips than the {len(reader)} in "
                    f"{config.data.latents}, and resuming would repeat or skip some: use the same latents or another "
                    "name"
                )
            restore(checkpoint.model, trained, str(saved[-1]))
            restore(checkpoint.ema, average.tensors, str(saved[-1]))
            restore_optimizer(optimizer, trained, checkpoint.optimizer)
            clip = AdaptiveClip(config.optimizer, checkpoint.state.clip_history)
            step, position, broken = checkpoint.state.step, checkpoint.state.position, checkpoint.state.broken
            log.info("%s: resuming from step %d", config.folder, step)
        if comm.max(step) != -comm.max(-step):
            raise ConfigError(
                f"{config.folder}: this rank is at step {step}, others are not: run.output must be a folder shared by "
                "all nodes"
            )
        metrics = Metrics(config.folder, step, config.run.tensorboard) if comm.first else None
        previews = Previews(config, encoder, comm.device) if comm.first and config.run.preview_every else None
        if comm.first:
            write_json(config.folder / "config.json", config.to_json())

        def state() -> TrainState:
            return TrainState(step, position, broken, tuple(clip.history), config.to_json(), clips)

        saved_step = step

        def save() -> None:
            nonlocal saved_step
            if step == saved_step:  # already saved, or no step taken yet
                return
            saved_step = step
            parts = (trained, average.tensors, optimizer_tensors(optimizer, trained))
            tensors = [gather(part, comm.first) for part in parts]
            if comm.first:
                checkpoint = Checkpoint(state(), *tensors)
                save_checkpoint(config.folder, checkpoint, config.run.keep_last, config.run.keep_every)
            comm.barrier()

        network.train()
        copier = Copier(comm.device)
        figures = _Figures(comm.device)
        spare: list[TrainingClip] | None = None
        with Loader(reader, schedule, config, comm.rank, comm.ranks) as loader:
            for share in loader.steps(step, position, config.steps):
                # One sum over the ranks gives the denominator of the loss and whether to stop.
                own = sum(elements(m, config.network.first_frame) for m in share.microbatches)
                count, newly_broken, stop = comm.sum([own, len(share.broken), stop_requested()])
                if stop:
                    # A resumed run reads this step again and then counts its broken clips.
                    log.info("received SIGTERM: stopping at step %d", step)
                    save()
                    return state()
                broken += int(newly_broken)
                if broken > config.data.max_broken:
                    raise BrokenDataError(
                        f"{broken} clips are missing or broken, but data.max_broken is {config.data.max_broken}"
                        + (f"; latest on this rank: {', '.join(share.broken)}" if share.broken else "")
                    )

                # Accumulate the gradient of the mean loss over microbatches. Nothing here waits for the device.
                microbatches = [microbatch for microbatch in share.microbatches if microbatch]
                passes = comm.max(len(microbatches)) if sharded else len(microbatches)
                pieces = list(padded(microbatches, passes, spare))
                losses: list[tuple[tuple[str, ...], Tensor]] = []
                for i, (microbatch, weight) in enumerate(pieces):
                    batch = copier.take(microbatch)
                    cond = encoder(batch.images)
                    errors = squared_errors(network, batch, cond, config.network.first_frame)
                    (weight * errors.sum() / max(count, 1)).backward()
                    copier.start(pieces[i + 1][0] if i + 1 < len(pieces) else loader.upcoming())
                    losses.append((batch.keys, errors.detach()))
                    if weight:
                        figures.add(microbatch, batch.t, errors.detach(), cond.shape[1], network, config)
                        spare = microbatch
                if not sharded:
                    comm.sum_gradients(trained.values())

                # Take the step, if everything is finite.
                norm = unshard(torch.nn.utils.get_total_norm(p.grad for p in trained.values() if p.grad is not None))
                threshold = clip.apply(trained.values(), norm)
                grad_norm = finite_norm(step, norm, losses, comm.ranks)
                clip.record(grad_norm)
                for group in optimizer.param_groups:
                    group["lr"] = learning_rate(config.optimizer, step)
                optimizer.step()
                optimizer.zero_grad()
                average.update(trained)
                step += 1
                position += config.batch

                # Log and save.
                figures.end_step(share.waited_s)
                if step % config.run.log_every == 0 or step == config.steps:
                    values = figures.collect(comm)
                    if metrics is not None:
                        optimizing = {"grad_norm": grad_norm, "clip": threshold, "lr": group["lr"]}
                        metrics.write({"step": step, "clips": position, "broken": broken, **optimizing, **values})
                if step % config.run.save_every == 0 or step == config.steps:
                    save()
                if previews is not None and step % config.run.preview_every == 0:
                    previews.write(step, network, trained, average.tensors)
        return state()


def finite_norm(step: int, norm: Tensor, losses: Sequence[tuple[tuple[str, ...], Tensor]], ranks: int) -> float:
    """Return the gradient norm of a step, checking it and the losses: the only point where a step waits for the device.

    Args:
        step: number of the step, for messages.
        norm: norm of the gradients, over all ranks.
        losses: keys and summed squared errors [clips] of each microbatch of this rank.
        ranks: number of ranks.

    Raises:
        NonFiniteLossError: if the norm or a loss is not finite.
    """
    checks = [torch.isfinite(errors).all().to(norm.dtype) for _, errors in losses]
    found, *finite = torch.stack([norm, *checks]).tolist()
    if not all(finite):
        clips = [(key, error) for keys, errors in losses for key, error in zip(keys, errors.tolist(), strict=True)]
        bad = [key for key, error in clips if not math.isfinite(error)]
        raise NonFiniteLossError(f"step {step}: non-finite loss for {', '.join(bad)}")
    if not math.isfinite(found):
        own = ", ".join(sorted({key for keys, _ in losses for key in keys}))
        elsewhere = ", unless the cause is on another rank" if ranks > 1 else ""
        raise NonFiniteLossError(f"step {step}: non-finite gradient; clips on this rank: {own}{elsewhere}")
    return float(found)


def check_data(reader: ClipReader, network: FlowTransformer, config: TrainConfig) -> None:
    """Check that images are available and that the first readable latent fits the network's grid and channels.

    Raises:
        ConfigError: if images are missing or the latent does not fit.
        BrokenDataError: if more clips are broken than `data.max_broken` allows.
    """
    reader.check_images()
    latent = _first_latent(reader, config.data.max_broken)
    grid = latent.clean.shape[-1] if config.stage is Stage.STRUCTURE else reader.token_grid
    channels = latent.clean.shape[1]
    side = 0 if latent.side is None else latent.side.shape[1]
    expected = (network.config.resolution, network.config.out_channels, network.config.in_channels)
    if (grid, channels, channels + side) != expected:
        raise ConfigError(
            f"{config.data.latents}: latents have grid {grid}, {channels} channels and {side} side channels, but the "
            f"network has grid {expected[0]}, {expected[1]} output channels and {expected[2]} input channels"
        )


def _first_latent(reader: ClipReader, max_broken: int) -> Latent:
    for number in range(len(reader)):
        try:
            return reader.latent(number)
        except UNREADABLE as error:
            if number == max_broken or number == len(reader) - 1:
                raise BrokenDataError(
                    f"none of the first {number + 1} clips could be read; last error: {error}"
                ) from error
    raise BrokenDataError("no clips to read")


def check_same_run(before: Mapping[str, Any], config: TrainConfig) -> None:
    """Check that a run resumes with the settings it was started with, except those that may change.

    Raises:
        ConfigError: if settings differ; the message lists them.
    """
    may_change = {"run", "steps", "tokens_per_microbatch"}
    now = config.to_json()
    different = []
    for section in sorted(now.keys() - may_change):
        old, new = before.get(section), now[section]
        if section == "data":
            names = ("split", "statistics", "image_size")
            old, new = ({name: values[name] for name in names} for values in (before["data"], now["data"]))
        if section == "network":
            free = {"checkpointing", "compile", "shard", "offline", "checkpoint", "image_encoder"}
            old, new = ({k: v for k, v in values.items() if k not in free} for values in (before[section], new))
        if _plain(old) != _plain(new):
            different.append(f"{section} was {_plain(old)}, is {_plain(new)}")
    if different:
        raise ConfigError(
            f"{config.folder}: this run was started with different settings ({'; '.join(different)}): use another name"
        )


class _Figures:
    """Accumulates figures between two lines of the metrics."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._peak = peak_flops(device)
        self._reset()

    def _reset(self) -> None:
        self._errors = torch.zeros(TIME_BINS, dtype=torch.float64, device=self._device)
        self._counts = torch.zeros(TIME_BINS, dtype=torch.float64, device=self._device)
        self._tokens = self._flops = self._waited = 0.0
        self._steps = 0
        self._start = time.perf_counter()

    def add(
        self,
        clips: list[TrainingClip],
        t: Tensor,
        errors: Tensor,
        cond_tokens: int,
        network: FlowTransformer,
        config: TrainConfig,
    ) -> None:
        """Add a microbatch."""
        bins = time_bins(t)
        counts = upload([elements([c], config.network.first_frame) for c in clips], torch.float64, self._device)
        self._errors.index_add_(0, bins, errors.double())
        self._counts.index_add_(0, bins, counts)
        lengths = [clip.latent.lengths for clip in clips]
        self._tokens += sum(map(sum, lengths))
        all_trained = config.network.trainable == ("*",)
        self._flops += step_flops(network.config, network.video, lengths, cond_tokens, all_trained)

    def end_step(self, waited_s: float) -> None:
        """Count a step."""
        self._waited += waited_s
        self._steps += 1

    def collect(self, comm: World) -> dict[str, Any]:
        """Return the figures over all ranks since the last call, and reset them."""
        seconds = time.perf_counter() - self._start
        sums = [*self._errors.tolist(), *self._counts.tolist(), self._tokens, self._flops, self._waited]
        totals = comm.sum(sums)
        errors, counts = totals[:TIME_BINS], totals[TIME_BINS : 2 * TIME_BINS]
        tokens, flops, waited = totals[2 * TIME_BINS :]
        on_gpu = self._device.type == "cuda"
        values = {
            "loss": sum(errors) / max(sum(counts), 1),
            "loss_by_time": [e / c if c else None for e, c in zip(errors, counts, strict=True)],
            "seconds_per_step": seconds / self._steps,
            "tokens_per_s": tokens / seconds,
            "mfu": flops / seconds / (self._peak * comm.ranks) if self._peak else None,
            "data_wait": waited / comm.ranks / seconds,
            "peak_memory_bytes": torch.cuda.max_memory_allocated(self._device) if on_gpu else None,
        }
        self._reset()
        return values


@contextmanager
def _sigterm() -> Iterator[Any]:
    """Yield a function that returns whether SIGTERM was received, so that the current step can be finished first."""
    received = False

    def handle(_signal: int, _frame: object) -> None:
        nonlocal received
        received = True

    previous = signal.signal(signal.SIGTERM, handle)
    try:
        yield lambda: received
    finally:
        signal.signal(signal.SIGTERM, previous)


def _writer(config: TrainConfig, comm: World) -> Any:
    return locked(config.folder) if comm.first else nullcontext()


def _plain(values: Any) -> Any:
    """Convert values to what a JSON round trip returns: tuples become lists."""
    if isinstance(values, Mapping):
        return {k: _plain(v) for k, v in values.items()}
    if isinstance(values, list | tuple):
        return [_plain(v) for v in values]
    return values

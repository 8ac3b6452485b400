"""The training loop, one function from top to bottom. A killed run resumes from its last checkpoint.

All random numbers are derived from (seed, step, epoch, key) and the state is a handful of numbers, so on a CPU a
resumed run matches the uninterrupted run bit for bit.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Collection, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor

from helix4d.core import ConfigError, Helix4DError, sha256_json
from helix4d.model.networks.flow import FlowTransformer
from helix4d.train.checkpoint import Checkpoint, TrainState, list_checkpoints, load_checkpoint, restore
from helix4d.train.config import Stage, TrainConfig
from helix4d.train.data.batch import Copier
from helix4d.train.data.dataset import UNREADABLE, ClipReader, Latent
from helix4d.train.data.loader import BrokenDataError, Loader, padded
from helix4d.train.figures import Figures
from helix4d.train.gradients import GradientSum
from helix4d.train.metrics import Metrics
from helix4d.train.network import agree_on_attention, build_network, load_image_encoder
from helix4d.train.objective import elements
from helix4d.train.optimizer import (
    AdaptiveClip,
    MovingAverage,
    learning_rate,
    make_optimizer,
    optimizer_tensors,
    restore_optimizer,
)
from helix4d.train.output import RunOutput
from helix4d.train.parallel import world
from helix4d.train.resume import check_changes, check_same_inputs, check_same_run, input_hashes
from helix4d.train.samples.preview import Previews
from helix4d.train.sharding import check_shardable, gather, shard, unshard
from helix4d.train.signals import stop_signals
from helix4d.train.step import Accumulator, Microbatch, Pass, smaller
from helix4d.train.validation import Validation

log = logging.getLogger("helix4d.train")

_LISTED = 20


class NonFiniteLossError(Helix4DError):
    """A loss or gradient is not finite; the message lists the clips."""


def train(config: TrainConfig, changed: Collection[str] = ()) -> TrainState:
    """Train until `config.steps` or a signal to stop, resuming from the run's last checkpoint if there is one.

    Args:
        config: settings of the run.
        changed: names of settings that may differ from those in the checkpoint, such as `optimizer.lr`.

    Raises:
        ConfigError: if the run was started with different settings or inputs, or the data does not fit the network.
        BrokenDataError: if more clips are broken than `data.max_broken` allows.
        NonFiniteLossError: if a loss or gradient is not finite.
        StorageError, StoreError: if the disk or the store refuses a write for longer than `run.patience_s`.
    """
    check_changes(changed)
    with (
        stop_signals() as requests,
        world(config.run.device, requests, config.run.timeout_s) as comm,
        RunOutput(config) if comm.first else nullcontext() as output,
    ):
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
        clips_sha256 = sha256_json([entry.key for entry in reader.entries])
        schedule = reader.schedule(network.config.resolution, config.seed)
        encoder = load_image_encoder(config.network, comm.device)
        if encoder.channels != network.config.cond_channels:
            raise ConfigError(
                f"{config.network.image_encoder} has {encoder.channels} channels per token, but the network expects "
                f"{network.config.cond_channels}"
            )
        inputs = input_hashes(reader, network, encoder)
        if not comm.is_same(int(sha256_json([clips_sha256, inputs])[:15], 16)):
            raise ConfigError(
                "the ranks read different clips, weights or statistics: make sure that all nodes read the same files"
            )

        # Training state, initial or from the last checkpoint.
        if sharded:
            shard(network)
        trained = {name: p for name, p in network.named_parameters() if p.requires_grad}
        optimizer = make_optimizer(trained, config.optimizer)
        average = MovingAverage(trained, config.optimizer)
        clip = AdaptiveClip(config.optimizer)
        step = position = 0
        broken: set[str] = set()
        changes: tuple[dict[str, Any], ...] = ()
        if saved := list_checkpoints(config.place):
            checkpoint = load_checkpoint(saved[-1])
            before = checkpoint.state
            new = check_same_run(before.config, config, changed)
            check_same_inputs(before, clips_sha256, inputs, config)
            restore(checkpoint.model, trained, str(saved[-1]))
            restore(checkpoint.ema, average.tensors, str(saved[-1]))
            average.start_share = before.start_share
            restore_optimizer(optimizer, trained, checkpoint.optimizer)
            clip = AdaptiveClip(config.optimizer, before.clip_history)
            step, position, broken = before.step, before.position, set(before.broken)
            changes = (*before.changes, *({"step": step, **change} for change in new))
            log.info("%s: resuming from step %d", config.place, step)
            for change in new:
                log.info("from step %d on, %s is %s instead of %s", step, *_change(change))
        if not comm.is_same(step):
            raise ConfigError(
                f"{config.place}: rank {comm.rank} resumes from step {step}, but other ranks from another step: set "
                "run.output to a URL, or to a folder shared by all nodes"
            )
        metrics = Metrics(config, step) if output else None
        previews = None
        if output and config.run.preview_every:
            previews = Previews(config, encoder, comm.device, output.write, requests)
        validation = Validation(config, encoder, comm) if config.run.validate_every else None
        if output:
            output.write_settings()

        def state() -> TrainState:
            return TrainState(
                step,
                position,
                tuple(sorted(broken)),
                tuple(clip.history),
                config.to_json(),
                clips_sha256,
                inputs,
                changes,
                average.start_share,
            )

        saved_step = step

        def save() -> None:
            nonlocal saved_step
            if step == saved_step:  # already saved, or no step taken yet
                return
            saved_step = step
            parts = (trained, average.tensors, optimizer_tensors(optimizer, trained))
            tensors = [gather(part, comm.first) for part in parts]
            if output:
                output.save(Checkpoint(state(), *tensors))

        network.train()
        sums = None if sharded else GradientSum(trained.values(), comm.ranks)
        accumulator = Accumulator(network, encoder, config.network.first_frame, Copier(comm.device), sums, comm)
        figures = Figures(network, config, comm.device)
        spare: Microbatch | None = None
        with Loader(reader, schedule, config, comm.rank, comm.ranks) as loader:
            for share in loader.steps(step, position, config.steps):
                microbatches = [clips for clips in share.microbatches if clips]
                unusable = set(share.broken)
                while True:
                    # One sum over the ranks gives the denominator of the loss, the broken clips, and whether to stop.
                    own = sum(elements(m, config.network.first_frame) for m in microbatches)
                    count, stop, *found = comm.sum([own, requests(), *(key in unusable for key in share.keys)])
                    broken |= {key for key, ranks in zip(share.keys, found, strict=True) if ranks}
                    check_broken(broken, config)
                    if stop:
                        break
                    passes = comm.max(len(microbatches)) if sharded else len(microbatches)
                    pieces = list(padded(microbatches, passes, spare))
                    attempt = accumulator.attempt(pieces, count, loader.upcoming)
                    stop, again = comm.sum([attempt.stopped, attempt.failed is not None])
                    if not stop and not again:
                        break
                    optimizer.zero_grad()
                    if stop:
                        break
                    if attempt.failed:
                        microbatches, given_up = smaller(microbatches, attempt.failed)
                        unusable |= {clip.key for clip in given_up}
                if stop:
                    log.info("%s: stopping after step %d", requests.received or "another rank was asked to stop", step)
                    save()
                    return state()

                # Take the step, if everything is finite.
                norm = unshard(torch.nn.utils.get_total_norm(p.grad for p in trained.values() if p.grad is not None))
                threshold = clip.apply(trained.values(), norm)
                grad_norm = finite_norm(step, norm, attempt.passes, comm.ranks)
                clip.record(grad_norm)
                for group in optimizer.param_groups:
                    group["lr"] = learning_rate(config.optimizer, step)
                optimizer.step()
                optimizer.zero_grad()
                average.update(trained, step)
                step += 1
                position += config.batch

                # Log and save.
                spare = microbatches[-1] if microbatches else spare
                figures.add_step(attempt.passes, share.waited_s, share.busy)
                if step % config.run.log_every == 0 or step == config.steps:
                    values = figures.collect(comm)
                    if validation is not None and step % config.run.validate_every == 0:
                        with figures.paused():
                            values["validation_loss"] = validation.loss(network)
                    if metrics is not None:
                        optimizing = {"grad_norm": grad_norm, "clip": threshold, "lr": group["lr"]}
                        metrics.write({"step": step, "clips": position, "broken": len(broken), **optimizing, **values})
                if step % config.run.save_every == 0 or step == config.steps:
                    save()
                if output:
                    output.check()
                if previews is not None and step % config.run.preview_every == 0:
                    with figures.paused():
                        previews.write(step, network, trained, average.tensors)
        return state()


def check_broken(broken: Collection[str], config: TrainConfig) -> None:
    """Check that no more clips are broken than allowed.

    Raises:
        BrokenDataError: if there are more.
    """
    if len(broken) > config.data.max_broken:
        raise BrokenDataError(
            f"{len(broken)} clips are missing, broken or too large, but data.max_broken is {config.data.max_broken}: "
            + f"{', '.join(sorted(broken)[:_LISTED])}. The log states each reason; repair them or raise the limit"
        )


def finite_norm(step: int, norm: Tensor, passes: Sequence[Pass], ranks: int) -> float:
    """Return the gradient norm of a step, checking it and the losses: the only point where a step waits for the device.

    Args:
        step: number of the step, for messages.
        norm: norm of the gradients, over all ranks.
        passes: microbatches of this rank.
        ranks: number of ranks.

    Raises:
        NonFiniteLossError: if the norm or a loss is not finite.
    """
    checks = [torch.isfinite(one.errors).all().to(norm.dtype) for one in passes]
    found, *finite = torch.stack([norm, *checks]).tolist()
    if not all(finite):
        clips = [(c.key, e) for one in passes for c, e in zip(one.clips, one.errors.tolist(), strict=True)]
        bad = [key for key, error in clips if not math.isfinite(error)]
        raise NonFiniteLossError(f"step {step}: non-finite loss for {', '.join(bad)}")
    if not math.isfinite(found):
        own = ", ".join(sorted({clip.key for one in passes for clip in one.clips}))
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


def _change(change: dict[str, Any]) -> tuple[Any, Any, Any]:
    return change["setting"], change["after"], change["before"]

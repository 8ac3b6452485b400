from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest
import torch

from helix4d.train.data.batch import Copier, collate, pack
from helix4d.train.data.dataset import ClipReader, TrainingClip
from helix4d.train.data.loader import Loader
from helix4d.train.data.schedule import Schedule
from helix4d.train.loop import NonFiniteLossError, finite_norm
from helix4d.train.step import Pass
from tests.train import world

CPU = torch.device("cpu")


@pytest.fixture
def config(latents: Path, shards: Path, models: Path, tmp_path: Path) -> Any:
    return world.train_config("material", latents, shards, models, tmp_path)


@pytest.fixture
def clips(config: Any) -> list[TrainingClip]:
    reader = ClipReader(config.data, config.stage)
    return [reader.training_clip(i, (0, 0, 0), 0.5) for i in range(3)]


class FakeStream:
    """A CUDA stream that notes what it was asked for."""

    def __init__(self) -> None:
        self.events: list[str] = []

    def record_event(self) -> str:
        self.events.append("copied")
        return f"event {len(self.events)}"

    def wait_event(self, event: str) -> None:
        self.events.append(f"waited for {event}")


def test_microbatches_are_copied_ahead_and_used_after_their_event(clips: list[TrainingClip]) -> None:
    side, current = FakeStream(), FakeStream()
    packed: list[Sequence[TrainingClip]] = []
    recorded: list[torch.Tensor] = []

    def collated(part: Sequence[TrainingClip], device: torch.device) -> Any:
        packed.append(part)
        return collate(part, device)

    def record_stream(self: torch.Tensor, stream: object) -> None:
        assert stream is current
        recorded.append(self)

    copier = Copier(CPU)
    copier._stream = side  # type: ignore[assignment]
    with (
        mock.patch.multiple(torch.cuda, stream=lambda _: nullcontext(), current_stream=lambda _: current),
        mock.patch.object(torch.Tensor, "record_stream", record_stream),
        mock.patch("helix4d.train.data.batch.collate", collated),
    ):
        first, second = clips[:2], clips[2:]
        assert copier.take(first).keys == tuple(clip.key for clip in first)
        copier.start(second)
        assert len(packed) == 2
        taken = copier.take(list(second))  # the same clips in another list
        assert len(packed) == 2
        copier.start([])
        assert copier.take(first).keys == tuple(clip.key for clip in first)
        copier.start(second)
        assert copier.take(first).keys == tuple(clip.key for clip in first)  # other clips than were started
    assert taken.keys == (clips[2].key,)
    assert taken.voxels is not None
    for tensor in (taken.voxels.coords, taken.side, *taken.tensors()):
        assert any(tensor is other for other in recorded)
    assert [event for event in current.events if "waited" in event] == [f"waited for event {i}" for i in (1, 2, 3, 5)]


def test_only_pinned_memory_is_copied_to_a_gpu(clips: list[TrainingClip]) -> None:
    """Copies from pageable memory would make the host wait."""
    packed, copies = pack(clips), []
    assert packed.voxels is not None
    assert packed.voxels.lengths == tuple(n for clip in clips for n in clip.latent.lengths)

    def pin(self: torch.Tensor) -> Any:
        def to(device: torch.device, non_blocking: bool) -> torch.Tensor:
            assert non_blocking
            copies.append(device)
            return self

        return SimpleNamespace(to=to)  # what must not be read before it is copied

    with mock.patch.object(torch.Tensor, "pin_memory", pin):
        batch = collate(clips, torch.device("cuda"))
    assert len(copies) == 7  # clean, noise, side, images, t, dropped, coordinates
    for moved, tensor in zip(batch.tensors(), pack(clips).tensors(), strict=True):
        assert torch.equal(moved, tensor)


def test_the_first_microbatch_of_the_next_step_is_offered_once_it_is_read(config: Any) -> None:
    reader = ClipReader(config.data, config.stage)
    with Loader(reader, Schedule(reader.costs(4), 0), config, 0, 1) as loader:
        assert loader.upcoming() == []
        shares = loader.steps(0, 0, 2)
        next(shares)
        while not all(future.done() for _, future in loader._queue[0].microbatches[0]):
            pass
        offered = loader.upcoming()
        assert offered
        first = next(shares).microbatches[0]
        assert all(a is b for a, b in zip(offered, first, strict=True))
        assert loader.upcoming() == []


def test_nothing_is_applied_unless_losses_and_norm_are_finite(clips: list[TrainingClip]) -> None:
    def one(names: str, errors: list[float]) -> Pass:
        named = [replace(clips[0], key=name) for name in names]
        return Pass(named, 1.0, torch.zeros(len(named)), torch.tensor(errors), 5)

    good, bad = one("ab", [1.0, 2.0]), one("cd", [1.0, float("nan")])
    assert finite_norm(3, torch.tensor(0.5), [good], 1) == 0.5
    assert finite_norm(3, torch.tensor(0.5), [], 1) == 0.5
    with pytest.raises(NonFiniteLossError, match=r"^step 3: non-finite loss for d$"):
        finite_norm(3, torch.tensor(float("nan")), [good, bad], 1)
    with pytest.raises(NonFiniteLossError, match=r"^step 3: non-finite gradient; clips on this rank: a, b$"):
        finite_norm(3, torch.tensor(float("inf")), [good], 1)
    with pytest.raises(NonFiniteLossError, match="a, b, unless the cause is on another rank"):
        finite_norm(3, torch.tensor(float("inf")), [good], 2)

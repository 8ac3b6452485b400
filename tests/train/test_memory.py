from __future__ import annotations

import re
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch

from helix4d.model.networks.attention.plan import AttentionBackend
from helix4d.model.networks.config import FlowConfig
from helix4d.model.networks.flow import Checkpointing
from helix4d.train.config import DataConfig, NetworkConfig, Stage, TrainConfig
from helix4d.train.memory import Kind, StepMemory, _Tracker, measure_step, step_memory
from helix4d.train.plan import plan_run
from tests.train import world

DOCS = Path(__file__).parents[2] / "docs/model.md"
FULL = FlowConfig(resolution=32, in_channels=32, out_channels=32)
TOKENS = 8192
ENCODER_BYTES = 1.21e9
"""DINOv3 ViT-L/16 in float32, which the tables of the documentation include."""


def settings(mode: Checkpointing, precision: str = "bfloat16", stage: Stage = Stage.GEOMETRY) -> TrainConfig:
    network = NetworkConfig(scratch={}, checkpointing=mode, precision=precision)
    return TrainConfig(name="memory", stage=stage, data=DataConfig(latents="", images=""), network=network)


def documented(first: str, columns: int) -> list[float]:
    """The numbers of the row of docs/model.md that begins with `first`."""
    row = re.search(rf"^\| {re.escape(first)} \|(.*)\|$", DOCS.read_text(), re.MULTILINE)
    assert row is not None, first
    cells = [float(cell) for cell in row[1].split("|")]
    assert len(cells) == columns
    return cells


@cache
def measured(mode: Checkpointing, backend: AttentionBackend, frames: int) -> StepMemory:
    return step_memory(settings(mode), FULL, [(TOKENS,) * frames], backend)


@pytest.mark.parametrize("mode", list(Checkpointing))
def test_documented_peaks(mode: Checkpointing) -> None:
    for backend, counts in ((AttentionBackend.VARLEN, (8, 16, 32)), (AttentionBackend.WINDOW, (16,))):
        stated = dict(zip((8, 16, 32), documented(f"`{mode}` | `{backend}`", 3), strict=True))
        for frames in counts:
            peak = measured(mode, backend, frames).peak + ENCODER_BYTES
            assert peak / 1e9 == pytest.approx(stated[frames], rel=0.1)


def test_documented_kinds() -> None:
    for column, mode in enumerate(Checkpointing):
        kinds = measured(mode, AttentionBackend.VARLEN, 16).kinds
        for kind in set(Kind) - {Kind.ENCODER}:
            assert kinds[kind] / 1e9 == pytest.approx(documented(str(kind), 3)[column], rel=0.1, abs=0.051), kind


def test_weights_and_states_are_counted_exactly() -> None:
    flow = replace(FULL, num_blocks=2)
    kinds = measure_step(settings(Checkpointing.BLOCKS), flow, [(64,) * 4]).kinds
    trained = 2 * (4 * 1536**2 + 4 * 1536 + 2 * 1536)
    for kind, bytes_each in ((Kind.GRADIENTS, 4), (Kind.OPTIMIZER, 8), (Kind.AVERAGE, 4)):
        assert kinds[kind] == pytest.approx(bytes_each * trained, rel=1e-3)


def test_memory_is_linear_in_the_number_of_blocks() -> None:
    for mode in Checkpointing:
        flow = replace(FULL, num_blocks=5, model_channels=256, num_heads=2)
        found, expected = (f(settings(mode), flow, [(4096,) * 4]) for f in (step_memory, measure_step))
        assert found.peak == pytest.approx(expected.peak, rel=1e-3)


@pytest.mark.parametrize("stage", list(Stage))
def test_all_stages_and_precisions_are_measured(stage: Stage) -> None:
    grid, channels = (4, (4, 4)) if stage is Stage.STRUCTURE else (8, (8 if stage is Stage.MATERIAL else 4, 4))
    flow = FlowConfig(
        resolution=grid, in_channels=channels[0], out_channels=channels[1], model_channels=64, cond_channels=32,
        num_blocks=2, num_heads=2,
    )  # fmt: skip
    clips = [(64,) * 3, (64,) * 2]
    half, full = (
        measure_step(settings(Checkpointing.NONE, precision, stage), flow, clips).kinds[Kind.ACTIVATIONS]
        for precision in ("bfloat16", "float32")
    )
    assert 0 < half < full


def test_the_tracker_counts_what_is_alive() -> None:
    with _Tracker() as tracker:
        with tracker.creating(Kind.INPUTS):
            a = torch.zeros(1024)
        tracker.reset_peak()
        b = a + 1
        del b
        c = a.view(32, 32) * 2  # as large as the result that was released
        d = c[:1]
        d.add_(1)
    assert tracker.peak[Kind.INPUTS] == 4096
    assert tracker.peak[Kind.ACTIVATIONS] == 4096
    assert sum(tracker.peak.values()) == 8192


def test_the_plan_of_a_run(latents: Path, shards: Path, models: Path, tmp_path: Path) -> None:
    plan = plan_run(world.train_config("geometry", latents, shards, models, tmp_path))
    assert re.search(r"memory per rank: \d\.\d\d GB at the peak of a microbatch of \d+ tokens", plan)

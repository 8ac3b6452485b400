"""The attention backend is chosen by timings: candidates, sizes, failures, agreement of ranks, plans of networks."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable

import pytest
import torch

from helix4d.core import ConfigError
from helix4d.model.networks.attention import choice as attention_choice
from helix4d.model.networks.attention.choice import SIZES, Case, Workload, resolve
from helix4d.model.networks.attention.plan import AttentionBackend, plan_self_attention
from helix4d.model.networks.config import AttentionPattern, FlowConfig, VideoConfig
from helix4d.model.networks.flow import SparseFlow
from helix4d.model.networks.frames import FrameLayout
from helix4d.train.network import agree_on_attention
from helix4d.train.parallel import World

AUTO, PER_FRAME, FLEX = AttentionBackend.AUTO, AttentionBackend.PER_FRAME, AttentionBackend.FLEX
VARLEN, WINDOW = AttentionBackend.VARLEN, AttentionBackend.WINDOW
GPU = torch.device("cuda", 0)
WORK = Workload(GPU, torch.bfloat16, 12, 128, VideoConfig())


@pytest.fixture(autouse=True)
def hopper(monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU that is never used, and no timings from earlier tests."""
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0) if device == GPU else (7, 5))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "H")
    monkeypatch.setattr(attention_choice, "_TRITON", True)
    monkeypatch.setattr(attention_choice, "_TIMINGS", {})


def _layout(tokens: int) -> FrameLayout:
    return FrameLayout(((tokens - 10, tokens + 10),))


def _fake(calls: list[Case]) -> Callable[[Workload, Case], float]:
    """A timer by which the window kernels win in training from 4096 tokens on, per-frame calls at 1024, else varlen."""

    def timer(work: Workload, case: Case) -> float:
        assert work == WORK
        calls.append(case)
        winner = VARLEN
        if case.training:
            winner = WINDOW if case.tokens >= 4096 else PER_FRAME
        return 1.0 if case.backend is winner else 2.0

    return timer


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, (PER_FRAME, VARLEN, WINDOW)),
        ({"dtype": torch.float16}, (PER_FRAME, VARLEN, WINDOW)),
        ({"dtype": torch.float32}, (PER_FRAME,)),
        ({"device": torch.device("cpu")}, (PER_FRAME,)),
        ({"device": torch.device("cuda", 1)}, (PER_FRAME,)),
        ({"head_channels": 12}, (PER_FRAME, WINDOW)),
        ({"head_channels": 256}, (PER_FRAME, VARLEN)),
        ({"head_channels": 512}, (PER_FRAME,)),
    ],
)
def test_candidates(changes, expected):
    assert attention_choice.supported(Workload(**{**vars(WORK), **changes})) == expected


def test_without_triton_its_kernels_are_no_candidate(monkeypatch):
    monkeypatch.setattr(attention_choice, "_TRITON", False)
    assert attention_choice.supported(WORK) == (PER_FRAME, VARLEN)


def test_candidates_are_timed_once_and_the_fastest_at_the_nearest_size_is_used(monkeypatch, caplog):
    calls: list[Case] = []
    monkeypatch.setattr(attention_choice, "time_on_gpu", _fake(calls))
    with caplog.at_level(logging.INFO, "helix4d.model"):
        for _ in range(2):
            assert resolve(AUTO, WORK, _layout(1500), training=True) == (PER_FRAME, VARLEN)
            assert resolve(AUTO, WORK, _layout(3000), training=True) == (WINDOW, VARLEN)
            assert resolve(AUTO, WORK, _layout(90_000), training=True) == (WINDOW, VARLEN)
            assert resolve(AUTO, WORK, _layout(90_000), training=False) == (VARLEN, VARLEN)
            assert resolve(AUTO, WORK, FrameLayout(((0, 0),)), training=True) == (PER_FRAME, VARLEN)
    assert len(calls) == len(set(calls)) == 2 * len(SIZES) * 3
    assert len(caplog.messages) == 1
    assert caplog.messages[0].startswith("attention on H, 12 x 128, bfloat16, window_anchor, ms at tokens per frame: ")
    assert "training 4096: per_frame 2000.00, varlen 2000.00, window 1000.00" in caplog.messages[0]


def test_named_backends_are_not_timed(monkeypatch):
    monkeypatch.setattr(attention_choice, "time_on_gpu", lambda *_: pytest.fail("timed"))
    assert resolve(PER_FRAME, WORK, _layout(100), training=True) == (PER_FRAME, PER_FRAME)
    assert resolve(FLEX, WORK, _layout(100), training=True) == (FLEX, PER_FRAME)
    assert resolve(VARLEN, WORK, _layout(100), training=True) == (VARLEN, VARLEN)
    assert resolve(WINDOW, WORK, _layout(100), training=True) == (WINDOW, VARLEN)
    cpu = Workload(**{**vars(WORK), "device": torch.device("cpu")})
    assert resolve(AUTO, cpu, _layout(100), training=True) == (PER_FRAME, PER_FRAME)
    assert resolve(WINDOW, cpu, _layout(100), training=True) == (WINDOW, PER_FRAME)


def test_a_backend_that_fails_is_reported_and_not_chosen(monkeypatch, caplog):
    def step(work: Workload, case: Case) -> Callable[[], None]:
        raise RuntimeError("out of registers")

    monkeypatch.setattr(attention_choice, "attention_step", step)
    with caplog.at_level(logging.WARNING, "helix4d.model"):
        assert attention_choice.time_on_gpu(WORK, Case(True, 1024, WINDOW)) == math.inf
    assert caplog.messages == ["attention backend window failed at 1024 tokens per frame: out of registers"]
    timings = attention_choice.measured(WORK, lambda _, case: math.inf if case.backend is WINDOW else 1.0)
    assert attention_choice.best(timings, _layout(8000), training=True) is PER_FRAME


def test_an_error_if_every_backend_fails():
    with pytest.raises(ConfigError, match="every attention backend failed at 1024"):
        attention_choice.measured(WORK, lambda *_: math.inf)


def test_ranks_choose_by_the_sum_of_their_timings(monkeypatch):
    """This rank finds the window kernels a little faster, the other finds them much slower."""
    monkeypatch.setattr(attention_choice, "time_on_gpu", _fake([]))
    monkeypatch.setattr(World, "sum", lambda self, values: [v + (5.0 if v == 1.0 else 1.0) for v in values])
    network = _network()
    network.compute_dtype = torch.bfloat16
    monkeypatch.setattr(type(network), "workload", lambda self, device: WORK)
    agree_on_attention(network, World(0, 1, GPU))
    assert resolve(AUTO, WORK, _layout(8000), training=True)[0] is WINDOW
    agree_on_attention(network, World(0, 2, GPU))
    assert resolve(AUTO, WORK, _layout(8000), training=True)[0] is PER_FRAME


def test_plans_of_a_network_have_a_backend(monkeypatch):
    network, layout = _network(), FrameLayout(((3, 2),))
    coords = torch.zeros(5, 3, dtype=torch.int32)
    asked = []

    def choose(backend, work, of, training):
        asked.append((backend, work, of, training))
        return WINDOW, VARLEN

    monkeypatch.setattr("helix4d.model.networks.flow.resolve", choose)
    context = network._context(coords, layout, 4, None)
    with torch.no_grad():
        network._context(coords, layout, 4, None)
    assert (context.self_plan.backend, context.cross_plan.backend) == (WINDOW, VARLEN)
    work = Workload(torch.device("cpu"), torch.float32, 2, 8, network.video)
    assert asked == [(AUTO, work, layout, True), (AUTO, work, layout, False)]
    with pytest.raises(ConfigError, match="needs a backend"):
        plan_self_attention(layout, layout, VideoConfig(), AUTO)


@pytest.mark.parametrize("training", [False, True])
def test_the_timed_step_runs_in_a_sampler(training):
    work = Workload(torch.device("cpu"), torch.float32, 2, 8, VideoConfig(pattern=AttentionPattern.CAUSAL))
    with torch.inference_mode():
        attention_choice.attention_step(work, Case(training, 5, PER_FRAME), frames=3)()


def _network() -> SparseFlow:
    return SparseFlow(
        FlowConfig(
            resolution=8, in_channels=4, out_channels=4, model_channels=16, cond_channels=8, num_blocks=1, num_heads=2
        ),
        VideoConfig(),
    )

"""Choose the attention backend by timing the candidates on the GPU, once per process, before the first block runs.

No table per architecture: which backend wins depends on the GPU, the pattern, and the versions of torch, cuDNN and
Triton. The plan of a batch holds the result, so recomputation in the backward pass uses the same backend.
"""

from __future__ import annotations

import importlib.util
import itertools
import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from helix4d.core import ConfigError
from helix4d.model.networks.attention.plan import AttentionBackend, plan_self_attention
from helix4d.model.networks.config import VideoConfig
from helix4d.model.networks.frames import FrameLayout

log = logging.getLogger("helix4d.model")

SIZES = (1024, 4096, 8192)
"""Tokens per frame at which candidates are timed; a batch uses the nearest in proportion."""
FRAMES = 6
"""Frames of the clip that is timed: enough for every kind of frame at the default window, 3 GB at the largest size."""
_AMPERE = (8, 0)
_FLASH_WIDTH, _WINDOW_WIDTH = 256, 128
_REPEATS = 3
_TRITON = importlib.util.find_spec("triton") is not None


@dataclass(frozen=True)
class Workload:
    """What the choice depends on, apart from the number of tokens."""

    device: torch.device
    dtype: torch.dtype
    heads: int
    head_channels: int
    video: VideoConfig


@dataclass(frozen=True)
class Case:
    """One timing: of forward and backward if `training`, else of forward."""

    training: bool
    tokens: int
    backend: AttentionBackend


Timings = Mapping[Case, float]
"""Seconds per case, always in the same order; infinite if the backend failed."""

_TIMINGS: dict[Workload, Timings] = {}


def resolve(
    backend: AttentionBackend, work: Workload, layout: FrameLayout, training: bool
) -> tuple[AttentionBackend, AttentionBackend]:
    """The backends of self-attention and of cross-attention for a batch, neither of them AUTO.

    Cross-attention, a fortieth of the arithmetic, is not timed: its keys are one range per frame, so it uses
    variable-length flash attention where that is supported.
    """
    own, candidates = backend, supported(work)
    if backend is AttentionBackend.AUTO:
        timings = measured(work)
        own = best(timings, layout, training) if timings else candidates[0]
    if backend in (AttentionBackend.PER_FRAME, AttentionBackend.FLEX):
        return own, AttentionBackend.PER_FRAME
    flash = backend is AttentionBackend.VARLEN or AttentionBackend.VARLEN in candidates
    return own, AttentionBackend.VARLEN if flash else AttentionBackend.PER_FRAME


def supported(work: Workload) -> tuple[AttentionBackend, ...]:
    """Backends that serve the workload and are worth timing: 16-bit dtypes on Ampere or later have several."""
    found = [AttentionBackend.PER_FRAME]
    half = work.dtype in (torch.float16, torch.bfloat16)
    if work.device.type == "cuda" and half and torch.cuda.get_device_capability(work.device) >= _AMPERE:
        if work.head_channels % 8 == 0 and work.head_channels <= _FLASH_WIDTH:
            found.append(AttentionBackend.VARLEN)
        if _TRITON and work.head_channels <= _WINDOW_WIDTH:
            found.append(AttentionBackend.WINDOW)
    return tuple(found)


def measured(work: Workload, timer: Callable[[Workload, Case], float] | None = None) -> Timings | None:
    """Time all candidates at the first call for this workload in this process; None if there is nothing to choose.

    Raises:
        ConfigError: if every candidate fails.
    """
    if len(candidates := supported(work)) == 1:
        return None
    if work not in _TIMINGS:
        cases = [Case(*case) for case in itertools.product((False, True), SIZES, candidates)]
        _TIMINGS[work] = {case: (timer or time_on_gpu)(work, case) for case in cases}
        log.info("%s", describe(work, _TIMINGS[work]))
        best(_TIMINGS[work], FrameLayout(((SIZES[0],),)), training=False)
    return _TIMINGS[work]


def adopt(work: Workload, timings: Timings) -> None:
    """Replace the timings of this process, so that all ranks of a run make the same choice."""
    _TIMINGS[work] = timings


def best(timings: Timings, layout: FrameLayout, training: bool) -> AttentionBackend:
    """The fastest backend for a batch, by its mean number of tokens per frame."""
    mean = max(layout.tokens, 1) / max(layout.frames, 1)
    size = min(SIZES, key=lambda tokens: abs(math.log(tokens / mean)))
    seconds = {case: s for case, s in timings.items() if (case.training, case.tokens) == (training, size)}
    fastest = min(seconds, key=lambda case: seconds[case])
    if not math.isfinite(seconds[fastest]):
        raise ConfigError(f"every attention backend failed at {size} tokens per frame: the log has the reasons")
    return fastest.backend


def describe(work: Workload, timings: Timings) -> str:
    """One line with all figures in milliseconds."""
    groups = []
    for (training, tokens), cases in itertools.groupby(timings, key=lambda case: (case.training, case.tokens)):
        figures = ", ".join(f"{case.backend} {1e3 * timings[case]:.2f}" for case in cases)
        groups.append(f"{'training' if training else 'inference'} {tokens}: {figures}")
    name = torch.cuda.get_device_name(work.device)
    shape = f"{work.heads} x {work.head_channels}, {str(work.dtype).removeprefix('torch.')}, {work.video.pattern}"
    return f"attention on {name}, {shape}, ms at tokens per frame: {'; '.join(groups)}"


def time_on_gpu(work: Workload, case: Case) -> float:
    """The median of a few runs in seconds, after one that compiles; infinite, with a warning, if the backend fails."""
    times = []
    try:
        step = attention_step(work, case)
        for _ in range(_REPEATS + 1):
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            step()
            end.record()
            end.synchronize()
            times.append(start.elapsed_time(end) / 1000)
    except Exception as error:  # noqa: BLE001  # compilers raise errors of many types, and the others can still serve
        log.warning("attention backend %s failed at %d tokens per frame: %s", case.backend, case.tokens, error)
        return math.inf
    return sorted(times[1:])[_REPEATS // 2]


def attention_step(work: Workload, case: Case, frames: int = FRAMES) -> Callable[[], None]:
    """A function that attends once on random tokens of a clip; with `training`, it also computes all gradients."""
    layout = FrameLayout(((case.tokens,) * frames,))
    plan = plan_self_attention(layout, layout, work.video, case.backend)
    shape = (layout.tokens, work.heads, work.head_channels)
    with torch.inference_mode(mode=False):  # a sampler may be running
        generator = torch.Generator(work.device).manual_seed(0)
        q, k, v, up = (torch.randn(shape, generator=generator, device=work.device).to(work.dtype) for _ in range(4))
        leaves = [x.requires_grad_(case.training) for x in (q, k, v)]

    def step() -> None:
        with torch.inference_mode(mode=False), torch.set_grad_enabled(case.training):
            out = plan.attend(*leaves)
            if case.training:
                torch.autograd.grad(out, leaves, up)

    return step

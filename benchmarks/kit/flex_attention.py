"""FlexAttention, in a separate process, because it compiles for every shape and the compiler may fail."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.kit.attention import FRAMES, PATTERNS, TOKENS, WINDOW_ANCHOR, exact, timed
from benchmarks.kit.context import Context
from benchmarks.kit.gpu_tests import run_tests
from benchmarks.kit.results import Row
from helix4d.model.networks.attention.plan import AttentionBackend
from helix4d.model.networks.frames import FrameLayout

_TESTS_S = 30.0


def measure(context: Context) -> Iterator[Row]:
    """Time the longest frames first, then compare with the dense reference, then run its tests if time is left."""
    tokens = context.pick(TOKENS[0], 16)
    others = tuple(pattern for pattern in PATTERNS if pattern is not WINDOW_ANCHOR)
    layout = FrameLayout(((tokens,) * FRAMES,))
    yield from timed(context, AttentionBackend.FLEX, layout, f"{tokens} tokens", (WINDOW_ANCHOR,))
    yield exact(context, AttentionBackend.FLEX, (WINDOW_ANCHOR,))
    yield from timed(context, AttentionBackend.FLEX, layout, f"{tokens} tokens", others)
    if context.left_s > _TESTS_S:
        yield from run_tests(context, ("tests/model/test_attention.py",), "flex")

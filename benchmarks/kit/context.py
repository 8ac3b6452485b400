"""The argument of every check: settings of the run, and functions that measure and compare."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Self, TypeVar

from benchmarks.kit.results import Ceilings, Row, Verdict

if TYPE_CHECKING:
    import torch
    from torch import Tensor

T = TypeVar("T")


@dataclass(frozen=True)
class Context:
    """Settings of a run, passed to each check.

    Attributes:
        device: "cuda" or "cpu".
        small: whether to use sizes that a CPU finishes in seconds; targets are then not judged.
        deadline: `time.time()` at which the process will be killed.
        ceilings: rates measured by the first check.
    """

    device: str
    small: bool
    deadline: float
    ceilings: Ceilings = field(default_factory=Ceilings)

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        """Parse what `to_json` returned."""
        return cls(**{**document, "ceilings": Ceilings(**document["ceilings"])})

    @property
    def on_gpu(self) -> bool:
        """Whether the check runs on a GPU."""
        return self.device == "cuda"

    @property
    def left_s(self) -> float:
        """Seconds until the process is killed."""
        return self.deadline - time.time()

    def torch_device(self) -> torch.device:
        """Return the device.

        Raises:
            RuntimeError: if it is a GPU and there is none.
        """
        import torch

        if self.on_gpu and not torch.cuda.is_available():
            raise RuntimeError("no CUDA GPU found: check the kit itself with --device cpu --small")
        if not self.on_gpu:
            torch.set_num_threads(1)
        return torch.device(self.device)

    def pick(self, full: T, small: T) -> T:
        """Return the size for this run."""
        return small if self.small else full

    def judge(self, met: bool) -> Verdict:
        """Return the verdict on a target for a GPU at full size; elsewhere a figure is only measured."""
        if self.small or not self.on_gpu:
            return Verdict.MEASURED
        return Verdict.MET if met else Verdict.MISSED

    def of_matmul(self, operations_per_s: float) -> float | None:
        """Return the share of the measured matrix rate."""
        return None if self.ceilings.matmul is None else operations_per_s / self.ceilings.matmul

    def of_copy(self, bytes_per_s: float) -> float | None:
        """Return the share of the measured copy bandwidth."""
        return None if self.ceilings.copy is None else bytes_per_s / self.ceilings.copy

    def seconds(self, call: Callable[[], object], least: int = 3, most: int = 20, budget_s: float = 0.2) -> float:
        """Return the median seconds of a call after warm-up: between CUDA events on a GPU, else by the clock.

        The warm-up also compiles. Then the call is repeated for about `budget_s`, `least` to `most` times.
        """
        call()
        one = self.once(call)
        if not self.on_gpu:
            return one
        return statistics.median(_between_events(call, min(max(least, int(budget_s / max(one, 1e-6))), most)))

    def once(self, call: Callable[[], object]) -> float:
        """Return the seconds of one call without warm-up, for calls that take long."""
        if self.on_gpu:
            return _between_events(call, 1)[0]
        start = time.perf_counter()
        call()
        return time.perf_counter() - start


def relative_error(found: Tensor, expected: Tensor) -> float:
    """Return ‖found − expected‖ / ‖expected‖, in float64 on the device of `found`."""
    expected = expected.to(found.device).double()
    return float((found.double() - expected).norm() / expected.norm())


def agreed(what: str, error: float, tolerance: float) -> Row:
    """Return a row that compares an error with a tolerance; NaN is wrong."""
    right = math.isfinite(error) and error <= tolerance
    verdict = Verdict.RIGHT if right else Verdict.WRONG
    return Row(f"{what}: error {error:.1e}", verdict, f"at most {tolerance:.0e}", values={"error": error})


def largest(errors: Iterable[float]) -> float:
    """Return the largest error; NaN counts as infinite."""
    return max(error if math.isfinite(error) else math.inf for error in errors)


def skipped(what: str, why: str) -> Row:
    """Return the row of a part that does not run here."""
    return Row(f"{what}: {why}", Verdict.SKIPPED)


def _between_events(call: Callable[[], object], count: int) -> list[float]:
    """Seconds of each of `count` calls, which are queued without waiting in between."""
    import torch

    marks = [torch.cuda.Event(enable_timing=True) for _ in range(count + 1)]
    marks[0].record()
    for mark in marks[1:]:
        call()
        mark.record()
    torch.cuda.synchronize()
    return [start.elapsed_time(end) / 1000 for start, end in pairwise(marks)]

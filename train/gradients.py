"""Sum gradients over the ranks in buckets, while the backward pass of a rank's last microbatch still runs.

Ranks may have different numbers of microbatches, even none, and may abandon a step halfway. Every rank still reduces
the same buckets in the same order once per attempt, which DistributedDataParallel cannot do.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

_BUCKET_BYTES = 1 << 26


@dataclass(eq=False)
class _Bucket:
    """Parameters whose gradients are reduced together.

    Attributes:
        parameters: the parameters.
        missing: ids of the parameters whose gradients the backward pass has not finished yet.
        flat, work: the flattened gradients and the handle of their reduction, while it runs.
    """

    parameters: list[nn.Parameter]
    missing: set[int] = field(default_factory=set)
    flat: Tensor | None = None
    work: Any = None


class GradientSum:
    """Sums gradients over the ranks; with a single rank it only fills in missing ones.

    Args:
        trained: trained parameters, in the same order on all ranks.
        ranks: number of ranks.
    """

    def __init__(self, trained: Iterable[nn.Parameter], ranks: int, bucket_bytes: int = _BUCKET_BYTES) -> None:
        self._parameters = list(trained)
        self._buckets: list[_Bucket] = []
        self._next = 0
        self._armed = False
        if ranks == 1:
            return
        size = 0
        for parameter in reversed(self._parameters):  # the backward pass finishes the last layers first
            if not self._buckets or size >= bucket_bytes:
                self._buckets.append(_Bucket([]))
                size = 0
            self._buckets[-1].parameters.append(parameter)
            size += parameter.nbytes
        for bucket in self._buckets:
            for parameter in bucket.parameters:
                parameter.register_post_accumulate_grad_hook(lambda p, bucket=bucket: self._arrived(bucket, p))

    def arm(self) -> None:
        """Reduce each bucket as soon as its gradients are complete in the next backward pass, the last of this rank."""
        self._armed = True
        for bucket in self._buckets:
            bucket.missing = {id(parameter) for parameter in bucket.parameters}

    def finish(self) -> None:
        """Reduce the remaining buckets, and wait for all of them. Missing gradients become zero.

        All ranks must call this once per attempt of a step, also without a backward pass.
        """
        self._armed = False
        for parameter in self._parameters:
            if parameter.grad is None:  # all clips of this rank are broken: the optimizer must still step
                parameter.grad = torch.zeros_like(parameter)
        while self._next < len(self._buckets):
            self._start(self._buckets[self._next])
        for bucket in self._buckets:
            self._take(bucket)
        self._next = 0

    def _arrived(self, bucket: _Bucket, parameter: nn.Parameter) -> None:
        if not self._armed:
            return
        bucket.missing.discard(id(parameter))
        # All ranks reduce the buckets in the same order, although gradients may finish in different orders.
        while self._next < len(self._buckets) and not self._buckets[self._next].missing:
            self._start(self._buckets[self._next])

    def _start(self, bucket: _Bucket) -> None:
        bucket.flat = torch.cat([p.grad.flatten() for p in bucket.parameters if p.grad is not None])
        bucket.work = dist.all_reduce(bucket.flat, async_op=True)
        self._next += 1

    @staticmethod
    def _take(bucket: _Bucket) -> None:
        if bucket.flat is None:
            raise ValueError("a bucket of gradients was not reduced")
        bucket.work.wait()
        for parameter, part in zip(
            bucket.parameters, bucket.flat.split([p.numel() for p in bucket.parameters]), strict=True
        ):
            if parameter.grad is not None:
                parameter.grad.copy_(part.view_as(parameter))
        bucket.flat = bucket.work = None

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from helix4d.train import gradients
from helix4d.train.gradients import GradientSum


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch) -> list[tuple[float, ...]]:
    """The buckets in the order in which they are reduced; the other of two ranks has the same gradients."""
    found: list[tuple[float, ...]] = []

    def all_reduce(flat: torch.Tensor, async_op: bool) -> Any:
        assert async_op
        found.append(tuple(flat.tolist()))
        return SimpleNamespace(wait=lambda: flat.mul_(2))

    monkeypatch.setattr(gradients.dist, "all_reduce", all_reduce)
    return found


def chain() -> tuple[list[nn.Parameter], torch.Tensor]:
    """Three factors, and their product: the backward pass finishes the last first."""
    factors = [nn.Parameter(torch.tensor([float(value)])) for value in (2, 3, 5)]
    x = torch.ones(1)
    for factor in factors:
        x = x * factor
    return factors, x.sum()


def test_buckets_are_reduced_during_the_last_backward_pass(launched: list[tuple[float, ...]]) -> None:
    factors, product = chain()
    sums = GradientSum(factors, 2, bucket_bytes=1)
    seen: list[int] = []
    factors[0].register_post_accumulate_grad_hook(lambda _: seen.append(len(launched)))
    product.backward(retain_graph=True)
    assert launched == []  # not the last microbatch
    sums.arm()
    product.backward()
    assert seen[1] >= 2  # later layers were being reduced before the first layer had its gradient
    sums.finish()
    assert launched == [(12,), (20,), (30,)]
    assert [float(f.grad) for f in factors if f.grad is not None] == [60, 40, 24]


def test_a_rank_without_a_backward_pass_reduces_the_same_buckets(launched: list[tuple[float, ...]]) -> None:
    factors, product = chain()
    sums = GradientSum(factors, 2, bucket_bytes=8)
    sums.finish()
    assert launched == [(0, 0), (0,)]
    sums.arm()
    (product - factors[0].detach() * 0).backward()
    sums.finish()
    assert len(launched) == 4
    single = GradientSum(alone := [nn.Parameter(torch.ones(1))], 1)
    single.arm()
    single.finish()
    assert alone[0].grad is not None
    assert len(launched) == 4


def test_buckets_keep_their_order_whatever_arrives_first(launched: list[tuple[float, ...]]) -> None:
    a, b = (nn.Parameter(torch.ones(1)) for _ in range(2))
    sums = GradientSum([a, b], 2, bucket_bytes=1)
    sums.arm()
    (a * 7).backward()  # b, which is in the first bucket, has no gradient yet
    assert launched == []
    (b * 3).backward()
    assert launched == [(3,), (7,)]
    sums.finish()

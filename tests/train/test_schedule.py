from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helix4d.core import ConfigError
from helix4d.train.config import read_config
from helix4d.train.data.schedule import Draw, Schedule, balance, busy_share, cut

REPOSITORY = Path(__file__).parents[2]
REAL = (
    2976, 3304, 6932, 7272, 7988, 8524, 9688, 11196, 12636, 12696, 13568, 13972, 14540, 15188, 15928, 16620, 17164,
    18096, 22528, 24752, 24948, 29144, 38032, 43808, 43928, 44424, 57024, 71012, 71864,
)  # fmt: skip
"""Tokens at 512³ of 16 frames of each of 29 animated glTF assets from public repositories, measured from 4 frames."""

COSTS = st.lists(st.integers(0, 1000), min_size=1, max_size=40)


@settings(deadline=None)
@given(COSTS, st.integers(1, 9), st.integers(1, 4), st.integers(0, 100), st.integers(1, 2000), st.integers(1, 5))
def test_every_clip_occurs_once_per_epoch_for_any_number_of_ranks(
    costs: list[int], batch: int, ranks: int, seed: int, budget: int, balance_steps: int
) -> None:
    schedule = Schedule(tuple(costs), seed, balance_steps=balance_steps)
    batch = max(batch, ranks)
    seen: list[Draw] = []
    for step in range(-(-(2 * len(costs) // batch + 1) // balance_steps) * balance_steps):  # whole groups of steps
        shares = schedule.shares(step * batch, batch, ranks, budget)
        assert len(shares) == ranks
        assert all(shares)
        drawn = [draw for share in shares for microbatch in share for draw in microbatch]
        # A step has the same clips for any number of ranks.
        assert sorted(map(repr, drawn)) == sorted(map(repr, schedule.step(step * batch, batch)))
        seen += drawn
        for share in shares:
            for microbatch in share:
                assert len(microbatch) == 1 or sum(costs[d.clip] for d in microbatch) <= budget
    for epoch in range(2):
        assert sorted(d.clip for d in seen if d.epoch == epoch) == list(range(len(costs)))


@given(COSTS, st.integers(1, 6))
def test_ranks_are_balanced(costs: list[int], ranks: int) -> None:
    costs = costs + [1] * ranks
    totals = [sum(costs[i] for i in members) for members in balance(costs, ranks)]
    # Assigning the longest first keeps the totals within one clip of each other.
    assert max(totals) - min(totals) <= max(costs)


def test_epochs_are_shuffled_differently_and_reproducibly() -> None:
    schedule = Schedule((1,) * 50, 7)
    first, second = ([d.clip for d in schedule.draws(start, 50)] for start in (0, 50))
    assert first != second
    assert first == [d.clip for d in Schedule((1,) * 50, 7).draws(0, 50)]
    assert first != [d.clip for d in Schedule((1,) * 50, 8).draws(0, 50)]


def test_a_step_needs_one_clip_per_rank() -> None:
    with pytest.raises(ConfigError, match="batch is 1 with 2 ranks"):
        balance([5], 2)


def test_cutting_preserves_the_order() -> None:
    assert cut([3, 0, 1, 2], [4, 9, 1, 5], 10) == [[3, 0], [1, 2]]


def test_static_and_animated_clips_are_mixed_by_weight() -> None:
    static = (True,) * 7 + (False,) * 20
    schedule = Schedule((1,) * 27, 3, static, Fraction(1, 4))
    draws = schedule.draws(0, 400)
    for batch in range(0, 400, 8):  # in every step, not only on average
        assert sum(static[d.clip] for d in draws[batch : batch + 8]) == 2
    for kind, clips in ((True, range(7)), (False, range(7, 27))):
        own = [d for d in draws if static[d.clip] is kind]
        for epoch in range(len(own) // len(clips)):
            assert sorted(d.clip for d in own if d.epoch == epoch) == list(clips)
    assert all(static[d.clip] for d in Schedule((1,) * 27, 3, static, Fraction(1)).draws(0, 20))
    with pytest.raises(ConfigError, match="0 of 3 clips are static: curate with --static also"):
        Schedule((1, 1, 1), 0, (False,) * 3, Fraction(1, 2))


def test_balanced_steps_have_clips_of_similar_length() -> None:
    rng = np.random.default_rng(0)
    costs = tuple(int(n) for n in rng.lognormal(9, 1, 500))
    spreads = {}
    for steps in (1, 8):
        schedule = Schedule(costs, 1, balance_steps=steps)
        batches = [[costs[d.clip] for d in schedule.step(4 * step, 4)] for step in range(120)]
        spreads[steps] = np.mean([np.std(np.log(batch)) for batch in batches])
        if steps > 1:  # long and short steps alternate at random
            sizes = np.array([sum(batch) for batch in batches])
            assert abs(np.corrcoef(sizes[:-1], sizes[1:])[0, 1]) < 0.3
    assert spreads[8] < 0.3 * spreads[1]
    assert busy_share([[1, 3], [2, 2]]) == 8 / 10


def test_few_ranks_wait_with_balanced_steps() -> None:
    """32 ranks with a clip each, on real numbers of tokens: the documented busy shares."""
    rng = np.random.default_rng(0)
    costs = tuple(int(n) for n in np.quantile(REAL, rng.random(1000)))  # 1000 clips of the same distribution
    base = read_config(REPOSITORY / "configs/base.yaml", ["name=x", "network.flow=x"]).data.balance_steps
    found = {}
    for balance_steps in (1, base):
        schedule = Schedule(costs, 0, balance_steps=balance_steps)
        for ranks in (8, 32):
            shares = [schedule.shares(32 * step, 32, ranks, 140_000) for step in range(96)]
            found[balance_steps, ranks] = busy_share([schedule.totals(share) for share in shares])
    assert found[1, 32] < 0.4
    assert found[base, 32] > 0.9
    assert found[base, 8] > 0.98

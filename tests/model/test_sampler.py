"""Arithmetic of the sampler: time warp, guidance, guidance interval and rescale, and the order of its solvers."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from helix4d.core import ConfigError
from helix4d.model.networks.flow_matching import clean_from_velocity, noisy, velocity, velocity_from_clean
from helix4d.model.sampling.sampler import (
    SHAPE_SAMPLER,
    STRUCTURE_SAMPLER,
    TEXTURE_SAMPLER,
    SamplerConfig,
    Solver,
    dense_spread,
    guided_velocity,
    packed_spread,
    sample,
    sample_steps,
    schedule,
)
from helix4d.model.studies.mixture_flow import MixtureFlow


def _rand(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_flow_formulas_invert_each_other():
    clean, noise = _rand(3, 5), _rand(3, 5, seed=1)
    for t in (0.0, 0.3, 1.0):
        x = noisy(clean, noise, t)
        v = velocity(clean, noise)
        torch.testing.assert_close(clean_from_velocity(x, v, t), clean)
        torch.testing.assert_close(velocity_from_clean(x, clean_from_velocity(x, v, t), t), v)
    torch.testing.assert_close(noisy(clean, noise, 1.0), noise)


def test_sampling_with_the_exact_velocity_recovers_the_data():
    clean, noise = _rand(2, 4), _rand(2, 4, seed=1)
    config = SamplerConfig(steps=5, guidance=1.0, rescale_t=3.0)
    found = sample(lambda x, t, c: velocity(clean, noise), noise, config, dense_spread)
    torch.testing.assert_close(found, clean + 1e-5 * noise)


def test_schedule():
    assert schedule(2, 1.0) == [1.0, 0.5, 0.0]
    assert schedule(2, 3.0) == [1.0, 0.75, 0.0]
    assert len(schedule(12, 5.0)) == 13


def test_defaults_are_those_of_trellis2():
    settings = {(s.guidance, s.guidance_rescale, s.rescale_t) for s in (STRUCTURE_SAMPLER, SHAPE_SAMPLER)}
    assert settings == {(7.5, 0.7, 5), (7.5, 0.5, 3)}
    assert TEXTURE_SAMPLER.guidance_interval == (0.6, 0.9)
    assert {s.steps for s in (STRUCTURE_SAMPLER, SHAPE_SAMPLER, TEXTURE_SAMPLER)} == {12}


def _counting(passes):
    def v(x, timestep, conditional):
        passes.append((timestep, conditional))
        return torch.ones_like(x) * (2 if conditional else 1)

    return v


def test_guidance_is_applied_only_inside_the_interval_and_if_not_one():
    x = _rand(2, 3)
    for t, guidance, expected in ((0.7, 3.0, [True, False]), (0.5, 3.0, [True]), (0.7, 1.0, [True])):
        passes: list = []
        config = SamplerConfig(guidance=guidance, guidance_rescale=0.0, guidance_interval=(0.6, 0.9))
        v = guided_velocity(_counting(passes), x, t, config, dense_spread)
        assert [conditional for _, conditional in passes] == expected
        assert all(timestep == 1000 * t for timestep, _ in passes)
        torch.testing.assert_close(v, torch.full_like(x, 3 * 2 - 2 * 1 if len(expected) == 2 else 2))


def test_full_rescale_produces_the_conditional_spread():
    x, plus, minus = _rand(2, 30), _rand(2, 30, seed=1), _rand(2, 30, seed=2)
    config = SamplerConfig(guidance=5.0, guidance_rescale=1.0, guidance_interval=(0.0, 1.0))
    v = guided_velocity(lambda x, t, c: plus if c else minus, x, 0.8, config, dense_spread)
    wanted = clean_from_velocity(x, plus, 0.8).std(1)
    torch.testing.assert_close(clean_from_velocity(x, v, 0.8).std(1), wanted)


def test_spreads_are_per_sample():
    x = _rand(3, 2, 4, 4, 4)
    torch.testing.assert_close(dense_spread(x).flatten(), torch.stack([one.std() for one in x]))
    packed = _rand(9, 4)
    spread = packed_spread((4, 0, 5))(packed)
    torch.testing.assert_close(spread[:4, 0], packed[:4].std(unbiased=False).expand(4))
    torch.testing.assert_close(spread[4:, 0], packed[4:].std(unbiased=False).expand(5))


def _order(flow, config):
    """Order at which the samples of 96, 192 and 384 steps converge, from their differences."""
    noise = _rand(20, 6, seed=3)
    a, b, c = (sample(flow, noise, replace(config, steps=steps), dense_spread) for steps in (96, 192, 384))
    return math.log2(float((a - b).norm() / (b - c).norm()))


@pytest.mark.parametrize(("solver", "order"), [(Solver.EULER, 1), (Solver.MULTISTEP, 2)])
@pytest.mark.parametrize("rescale", [1.0, 3.0, 5.0])
def test_order_of_the_solvers(solver, order, rescale):
    """Without guidance, on steps of equal and of unequal length."""
    flow = MixtureFlow(0.4 * _rand(5, 6), std=0.8, known=2)
    config = SamplerConfig(guidance=1.0, rescale_t=rescale, solver=solver)
    assert _order(flow, config) == pytest.approx(order, abs=0.3)


def test_the_multistep_solver_restarts_where_guidance_ends():
    """The velocity jumps there: a line through both sides would make the solver one of first order again."""
    flow = MixtureFlow(0.4 * _rand(5, 6), std=0.8, known=2)
    # The time of s = 1/3 belongs to all three schedules; the interval ends right above it.
    end = schedule(3, 3.0)[2]
    config = SamplerConfig(
        guidance=4.0, guidance_rescale=0.5, guidance_interval=(end + 1e-9, 1.0), rescale_t=3.0, solver=Solver.MULTISTEP
    )
    assert _order(flow, config) == pytest.approx(2, abs=0.3)


def test_the_multistep_solver_is_exact_where_the_velocity_is_linear_in_time():
    """After the first step, which starts without a history, and before the last, which needs none of it."""
    noise, times = _rand(2, 3), schedule(4, 3.0)
    slope = _rand(2, 3, seed=1)
    config = SamplerConfig(steps=4, guidance=1.0, rescale_t=3.0, solver=Solver.MULTISTEP)
    steps = list(sample_steps(lambda x, t, c: t / 1000 * slope, noise, config, dense_spread))
    for before, after, start, end in zip(steps[:2], steps[1:3], times[1:3], times[2:4], strict=True):
        torch.testing.assert_close(after.x, before.x - slope * (start**2 - end**2) / 2)


def test_both_solvers_ask_for_the_same_passes():
    asked = []
    for solver in Solver:
        passes: list = []
        sample(_counting(passes), _rand(2, 3), replace(STRUCTURE_SAMPLER, solver=solver), dense_spread)
        asked.append(passes)
    assert asked[0] == asked[1]
    conditional = [c for _, c in asked[0]]
    assert (conditional.count(True), conditional.count(False)) == (12, 10)  # TRELLIS.2's: 10 of 12 steps are guided


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"steps": 0}, "steps is 0"),
        ({"rescale_t": 0.0}, "rescale_t is 0"),
        ({"guidance_rescale": 1.5}, "guidance_rescale is 1.5"),
        ({"guidance_interval": (0.9, 0.1)}, "lower end exceeds"),
    ],
)
def test_invalid_settings_are_rejected(settings, message):
    with pytest.raises(ConfigError, match=message):
        SamplerConfig(**settings)

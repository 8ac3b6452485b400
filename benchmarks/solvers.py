"""Error of each solver with few steps: `benchmarks/solvers.py [RUN ...]`.

On a mixture of Gaussians, whose velocity is known, and on the networks of training runs (folders of `helix4d train`,
such as those of `make tiny`, one clip each). The error is |x - x*| / |x*|, with x* from 1000 Euler steps of the same
settings, over the sampled frames. The settings are TRELLIS.2's for each stage.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import torch
from torch import Tensor

from benchmarks.results import Column, Report, Table
from helix4d.core import generator
from helix4d.model.sampling.sampler import (
    SHAPE_SAMPLER,
    STRUCTURE_SAMPLER,
    TEXTURE_SAMPLER,
    SamplerConfig,
    Solver,
    dense_spread,
    sample,
)
from helix4d.model.studies.mixture_flow import MixtureFlow
from helix4d.train.config import Stage
from helix4d.train.data.dataset import ClipReader
from helix4d.train.export import load_trained, read_run
from helix4d.train.network import load_image_encoder
from helix4d.train.samples.sampling import sample_video

SAMPLERS = {Stage.STRUCTURE: STRUCTURE_SAMPLER, Stage.GEOMETRY: SHAPE_SAMPLER, Stage.MATERIAL: TEXTURE_SAMPLER}
STEPS = (4, 6, 8, 12, 16, 24)
CPU = torch.device("cpu")


def main() -> None:
    """Print a row per flow and solver."""
    report = Report("solvers", __doc__, quick="x* from 100 steps instead of 1000")
    report.parser.add_argument("runs", type=Path, nargs="*", help="folders of training runs")
    options = report.parse()
    exact = 100 if options.quick else 1000
    columns = (Column(f"{steps} steps", ".4f") for steps in STEPS)
    table = report.table("errors", Column("flow"), Column("solver"), *columns)
    for stage, config in SAMPLERS.items():
        add_errors(table, f"mixture, sampler of the {stage} stage", config, sample_mixture, exact)
    for folder in options.runs:
        run = read_run(folder)
        add_errors(table, f"{folder.name}, {run.stage}", SAMPLERS[run.stage], sample_run(folder), exact)
    report.save()


def add_errors(
    table: Table, name: str, config: SamplerConfig, sampled: Callable[[SamplerConfig], Tensor], exact_steps: int
) -> None:
    """Add the relative errors of each solver, by number of steps."""
    exact = sampled(replace(config, steps=exact_steps))
    for solver in Solver:
        found = [sampled(replace(config, steps=steps, solver=solver)) for steps in STEPS]
        table.add(name, str(solver), *(float((x - exact).norm() / exact.norm()) for x in found))


def sample_mixture(config: SamplerConfig) -> Tensor:
    """Sample 512 points of eight overlapping Gaussians in 16 dimensions; the condition leaves two of them."""
    draw = generator("solvers")
    means = torch.from_numpy(draw.standard_normal((8, 16)))
    noise = torch.from_numpy(draw.standard_normal((512, 16)))
    return sample(MixtureFlow(means, std=0.5, known=2), noise, config, dense_spread)


def sample_run(folder: Path) -> Callable[[SamplerConfig], Tensor]:
    """Return a function that samples the frames after the first of a run's first clip, seen in its first view."""
    run = read_run(folder)
    network, reader = load_trained(run, CPU), ClipReader(run.data, run.stage)
    cond = load_image_encoder(run.network, CPU)(reader.images(0, 0))
    latent = reader.latent(0)
    first = 1 if latent.coords is None else latent.lengths[0]
    return lambda config: sample_video(network, latent, cond, config, seed=0)[first:]


if __name__ == "__main__":
    main()

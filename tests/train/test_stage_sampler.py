from __future__ import annotations

import pytest

from helix4d.model.sampling.sampler import SHAPE_SAMPLER, STRUCTURE_SAMPLER, TEXTURE_SAMPLER, SamplerConfig
from helix4d.train.config import RunConfig, Stage
from helix4d.train.samples.sampling import stage_sampler


@pytest.mark.parametrize(
    ("stage", "sampler"),
    [(Stage.STRUCTURE, STRUCTURE_SAMPLER), (Stage.GEOMETRY, SHAPE_SAMPLER), (Stage.MATERIAL, TEXTURE_SAMPLER)],
)
def test_previews_and_ablations_sample_as_the_pipeline_does(stage: Stage, sampler: SamplerConfig) -> None:
    assert stage_sampler(stage, RunConfig().preview_guidance) == sampler
    assert stage_sampler(stage, 1.0).guidance == 1.0
    assert stage_sampler(stage, 1.0).rescale_t == sampler.rescale_t

"""The model half works where the packages of the curation half are missing: real environments are an acceptance test."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.packages import installed
from tests.triton_interpreter import run_script

pytestmark = pytest.mark.skipif(not installed("torch"), reason="torch is not installed (extra 'model')")


def test_the_model_half_works_without_the_curation_half(tmp_path: Path) -> None:
    """Import it, store voxels, encode latents, train and measure, with Blender, Ray, tyro and the decoders blocked."""
    facts = json.loads(run_script("tests.use_model_half", str(tmp_path)).splitlines()[-1])
    assert facts["modules"] > 150
    assert facts["voxels"] > 1000
    assert "cannot import zstandard. Install helix4d's dependencies" in facts["zstandard"]
    assert "cannot import ray. Install the extra 'curate'" in facts["ray"]
    assert facts["ray"].endswith("--serial")
    assert facts["encoded"] == {"done": 1}
    assert len(facts["losses"]) == 2
    assert all(0 < loss < 100 for loss in facts["losses"])
    assert all(0 <= distance < 1 for distance in facts["geometry"])

"""The model half works where the packages of the curation half are missing, simulated and real."""

from __future__ import annotations

import json
import os
import subprocess
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.environments import find_python, make_environment_of
from tests.package_tree import REPOSITORY
from tests.packages import installed
from tests.triton_interpreter import run_script

REQUIREMENTS = [
    *("fsspec", "huggingface-hub", "hypothesis", "numba", "pillow", "psutil", "pytest", "requests", "rich"),
    *("safetensors", "scipy", "transformers", "triton"),
]
"""What the model half and its tests need, besides torch and numpy."""
TESTS = [f"tests/{name}" for name in ("model", "train", "evaluation", "voxelize", "core")]


@pytest.mark.skipif(not installed("torch"), reason="torch is not installed (extra 'model')")
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


@pytest.mark.acceptance
@pytest.mark.parametrize(
    ("version", "pins"), [("3.12", ["torch==2.11.*", "numpy==2.5.*"]), ("3.13", ["torch==2.13.*", "numpy==2.4.*"])]
)
def test_the_model_halfs_tests_pass_on_other_pythons(version: str, pins: list[str], tmp_path: Path) -> None:
    """With only the dependencies of the model half; a test that needs others is skipped and names them."""
    base = find_python(version)
    if base is None:
        pytest.skip(f"there is no python{version}")
    python = make_environment_of(base, tmp_path / "environment", [*pins, *REQUIREMENTS])
    variables = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "PYTHON"))}
    report = tmp_path / "report.xml"
    command = [python, "-m", "pytest", *TESTS, "-m", "not slow and not acceptance", "-q", f"--junitxml={report}"]
    done = subprocess.run(
        [*command, "-p", "no:cacheprovider"],
        cwd=REPOSITORY,
        env=variables,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:]
    cases = list(ElementTree.parse(report).iter("testcase"))
    reasons = Counter(skipped.get("message", "") for case in cases for skipped in case.iter("skipped"))
    passed = len(cases) - reasons.total()
    print(f"Python {version}, {', '.join(pins)}: {passed} passed, {reasons.total()} skipped: {dict(reasons)}")
    assert passed > 500

"""A source folder of small sample assets, and what one undisturbed run makes of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from assets.samples import SAMPLES
from tests.curation.runs import curate


@pytest.fixture(scope="session")
def sample_source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with five of the sample assets, one of them twice, and a file that is no asset."""
    folder = tmp_path_factory.mktemp("source")
    for name in sorted(SAMPLES)[:5]:
        (folder / f"{name}.glb").write_bytes(SAMPLES[name]())
    (folder / "again").mkdir()
    (folder / "again" / "copy.glb").write_bytes(next(folder.glob("*.glb")).read_bytes())
    (folder / "broken.glb").write_bytes(b"<html>404</html>")
    return folder


@pytest.fixture(scope="session")
def reference_output(sample_source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What one undisturbed run with one worker makes of `sample_source`."""
    output = tmp_path_factory.mktemp("reference")
    curate(sample_source, output, workers=1)
    return output

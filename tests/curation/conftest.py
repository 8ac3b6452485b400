"""Fixtures: a source folder of small sample assets, the output of an undisturbed run, and an object store."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from helix4d.assets.samples import SAMPLES
from tests.curation.runs import curate
from tests.curation.s3_server import S3Server, serving_s3, use


@pytest.fixture(scope="session")
def sample_source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with five of the sample assets, one of them twice, and a file that is not an asset."""
    folder = tmp_path_factory.mktemp("source")
    for name in sorted(SAMPLES)[:5]:
        (folder / f"{name}.glb").write_bytes(SAMPLES[name]())
    (folder / "again").mkdir()
    (folder / "again" / "copy.glb").write_bytes(next(folder.glob("*.glb")).read_bytes())
    (folder / "broken.glb").write_bytes(b"<html>404</html>")
    return folder


@pytest.fixture(scope="session")
def reference_output(sample_source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output of an undisturbed run with one worker over `sample_source`."""
    output = tmp_path_factory.mktemp("reference")
    curate(sample_source, output, workers=1)
    return output


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Server]:
    """An empty object store that serves `s3://` while the test runs."""
    pytest.importorskip("s3fs", reason="the extra s3 is not installed")
    with serving_s3(S3Server()) as running:
        use(running, monkeypatch)
        yield running

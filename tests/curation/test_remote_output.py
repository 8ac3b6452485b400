"""A run into an object store that is killed and resumed by another machine."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from helix4d.core import AssetState
from helix4d.curation.publish.describe import DESCRIPTION_FILES
from helix4d.curation.shards.ledger import Ledger, parse_line
from helix4d.curation.shards.reader import ShardReader
from tests.curation.runs import curate, hashes, start
from tests.curation.s3_server import S3Server, serving_s3, use
from tests.curation.servers import sha256

pytestmark = pytest.mark.slow


def test_another_machine_resumes_a_killed_run(
    sample_source: Path, reference_output: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("s3fs", reason="the extra s3 is not installed")
    with serving_s3(S3Server(refusals=5)) as s3:
        use(s3, monkeypatch)
        options = {"workers": 1, "cache": tmp_path / "cache", "backoff_s": 0.05}
        process = start(sample_source, "s3://bucket/out", work=tmp_path / "one", **options)
        deadline = time.monotonic() + 300
        while not any(path.startswith("/bucket/out/train/") and path.endswith(".json") for path in s3.objects):
            assert process.poll() is None, process.communicate()[0]
            assert time.monotonic() < deadline
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        s3.refusals = 5
        printed = curate(sample_source, "s3://bucket/out", work=tmp_path / "two", **options)
        assert s3.refused == 10
        assert "ledger: s3://bucket/out/ledger.jsonl" in printed
        published = {path.removeprefix("/bucket/out/"): sha256(data) for path, data in s3.objects.items()}
        report = {name: digest for name, digest in published.items() if name.startswith("report/")}
        shards = {name: digest for name, digest in published.items() if "/" in name and name not in report}
        assert shards == hashes(reference_output)
        others = {"plan.json", "ledger.jsonl", "summary.json", "contact_sheet.webp", *DESCRIPTION_FILES}
        assert published.keys() - shards.keys() - report.keys() == others
        pictures = {
            path.relative_to(reference_output).as_posix(): sha256(path.read_bytes())
            for path in (reference_output / "report" / "pictures").rglob("*.*")
        }
        assert len(pictures) == 15
        assert {name: digest for name, digest in report.items() if "/pictures/" in name} == pictures
        assert report.keys() - pictures.keys() == {"report/index.html", "report/datacard.md"}
        assert "report: s3://bucket/out/report/index.html" in printed
        for number, (method, path) in enumerate(s3.log):
            if path.endswith(".json") and "/train/" in path:
                assert (method, path.replace(".json", ".tar")) in s3.log[:number]
        lines = s3.objects["/bucket/out/ledger.jsonl"].splitlines()
        outcomes = {one.asset: one for line in lines if (one := parse_line(line, "ledger"))}
        expected = Ledger(reference_output / "ledger.jsonl").outcomes
        assert {name: one.state for name, one in outcomes.items()} == {
            name: one.state for name, one in expected.items()
        }
        tar = next(name for name in shards if name.endswith(".tar"))
        keys = {key for one in outcomes.values() if one.state is AssetState.DONE for key in one.keys}
        assert set(ShardReader(f"s3://bucket/out/{tar}").keys()) <= keys
        assert not list((tmp_path / "two").rglob("*.tar"))

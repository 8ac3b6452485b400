"""Whole runs over remote assets."""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from helix4d.assets.samples import SAMPLES
from helix4d.core import AssetState, ConfigError, ReasonCode
from helix4d.curation.command import parse_config
from helix4d.curation.plan.plan_file import SourceRecord, write_plan
from helix4d.curation.plan.run_plan import plan_run
from helix4d.curation.shards.ledger import Ledger
from helix4d.curation.shards.reader import ShardReader
from helix4d.curation.verify.output import verify
from tests.assets.glb import moving_tetrahedron
from tests.curation.runs import arguments, curate, hashes
from tests.curation.servers import FileServer, HubServer, serving, sha256

pytestmark = pytest.mark.slow

SMALL = {
    "views": 0,
    "requests_per_s": 1000,
    "download_attempts": 2,
    "backoff_s": 0.01,
    "workers": 1,
    "allow_host": "127.0.0.1",
}


@pytest.fixture(scope="module")
def server() -> Iterator[FileServer]:
    names = sorted(SAMPLES)[:3]
    with serving(FileServer({f"/{name}.glb": SAMPLES[name]() for name in names})) as running:
        yield running


@pytest.fixture(scope="module")
def hub() -> Iterator[HubServer]:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("in/model.glb", moving_tetrahedron().bytes())  # it names no license, as the samples do
    with serving(HubServer(repositories={"datasets/a/b": {"x/model.zip": stream.getvalue()}})) as running:
        yield running


def rows(server: FileServer) -> list[dict[str, str]]:
    one, two, three = sorted(SAMPLES)[:3]
    return [
        {"uid": "good", "url": f"{server.url}/{one}.glb", "license": "CC BY", "artist": "Ada"},
        {"uid": "known", "url": f"{server.url}/{two}.glb", "sha256": sha256(SAMPLES[two]()), "license": "by-nc"},
        {"uid": "hub", "url": "hf://datasets/a/b@main/x/model.zip"},
        {"uid": "moved", "url": f"{server.url}/{three}.glb", "sha256": "1" * 64},
        {"uid": "gone", "url": f"{server.url}/none.glb"},
        {"uid": "page", "url": f"{server.url}/page.glb"},
        {"uid": "half", "url": f"{server.url}/half.glb"},
    ]


def states(output: Path) -> dict[str, tuple[AssetState, ReasonCode | None]]:
    return {name: (one.state, one.reason) for name, one in Ledger(output / "ledger.jsonl").outcomes.items()}


def test_a_manifest_of_good_and_bad_urls_ends_with_a_state_for_each(
    server: FileServer, hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    manifest = tmp_path / "m.jsonl"
    manifest.write_text("\n".join(json.dumps(row) for row in rows(server)))
    server.files["/page.glb"] = b"<html>please sign in</html>"
    server.files["/half.glb"] = SAMPLES[sorted(SAMPLES)[0]]()
    server.faults["/half.glb"] = [("half", 1000), *[("half", 0)] * 8]
    output = tmp_path / "out"
    options = {**SMALL, "cache": tmp_path / "cache", "licenses": "by,cc0"}
    printed = curate(manifest, output, **options)
    found = states(output)
    assert [request.path.split("/")[1] for request in hub.requests] == ["datasets", "cdn"]
    assert found == {
        "good": (AssetState.DONE, None),
        "hub": (AssetState.FILTERED, ReasonCode.LICENSE_UNKNOWN),
        "known": (AssetState.FILTERED, ReasonCode.LICENSE),
        "moved": (AssetState.FAILED, ReasonCode.CHECKSUM_MISMATCH),
        "gone": (AssetState.FAILED, ReasonCode.DOWNLOAD_FAILED),
        "page": (AssetState.FAILED, ReasonCode.NOT_GLTF),
        "half": (AssetState.FAILED, ReasonCode.DOWNLOAD_FAILED),
    }
    assert re.search(r"total\D+7\b", printed)
    readers = [ShardReader(path) for path in output.glob("*/*.tar")]
    (clip,) = [reader.clip(key) for reader in readers for key in reader.keys()]  # noqa: SIM118
    assert clip["metadata"] == {"license": "CC BY", "artist": "Ada"}
    assert clip["license"] == "by"
    # Again, with an empty cache: nothing is fetched, the plan is the same.
    asked = len(server.requests)
    config = parse_config(arguments(manifest, output, **{**options, "cache": tmp_path / "other"}))
    plan, record = plan_run(config)
    assert len(server.requests) == asked
    assert record.unreachable.keys() == {"gone", "half"}
    assert len(plan.assets()) + len(plan.left_out) == 7
    assert not verify(output).problems


def test_a_remote_folder_produces_the_same_shards_as_a_local_one(server: FileServer, tmp_path: Path) -> None:
    names = sorted(SAMPLES)[:3]
    local = tmp_path / "local"
    local.mkdir()
    with serving(FileServer({f"/set/{name}.glb": SAMPLES[name]() for name in names})) as remote:
        for name in names:
            (local / f"{name}.glb").write_bytes(SAMPLES[name]())
        largest = max(len(SAMPLES[name]()) for name in names)
        options = {**SMALL, "cache": tmp_path / "cache", "cache_gb": 1.2 * largest / 1e9}
        curate(local, tmp_path / "a", **SMALL)
        source = f"{remote.url}/set/"
        curate(source, tmp_path / "b", **options)
        assert hashes(tmp_path / "a") == hashes(tmp_path / "b")
        assert len(hashes(tmp_path / "a")) >= 4
        kept = sum(path.stat().st_size for path in (tmp_path / "cache").rglob("files/*/*/files/*"))
        assert 0 < kept <= 1.2 * largest
    # The server is gone; the plan knows what there was.
    assert len(plan_run(parse_config(arguments(source, tmp_path / "b", **options)))[0].assets()) == 3


def test_failed_downloads_are_retried_on_request_until_a_shard_is_written(server: FileServer, tmp_path: Path) -> None:
    manifest = tmp_path / "m.csv"
    manifest.write_text(f"uid,url\na,{server.url}/late.glb\n")

    def plan(**options: object) -> SourceRecord:
        named = {**SMALL, "cache": tmp_path / "cache", **options}
        config = parse_config(arguments(manifest, tmp_path / "out", **named))
        record = plan_run(config)[1]
        write_plan(config, record, {})
        return record

    assert plan().unreachable["a"].reason is ReasonCode.DOWNLOAD_FAILED
    server.files["/late.glb"] = b"late"
    assert plan().unreachable["a"].reason is ReasonCode.DOWNLOAD_FAILED
    assert not plan(retry_failed=True).unreachable
    assert plan().sources["a"]["sha256"] == sha256(b"late")
    manifest.write_text(f"uid,url,license\na,{server.url}/late.glb,CC BY\n")
    with pytest.raises(ConfigError, match="1 changed"):
        plan()

"""Passwords and signatures of URLs stay out of the plan, and a run still resumes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from helix4d.assets.samples import SAMPLES
from helix4d.core import AssetError
from helix4d.curation.config import CurateConfig, RunConfig, SampleConfig
from helix4d.curation.plan.plan_file import read_plan, write_plan
from helix4d.curation.plan.run_plan import plan_run
from helix4d.curation.remote.cache import Cache
from helix4d.curation.remote.config import DownloadConfig
from helix4d.curation.remote.files import RemoteFile
from helix4d.curation.shards.layout import PLAN_FILE, SECRETS_FILE
from tests.curation.servers import LOCAL, FileServer, serving

SECRET = "hunter2"


@pytest.fixture
def server() -> Iterator[FileServer]:
    """Two assets and a manifest with signed URLs, on a web server."""
    files = {f"/{name}.glb": SAMPLES[name]() for name in ("flag", "sprout")}
    with serving(FileServer(files)) as running:
        sign(running, SECRET)
        yield running


def sign(server: FileServer, secret: str) -> None:
    """Publish the manifest, with this secret in its URLs."""
    host = server.url.removeprefix("http://")
    rows = [f"{name},http://ann:{secret}@{host}/{name}.glb?signature={secret}" for name in ("flag", "sprout")]
    server.files["/list.csv"] = "\n".join(["uid,url", *rows]).encode()


def config_of(server: FileServer, folder: Path) -> CurateConfig:
    downloads = DownloadConfig(folder / "cache", requests_per_s=1000, backoff_s=0.0, download_attempts=1)
    source = f"{server.url}/list.csv?token={SECRET}"
    return CurateConfig(source, folder / "out", SampleConfig(), RunConfig(downloads=downloads))


def test_a_plan_contains_no_secret_and_resumes(server: FileServer, tmp_path: Path) -> None:
    config = config_of(server, tmp_path)
    plan, record = plan_run(config)
    write_plan(config, record, {})
    for path in (tmp_path / "out" / PLAN_FILE, *(tmp_path / "cache").rglob("complete.json")):
        assert SECRET not in path.read_text()
    secrets = tmp_path / "out" / SECRETS_FILE
    assert secrets.stat().st_mode & 0o777 == 0o600
    assert json.loads(secrets.read_text())["flag"].endswith(f"?signature={SECRET}")
    listed = len(server.asked("/list.csv"))
    again, record = plan_run(config)
    assert again == plan
    assert {source.remote.url for _, asset in again.assets() if (source := asset.source).remote} == set(
        json.loads(secrets.read_text()).values()
    )
    assert len(server.asked("/list.csv")) == listed, "a listing that is complete is not fetched again"


def test_metadata_is_published_without_secrets_and_outputs_of_older_versions_resume(
    server: FileServer, tmp_path: Path
) -> None:
    page = f"https://ann:{SECRET}@shop.example/a?signature={SECRET}"
    row = {"uid": "flag", "url": f"{server.url}/flag.glb", "license": f"CC BY ({page})", "links": {page: [page]}}
    (tmp_path / "list.jsonl").write_text(json.dumps(row))
    config = replace(config_of(server, tmp_path), source=str(tmp_path / "list.jsonl"))
    config = replace(config, run=RunConfig(downloads=replace(config.downloads, allow_host=LOCAL)))
    plan, record = plan_run(config)
    ((_, asset),) = plan.assets()
    hidden = "https://***@shop.example/a?***"
    assert asset.source.metadata == {"license": f"CC BY ({hidden})", "links": {hidden: [hidden]}}
    write_plan(config, record, {})
    path = tmp_path / "out" / PLAN_FILE
    assert SECRET not in path.read_text()
    path.write_text(path.read_text().replace(hidden, page))  # as version 0.4 wrote it
    assert plan_run(config)[0] == plan


def test_another_machine_lists_the_source_again(server: FileServer, tmp_path: Path) -> None:
    config = config_of(server, tmp_path)
    plan, record = plan_run(config)
    write_plan(config, record, {})
    (tmp_path / "out" / SECRETS_FILE).unlink()
    sign(server, "other-" + SECRET)
    for entry in (tmp_path / "cache" / "files").rglob("complete.json"):
        entry.unlink()
    downloads = len(server.asked("/flag.glb"))
    again, record = plan_run(config)
    assert [asset.content_sha256 for _, asset in again.assets()] == [a.content_sha256 for _, a in plan.assets()]
    assert len(server.asked("/flag.glb")) == downloads, "a new signature does not change the file"
    write_plan(config, record, {})
    stored = read_plan(tmp_path / "out")
    assert stored is not None
    assert stored.full_urls is not None
    assert "other-" in stored.full_urls["flag"]


def test_no_error_shows_a_secret(server: FileServer, tmp_path: Path) -> None:
    cache = Cache(config_of(server, tmp_path).downloads)
    host = server.url.removeprefix("http://")
    with (
        pytest.raises(AssetError, match=r"http://\*\*\*@.*/none\.glb\?\*\*\*: HTTP 404") as caught,
        cache.lease(RemoteFile(f"http://ann:{SECRET}@{host}/none.glb?signature={SECRET}")),
    ):
        pass
    assert SECRET not in str(caught.value)

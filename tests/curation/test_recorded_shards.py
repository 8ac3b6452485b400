"""The shards of the sample assets have the bytes that version 0.3.0 wrote, member by member."""

from __future__ import annotations

import json
from typing import Any

import pytest

from helix4d.assets.samples import write_samples
from tests.curation.runs import curate
from tests.data.record_shards import RECORD, cpu_model, describe_shards

pytestmark = pytest.mark.slow

RECORDED: dict[str, Any] = json.loads(RECORD.read_text())


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the same command writes today."""
    folder = tmp_path_factory.mktemp("recorded")
    write_samples(folder / "samples")
    output = folder / "shards"
    curate(folder / "samples", output, frames=16, resolution=64, views=2, image_size=64, assets_per_shard=4)
    return describe_shards(output)


def test_plan_and_configuration(written: dict[str, Any]) -> None:
    assert written["config_sha256"] == RECORDED["config_sha256"]
    assert _names(written) == _names(RECORDED)


@pytest.mark.parametrize("suffix", [".json", ".vxz"])
def test_members_without_pixels(written: dict[str, Any], suffix: str) -> None:
    assert _changed(written, suffix) == []


def test_images(written: dict[str, Any]) -> None:
    if cpu_model() != RECORDED["cpu"]:
        pytest.skip(f"pixels depend on the type of CPU: recorded on {RECORDED['cpu']}, this is {cpu_model()}")
    assert _changed(written, ".webp") == []


def _names(described: dict[str, Any]) -> dict[str, list[str]]:
    return {shard: sorted(members) for shard, members in described["shards"].items()}


def _changed(written: dict[str, Any], suffix: str) -> list[str]:
    """Names of the members that end in `suffix` and have other bytes than the recorded ones."""
    recorded = {name: sha256 for members in RECORDED["shards"].values() for name, sha256 in members.items()}
    now = {name: sha256 for members in written["shards"].values() for name, sha256 in members.items()}
    assert any(name.endswith(suffix) for name in recorded)
    return [name for name in sorted(recorded) if name.endswith(suffix) and now.get(name) != recorded[name]]

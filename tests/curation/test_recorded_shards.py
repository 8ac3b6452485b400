"""Shards of the sample assets have the recorded bytes.

All but the images are those of version 0.3.0, without what later versions added to `clip.json`. Three assets are
checked here, all in acceptance.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from helix4d.assets.samples import SAMPLES, write_samples
from tests.curation.runs import curate
from tests.data.record_shards import RECORD, cpu_model, describe_shards

pytestmark = pytest.mark.slow

RECORDED: dict[str, Any] = json.loads(RECORD.read_text())
FEW = ["caterpillar", "treasure_chest", "sprout"]  # skinned, textured, emerging


def _curated(folder: Path, source: Path) -> dict[str, Any]:
    small = {"frames": 16, "resolution": 64, "views": 2, "image_size": 64, "assets_per_shard": 4}
    curate(source, folder / "shards", cameras="even", lights="even", max_tokens=None, **small)
    return describe_shards(folder / "shards")


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the command writes today for a few of the assets."""
    folder = tmp_path_factory.mktemp("few")
    (folder / "samples").mkdir()
    for name in FEW:
        (folder / "samples" / f"{name}.glb").write_bytes(SAMPLES[name]())
    return _curated(folder, folder / "samples")


@pytest.mark.parametrize("suffix", [".json", ".vxz", ".webp"])
def test_a_few_assets(few: dict[str, Any], suffix: str) -> None:
    _skip_other_pixels(suffix)
    assert few["config_sha256"] == RECORDED["config_sha256"]
    members = _members(few)
    assert len({name.split(".")[0] for name in members}) == len(FEW)
    assert _changed(members, _members(RECORDED), suffix) == []


@pytest.mark.acceptance
def test_all_assets(tmp_path: Path) -> None:
    write_samples(tmp_path / "samples")
    written = _curated(tmp_path, tmp_path / "samples")
    assert {shard: sorted(members) for shard, members in written["shards"].items()} == {
        shard: sorted(members) for shard, members in RECORDED["shards"].items()
    }
    for suffix in (".json", ".vxz", ".webp"):
        _skip_other_pixels(suffix)
        assert _changed(_members(written), _members(RECORDED), suffix) == []


def _skip_other_pixels(suffix: str) -> None:
    if suffix == ".webp" and cpu_model() != RECORDED["cpu"]:
        pytest.skip(f"pixels depend on the type of CPU: recorded on {RECORDED['cpu']}, this is {cpu_model()}")


def _members(described: dict[str, Any]) -> dict[str, str]:
    """Name of a member -> sha256, over all shards."""
    return {name: sha256 for members in described["shards"].values() for name, sha256 in members.items()}


def _changed(now: dict[str, str], recorded: dict[str, str], suffix: str) -> list[str]:
    """Names of the members that end in `suffix` and have other bytes than the recorded ones."""
    checked = sorted(name for name in now if name.endswith(suffix))
    assert checked
    return [name for name in checked if now[name] != recorded.get(name)]

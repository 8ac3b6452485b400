"""Clips whose surfaces only change their look: kept by the filters, and voxelized with or without their emission."""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from helix4d.assets import bake, check_clip, content_hash
from helix4d.cli.main import main
from helix4d.core import AssetError, AssetState, ConfigError, ReasonCode
from helix4d.curation.config import CurateConfig, RunConfig, SampleConfig
from helix4d.curation.filters.measures import measure
from helix4d.curation.filters.thresholds import FilterConfig, judge
from helix4d.curation.plan.plan_file import write_plan
from helix4d.curation.plan.run_plan import plan_run
from helix4d.curation.shards.ledger import Ledger, Outcome
from helix4d.curation.shards.reader import ShardReader
from helix4d.curation.shards.writer import write_shard
from helix4d.curation.work.jobs import AssetJob
from helix4d.curation.work.stages import Clock, process_asset
from helix4d.voxelize import decode_vxz
from tests.assets.glb import tetrahedron

FACTS = {"split": "train", "config": {}, "config_sha256": "0" * 64, "tools": {}, "gaps": []}


def _glowing(folder: Path, strength: float = 1.0) -> Path:
    """A black tetrahedron that begins to glow in red within a second."""
    builder = tetrahedron()
    builder.gltf["materials"] = [{"pbrMetallicRoughness": {"baseColorFactor": [0, 0, 0, 1]}}]
    builder.primitive["material"] = 0
    builder.channel(0, "pointer", [0, 1], [[0, 0, 0], [strength, 0, 0]])
    target = {"path": "pointer", "extensions": {"KHR_animation_pointer": {"pointer": "/materials/0/emissiveFactor"}}}
    builder.gltf["animations"][0]["channels"][0]["target"] = target
    return builder.write(folder, "glow.glb")


def _members(folder: Path, **settings: Any) -> dict[str, bytes]:
    folder.mkdir()
    asset = _glowing(folder)
    config = SampleConfig(resolution=32, frames=3, views=0, **settings)
    job = AssetJob(asset.name, asset, content_hash(asset), folder / "part", config, device="cpu")
    assert process_asset(job, Clock(lambda event: None)).state is AssetState.DONE
    write_shard(folder / "one.tar", [job.part], FACTS)
    reader = ShardReader(folder / "one.tar")
    (key,) = reader.keys()
    return {name: reader.read(key, name) for name in reader.members(key)}


def test_a_glow_is_a_sample_with_its_own_measure(tmp_path: Path) -> None:
    ignored, added = (_members(tmp_path / name, **own) for name, own in [("a", {}), ("b", {"emissive": "add"})])
    facts = json.loads(ignored["clip.json"])
    assert facts["motion"] == 0
    assert facts["measures"]["appearance_change"] == 1
    reds = [
        [int(decode_vxz(members[f"frame_{frame:02d}.vxz"]).base_color[:, 0].max()) for frame in range(3)]
        for members in (ignored, added)
    ]
    assert reds == [[0, 0, 0], [0, 188, 255]]  # 188: linear 0.5
    assert json.loads(added["clip.json"])["config_sha256"] != facts["config_sha256"]


@pytest.mark.parametrize(("strength", "kept"), [(0.02, True), (0.005, False)])
def test_the_smallest_change_of_appearance(
    tmp_path: Path, strength: float, kept: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    clip = bake(_glowing(tmp_path, strength), 3)
    measured = measure(clip, "0000000000000001_0")
    refusal = judge(measured, FilterConfig())
    assert (refusal is None) is kept
    assert refusal is None or refusal.code is ReasonCode.NO_MOTION
    with nullcontext() if kept else pytest.raises(AssetError, match="no_motion"):
        check_clip(clip)
    Ledger(tmp_path / "out" / "ledger.jsonl").append(Outcome("a.glb", AssetState.DONE, clips=(measured,)))
    assert main(["filter", str(tmp_path / "out"), "--dry-run"]) == 0
    (row,) = [line.split() for line in capsys.readouterr().out.splitlines() if line.startswith("motion ")]
    assert row[1:5] == ["≥", "0.01", *(["1", "0"] if kept else ["0", "1"])]


def test_the_setting_is_hashed_only_where_it_is_used() -> None:
    assert "emissive" not in SampleConfig().to_json()
    assert SampleConfig(emissive="ignore").sha256() == SampleConfig().sha256()
    added = SampleConfig(emissive="add")
    assert added.sha256() != SampleConfig().sha256()
    assert SampleConfig.from_json(added.to_json()) == added
    assert SampleConfig.from_json(SampleConfig().to_json()) == SampleConfig()
    with pytest.raises(ConfigError, match="--emissive both: must be ignore or add"):
        SampleConfig(emissive="both")  # type: ignore[arg-type]


def test_a_run_is_resumed_with_its_own_setting(tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    _glowing(tmp_path / "source")
    (tmp_path / "out").mkdir()
    first = CurateConfig(str(tmp_path / "source"), tmp_path / "out", SampleConfig(emissive="add"), RunConfig())
    write_plan(first, plan_run(first)[1], {})
    plan_run(first)
    other = CurateConfig(str(tmp_path / "source"), tmp_path / "out", SampleConfig(), RunConfig())
    with pytest.raises(ConfigError, match="emissive was 'add', now 'ignore'"):
        plan_run(other)

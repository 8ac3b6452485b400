"""`helix4d curate --hdri`: views name their map, hashes depend on it, and shards are reproducible."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from helix4d.assets.samples import SAMPLES
from helix4d.cli.main import main
from helix4d.curation.config import CurateConfig, SampleConfig
from helix4d.curation.shards.reader import ShardReader
from helix4d.curation.shards.sidecar import read_sidecar
from helix4d.curation.work.jobs import AssetJob
from tests.curation.runs import arguments, curate, hashes
from tests.render.maps import landscape, write_hdr


def test_without_maps_the_configuration_hashes_as_before() -> None:
    assert "environment_maps" not in SampleConfig().to_json()
    lit = SampleConfig(environment_maps={"a.hdr": "0" * 64})
    assert lit.sha256() != SampleConfig().sha256()
    assert lit.sha256() != SampleConfig(environment_maps={"a.hdr": "1" * 64}).sha256()


def test_the_folder_is_not_part_of_the_hash(tmp_path: Path) -> None:
    found = []
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
        write_hdr(tmp_path / name / "a.hdr", landscape({}, 8))
        config = CurateConfig(str(tmp_path), tmp_path / "out", hdri=tmp_path / name).with_environment_maps()
        found.append(config.sample.sha256())
    assert found[0] == found[1]


def test_jobs_carry_the_folder(tmp_path: Path) -> None:
    for hdri in (None, tmp_path):
        job = AssetJob("a.glb", tmp_path / "a.glb", "0" * 64, tmp_path / "part", SampleConfig(), 2, hdri=hdri)
        assert AssetJob.from_json(json.loads(json.dumps(job.to_json()))) == job


@pytest.mark.slow
def test_curating_under_maps(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, maps = tmp_path / "source", tmp_path / "maps"
    source.mkdir()
    maps.mkdir()
    for name in ("ladybug", "sprout"):
        (source / f"{name}.glb").write_bytes(SAMPLES[name]())
    write_hdr(maps / "a.hdr", landscape({(1.0, 0.0, 0.5): (40.0, 30.0, 20.0)}, 32))
    write_hdr(maps / "b.hdr", landscape({}, 32))
    options: dict[str, object] = {"hdri": maps, "frames": 2, "views": 4, "image_size": 32}
    first, second = tmp_path / "first", tmp_path / "second"
    curate(source, first, workers=2, **options)
    curate(source, second, workers=1, **options)
    assert hashes(first) == hashes(second) != {}
    tar = next(first.glob("*/*.tar"))
    reader, sidecar = ShardReader(tar), read_sidecar(tar)
    assert sidecar is not None
    named = sidecar["config"]["environment_maps"]
    assert set(named) == {"a.hdr", "b.hdr"}
    keys = reader.keys()
    for key in keys:
        for view in range(4):
            lights = json.loads(reader.read(key, f"view_{view:02d}.json"))["lights"]
            placed = lights["environment_map"]
            assert lights["points"] == []
            assert placed["sha256"] == named[placed["file"]]
            assert placed["scale"] > 0
    assert main(["verify", str(first)]) == 0, capsys.readouterr()

    tar.unlink()
    capsys.readouterr()
    assert main(["verify", str(first)]) == 1
    assert f"--hdri {maps.resolve()}" in capsys.readouterr().out, "the repair command names the folder"

    write_hdr(maps / "b.hdr", landscape({}, 16))
    assert main(["curate", *arguments(source, second, **options)]) == 2, "was started with other maps"
    (maps / "b.hdr").write_bytes(b"no picture")
    assert main(["curate", *arguments(source, tmp_path / "third", **options)]) == 2

"""`helix4d curate --engine auto`: reproducible bytes, the record of the choice, resuming, and the report."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from helix4d.assets.samples import SAMPLES
from helix4d.curation.config import SampleConfig
from helix4d.curation.report.statistics import collect
from helix4d.curation.shards.reader import ShardReader
from helix4d.curation.verify.sample import check_sample
from helix4d.curation.work.gpus import choose_gpus, render_device
from tests.curation.runs import curate, hashes
from tests.render.egl import needs_egl


def test_the_choice_is_a_setting_of_samples() -> None:
    auto = SampleConfig(engine="auto")
    assert auto.sha256() != SampleConfig().sha256()
    assert SampleConfig.from_json(json.loads(json.dumps(auto.to_json()))) == auto
    assert render_device("auto", 1) == "gpu"
    assert render_device("auto", 0) == "cpu"
    assert choose_gpus(None, "auto", 1, 1, lambda gpus: ["OptiX"]) == 1


@pytest.mark.slow
@needs_egl
def test_any_number_of_workers_chooses_the_same(tmp_path: Path) -> None:
    source, folders = tmp_path / "source", [tmp_path / name for name in ("two", "one")]
    source.mkdir()
    for name in ("blob_star", "fishbowl"):
        (source / f"{name}.glb").write_bytes(SAMPLES[name]())
    options: dict[str, object] = {"engine": "auto", "lights": "even", "frames": 2}
    for folder, workers in zip(folders, (2, 1), strict=True):
        curate(source, folder, workers=workers, **options)
    assert hashes(folders[0]) == hashes(folders[1]) != {}
    curate(source, folders[0], workers=1, **options)
    assert hashes(folders[0]) == hashes(folders[1]), "a finished run starts nothing again"
    engines = {}
    for tar in folders[0].glob("*/*.tar"):
        reader = ShardReader(tar)
        for key in reader.keys():  # noqa: SIM118
            clip = reader.clip(key)
            engines[Path(clip["asset"]).stem] = clip["engine"]
            assert reader.sample(key)["engine"] == clip["engine"]
            members, settings = reader.members(key), reader.sidecar["config"]
            sha256 = reader.sidecar["config_sha256"]
            assert list(check_sample(key, members, lambda name: reader.read(key, name), (), settings, sha256)) == []  # noqa: B023
            changed = json.dumps({**clip, "engine": {"name": "auto"}}).encode()

            def read(name: str) -> bytes:
                return changed if name == "clip.json" else reader.read(key, name)  # noqa: B023

            (finding,) = check_sample(key, members, read, (), settings, sha256)
            assert finding[0] == "clip.json"
            assert "expected the one that --engine auto chose" in finding[1]
    assert engines["fishbowl"]["name"] == "cycles", "glass refracts"
    assert [set(probe) for probe in engines["fishbowl"]["probes"]] == [{"view", "frame", "psnr_db"}]
    collected = collect(folders[0])
    assert sum(collected.engines.values()) == 2
    assert collected.engines["cycles"] >= 1
    page = (folders[0] / "report" / "index.html").read_text()
    assert re.search(r'"engines":\{[^}]*"cycles":\d', page)
    assert "chosen for each sample" in (folders[0] / "report" / "datacard.md").read_text()

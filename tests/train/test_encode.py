from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from helix4d.assets import content_hash
from helix4d.assets.samples import SAMPLES
from helix4d.core import AssetState, ConfigError, sha256_file
from helix4d.curation.config import SampleConfig
from helix4d.curation.index.subset import Subset
from helix4d.curation.shards.ledger import Ledger, Outcome
from helix4d.curation.shards.reader import ShardReader
from helix4d.curation.shards.writer import write_shard
from helix4d.curation.work.jobs import AssetJob, Report
from helix4d.curation.work.stages import Clock, process_asset
from helix4d.model.checkpoint.checkpoint import CheckpointSource
from helix4d.model.latents.encode import Encoders, encode_clip
from helix4d.train.config import DataConfig, Stage
from helix4d.train.data.dataset import ClipReader, source_settings
from helix4d.train.latents import engines
from helix4d.train.latents.encode import EncodeConfig, encode
from helix4d.train.latents.jobs import EncodeJob, LatentConfig, encode_sample
from helix4d.train.latents.latents import read_member
from helix4d.voxelize import decode_vxz
from tests.packages import needs
from tests.train import world

SMALL = LatentConfig(occupancy_resolution=8)


def hashes(output: Path) -> dict[str, str]:
    found = [*output.glob("train/*"), output / "statistics.json", output / "index.json"]
    return {path.relative_to(output).as_posix(): sha256_file(path) for path in sorted(found)}


def test_latents_match_the_encoders(shards: Path, models: Path, latents: Path) -> None:
    source, encoded = (ShardReader(folder / "train/helix4d-000000.tar") for folder in (shards, latents))
    assert encoded.keys() == source.keys()
    key = encoded.keys()[0]
    assert encoded.sample(key)["tokens"] == source.sample(key)["tokens"]
    shape = read_member(encoded.read(key, "shape.safetensors"), "shape")
    texture = read_member(encoded.read(key, "texture.safetensors"), "texture")
    structure = read_member(encoded.read(key, "structure.safetensors"), "structure")
    assert shape["lengths"].tolist() == source.sample(key)["tokens"]
    assert shape["lengths"][-1] == 0  # the empty frame
    assert structure["latent"].shape == (world.FRAMES, 4, 2, 2, 2)
    encoders = Encoders.load(CheckpointSource(str(models)), torch.device("cpu"), torch.float32)
    ovoxels = [decode_vxz(source.read(key, f"frame_{f:02d}.vxz")) for f in range(world.FRAMES)]
    again = encode_clip(ovoxels, encoders, 8)
    assert torch.equal(shape["coords"], again.coords)
    assert torch.equal(shape["latent"], again.shape.half().float())
    assert torch.equal(texture["latent"], again.texture.half().float())
    statistics = json.loads((latents / "statistics.json").read_bytes())
    assert len(statistics["shape"]["mean"]) == world.LATENT
    readers = [ShardReader(tar) for tar in latents.glob("train/*.tar")]
    counts = [sum(reader.sample(entry["key"])["tokens"]) for reader in readers for entry in reader.sidecar["samples"]]
    assert statistics["shape"]["count"] == sum(counts)


def test_a_serial_run_resumes_to_the_same_bytes(
    shards: Path,
    models: Path,
    latents: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    config = EncodeConfig(shards, tmp_path / "latents", str(models), latents=SMALL, serial=True)
    started: list[str] = []

    def interrupted(job: EncodeJob, report: Report) -> Outcome:
        started.append(job.key)
        if len(started) == 3:
            raise KeyboardInterrupt
        return encode_sample(job, report)

    threads = torch.get_num_threads()
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(engines, "encode_sample", interrupted)
        encode(config)
    assert list(Ledger(config.output / "ledger.jsonl").outcomes) == started[:2]
    caplog.set_level("INFO", "helix4d.curation")
    assert encode(config) == {"done": 5}
    assert "3 of 5 clips left to do" in caplog.text
    assert hashes(config.output) == hashes(latents)
    assert (torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()) == (threads, False)
    with pytest.raises(ConfigError, match="--serial encodes in this process"):
        EncodeConfig(shards, tmp_path, str(models), workers=2, serial=True)


def test_a_subset_is_encoded_and_trained_on(shards: Path, models: Path, latents: Path, tmp_path: Path) -> None:
    keys = [key for tar in sorted(shards.glob("train/*.tar")) for key in ShardReader(tar).keys()]  # noqa: SIM118
    chosen = tmp_path / "subset.json"
    Subset("chosen by hand", (keys[0], keys[3])).write(chosen)
    config = EncodeConfig(shards, tmp_path / "latents", str(models), subset=chosen, latents=SMALL, serial=True)
    assert encode(config) == {"done": 2}
    readers = [ShardReader(tar) for tar in sorted(config.output.glob("train/*.tar"))]
    assert [reader.keys() for reader in readers] == [[keys[0]], [keys[3]]]  # the third shard has none of them
    whole = ShardReader(latents / "train/helix4d-000000.tar")
    assert readers[0].read(keys[0], "shape.safetensors") == whole.read(keys[0], "shape.safetensors")
    assert encode(config) == {"done": 2}
    for other in (replace(config, subset=None), replace(config, output=latents)):
        with pytest.raises(ConfigError, match="was started with different subset"):
            encode(other)
    Subset("", ("f" * 16 + "_0",)).write(chosen)
    with pytest.raises(ConfigError, match=r"has no sample f+_0, which the subset selects"):
        encode(config)
    data = DataConfig(latents=str(latents), images=str(shards), subset=str(chosen))
    with pytest.raises(ConfigError, match="no clips in the train split that"):
        ClipReader(data, Stage.GEOMETRY)
    Subset("", (keys[1], keys[4])).write(chosen)
    assert [entry.key for entry in ClipReader(data, Stage.GEOMETRY).entries] == [keys[1], keys[4]]


@needs("ray", "tyro")
def test_output_is_identical_after_a_kill(shards: Path, models: Path, latents: Path, tmp_path: Path) -> None:
    """Ray, killed and resumed, writes the bytes of the serial run."""
    output = tmp_path / "latents"
    command = [sys.executable, "-m", "helix4d", "encode", "--shards", shards, "--output", output, "--models", models]
    command += ["--occupancy-resolution", "8", "--workers", "2"]
    process = subprocess.Popen(
        list(map(str, command)), stderr=subprocess.DEVNULL, start_new_session=True, cwd=Path(__file__).parents[2]
    )
    while not (output / "ledger.jsonl").exists() and process.poll() is None:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not (output / "index.json").exists()
    done = len(Ledger(output / "ledger.jsonl").outcomes)
    assert 1 <= done < 5
    counts = encode(EncodeConfig(shards, output, str(models), latents=SMALL, workers=1))
    assert counts == {"done": 5}
    assert hashes(output) == hashes(latents)


def test_a_broken_clip_is_a_gap_with_a_reason(shards: Path, models: Path, tmp_path: Path) -> None:
    broken = tmp_path / "shards"
    shutil.copytree(shards / "train", broken / "train")
    tar = broken / "train/helix4d-000001.tar"
    reader = ShardReader(tar)
    first, second = reader.keys()
    offset, _ = reader.sample(first)["members"]["frame_01.vxz"]
    with open(tar, "r+b") as stream:
        stream.seek(offset)
        stream.write(b"nonsense")
    output = tmp_path / "latents"
    config = EncodeConfig(broken, output, str(models), latents=SMALL, serial=True)
    assert encode(config) == {"done": 4, "failed: corrupt_file": 1}
    encoded = ShardReader(output / "train/helix4d-000001.tar")
    assert encoded.keys() == [second]
    assert encoded.sidecar["gaps"] == [{"key": first, "state": "failed", "reason": "corrupt_file"}]
    assert not (output / "work").exists()


def test_a_resolution_of_several_is_encoded(models: Path, tmp_path: Path) -> None:
    """The latents are those of shards that hold only that resolution, and any other one is refused."""
    (tmp_path / "asset.glb").write_bytes(SAMPLES["ladybug"]())
    made = {}
    for name, resolution in (("both", "64,32"), ("alone", "32")):
        config = SampleConfig(resolution=resolution, frames=2, views=0)
        asset = tmp_path / "asset.glb"
        job = AssetJob(asset.name, asset, content_hash(asset), tmp_path / f"{name}.part", config, device="cpu")
        assert process_asset(job, Clock(lambda event: None)).state is AssetState.DONE
        facts = {
            "split": "train",
            "config": config.to_json(),
            "config_sha256": config.sha256(),
            "tools": {},
            "gaps": [],
        }
        write_shard(tmp_path / name / "train" / "helix4d-000000.tar", [job.part], facts)
        chosen = replace(SMALL, resolution=32 if name == "both" else None)
        latents = tmp_path / f"{name} latents"
        encode(EncodeConfig(tmp_path / name, latents, str(models), latents=chosen, serial=True))
        reader = ShardReader(latents / "train" / "helix4d-000000.tar")
        assert source_settings(reader.sidecar, name)["resolution"] == 32
        (key,) = reader.keys()
        made[name] = {
            member: reader.read(key, member) for member in reader.members(key) if member.endswith(".safetensors")
        }
        assert reader.clip(key)["resolution"] == 32
        assert reader.clip(key)["tokens"] == reader.sample(key)["tokens"]
    assert made["both"] == made["alone"] != {}
    with pytest.raises(ConfigError, match="no O-Voxels of resolution 128, only of 64, 32"):
        other = replace(SMALL, resolution=128)
        encode(EncodeConfig(tmp_path / "both", tmp_path / "c", str(models), latents=other, serial=True))


def test_other_encoders_are_refused(shards: Path, latents: Path, tmp_path: Path) -> None:
    other = world.write_models(tmp_path / "models", seed=1)
    with pytest.raises(ConfigError, match="started with different encoders"):
        encode(EncodeConfig(shards, latents, str(other), latents=SMALL, serial=True))

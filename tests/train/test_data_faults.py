"""Effects of data that is damaged, missing or too large."""

from __future__ import annotations

import io
import shutil
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save

from helix4d.core import ConfigError, FormatError, write_json
from helix4d.curation.shards.members import decode_image
from helix4d.train.config import Stage, TrainConfig
from helix4d.train.data.dataset import ClipReader
from helix4d.train.latents.encode import EncodeConfig, encode, plan_shards
from helix4d.train.latents.jobs import LatentConfig
from helix4d.train.latents.latents import read_member
from helix4d.train.loop import train
from tests.train import world
from tests.train.test_loop import break_member

Folders = tuple[Path, Path, Path]
_FIRST = "train/helix4d-000000"


@pytest.fixture(scope="module")
def folders(latents: Path, shards: Path, models: Path) -> Folders:
    return latents, shards, models


def without(folder: Path, to: Path, *names: str) -> Path:
    """Copy a folder, without some of its files."""
    shutil.copytree(folder, to)
    for name in names:
        (to / name).unlink()
    return to


@pytest.mark.parametrize("missing", [f"{_FIRST}.tar", f"{_FIRST}.json"])
def test_a_missing_latent_shard_is_refused_with_its_name(missing: str, folders: Folders, tmp_path: Path) -> None:
    latents = without(folders[0], tmp_path / "latents", missing)
    config = world.train_config("geometry", latents, *folders[1:], tmp_path, steps=1)
    with pytest.raises(ConfigError, match=rf"missing or incomplete shards \(1\): {_FIRST}.tar.*--allow-partial"):
        train(config)
    partial = replace(config, data=replace(config.data, allow_partial=True))
    assert len(ClipReader(partial.data, Stage.GEOMETRY)) == 3
    assert train(partial).step == 1


def test_a_missing_shard_of_images_is_refused_with_its_name(folders: Folders, tmp_path: Path) -> None:
    """Previously, its clips were counted as broken one by one, up to `max_broken`."""
    images = without(folders[1], tmp_path / "images", f"{_FIRST}.tar")
    config = world.train_config("geometry", folders[0], images, folders[2], tmp_path, steps=2)
    with pytest.raises(ConfigError, match=rf"images: missing or incomplete shards \(1\): {_FIRST}.tar. Restore"):
        train(config)
    state = train(replace(config, data=replace(config.data, allow_partial=True)))
    assert (state.step, state.broken) == (2, ())


def test_shards_without_latents_are_refused(folders: Folders, tmp_path: Path) -> None:
    """Latents of two shards, images of three."""
    latents = without(folders[0], tmp_path / "latents")
    write_json(latents / "index.json", {"version": 1, "shards": [f"{_FIRST}.tar", "train/helix4d-000002.tar"]})
    config = world.train_config("geometry", latents, *folders[1:], tmp_path, steps=1)
    with pytest.raises(ConfigError, match=r"latents: missing or incomplete shards \(1\): train/helix4d-000001.tar"):
        train(config)


@pytest.mark.parametrize("missing", [".tar", ".json", ""])
def test_encode_refuses_a_folder_that_lacks_a_shard(missing: str, folders: Folders, tmp_path: Path) -> None:
    names = [f"train/helix4d-000001{suffix}" for suffix in ((missing,) if missing else (".tar", ".json"))]
    images = without(folders[1], tmp_path / "images", *names)
    config = EncodeConfig(
        images, tmp_path / "out", str(folders[2]), latents=LatentConfig(occupancy_resolution=8), serial=True
    )
    message = (
        "not committed yet" if missing == ".json" else r"missing or incomplete shards \(1\): train/helix4d-000001.tar"
    )
    with pytest.raises(ConfigError, match=message):
        encode(config)
    assert not (tmp_path / "out").exists()
    if missing != ".json":
        planned = plan_shards(images, allow_partial=True)
        assert [shard.name for shard in planned] == [_FIRST, "train/helix4d-000002"]


def test_encode_compares_with_the_plan_of_curation(folders: Folders, tmp_path: Path) -> None:
    """The plan has 49 assets of the train split in four shards, of which three exist."""
    images = without(folders[1], tmp_path / "images")
    hashes = [f"{number * 100:016x}{'0' * 48}" for number in range(49)]
    write_json(
        images / "plan.json",
        {
            "version": 3,
            "source": "/assets",
            "limit": None,
            "sample": {"assets_per_shard": 16},
            "sources": {f"{i}.glb": {"sha256": h, "size": 1, "mtime_ns": 0} for i, h in enumerate(hashes)},
            "unreachable": {},
            "revisions": {},
            "exclude": None,
            "exclusions": {},
        },
    )
    with pytest.raises(ConfigError, match=r"missing or incomplete shards \(1\): train/helix4d-000003"):
        plan_shards(images)


def test_clips_with_too_many_tokens_are_left_out_by_the_index(folders: Folders, tmp_path: Path) -> None:
    config = world.train_config("geometry", *folders, tmp_path, steps=1)
    tokens = sorted(sum(entry.tokens) for entry in ClipReader(config.data, Stage.GEOMETRY).entries)
    limited = replace(config, data=replace(config.data, max_tokens=tokens[2]))
    reader = ClipReader(limited.data, Stage.GEOMETRY)
    assert sorted(sum(entry.tokens) for entry in reader.entries) == tokens[:3]
    train(limited)
    with pytest.raises(ConfigError, match="started with different clips"):
        train(replace(config, steps=2))
    with pytest.raises(ConfigError, match="max_tokens is 1: all 5 clips have more tokens"):
        ClipReader(replace(config.data, max_tokens=1), Stage.GEOMETRY)


def test_a_broken_preview_clip_has_no_preview(
    folders: Folders, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    key = break_member(folders[0], f"{_FIRST}.tar", 0, tmp_path / "latents")
    values = world.train_values("geometry", tmp_path / "latents", *folders[1:], tmp_path)
    values["run"] |= {"preview_every": 1, "preview_split": "train", "preview_models": str(folders[2])}
    config = world.build(TrainConfig, {**values, "steps": 1}, "test")
    assert train(config).step == 1
    assert f"step 1: no preview of {key}" in caplog.text
    others = [entry.key for entry in ClipReader(config.data, config.stage).entries][1:2]
    assert [path.stem for path in (config.folder / "previews").rglob("*.webp")] == others


@pytest.mark.parametrize("limited", [True, False])
def test_a_decompression_bomb_is_a_broken_member(limited: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    data = bytearray(webp := _webp())
    size = struct.pack("<I", (16383 - 1) | (16383 - 1) << 14)  # VP8L: 14 bits for each side minus one
    at = webp.index(b"VP8L") + 9
    data[at : at + 3] = size[:3]
    data[at + 3] = (webp[at + 3] & 0xF0) | size[3] & 0x0F
    if not limited:
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    with pytest.raises(FormatError, match=r"bomb|16383×16383 pixels|cannot read"):
        decode_image(bytes(data), "KEY.view", 32)


def _webp() -> bytes:
    stream = io.BytesIO()
    Image.new("RGBA", (32, 32)).save(stream, "WEBP", lossless=True)
    return stream.getvalue()


@pytest.mark.parametrize("error", [MemoryError(), struct.error("short"), EOFError("end"), IndexError(), RuntimeError()])
def test_every_error_of_a_decoder_is_a_broken_member(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise error

    data, latent = _webp(), save({"latent": torch.zeros(2, 3)})
    assert np.asarray(decode_image(data, "KEY.view", 32)).shape == (32, 32, 4)
    assert read_member(latent, "KEY.shape")["latent"].shape == (2, 3)
    monkeypatch.setattr(Image.Image, "copy", fail)
    monkeypatch.setattr("helix4d.train.latents.latents.load", fail)
    with pytest.raises(FormatError, match=r"KEY.view: cannot read image"):
        decode_image(data, "KEY.view", 32)
    with pytest.raises(FormatError, match=r"KEY.shape: not a safetensors file"):
        read_member(latent, "KEY.shape")

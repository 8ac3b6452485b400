"""Latents in TRELLIS.2's training folders, read as the tables there describe them."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import torch

from helix4d.core import ConfigError
from helix4d.curation.layouts.trellis2 import export_trellis2, object_name
from helix4d.curation.shards.reader import ShardReader
from helix4d.train.latents.latents import read_member
from tests.train import world


def test_latents_are_split_by_frame(shards: Path, latents: Path, tmp_path: Path) -> None:
    keys = [sample.key for sample in export_trellis2(shards, tmp_path, "train", latents)]
    kinds = {
        "shape_latents/shape_enc_next_dc_f16c32_fp16_64": ("shape", "shape_latent"),
        "pbr_latents/tex_enc_next_dc_f16c32_fp16_64": ("texture", "pbr_latent"),
        "ss_latents/ss_enc_conv3d_16l8_fp16_8": ("structure", "ss_latent"),
    }
    readers = [ShardReader(tar) for tar in latents.glob("train/*.tar")]
    objects = 0
    for folder, (kind, column) in kinds.items():
        table = {
            row["sha256"]: row for row in csv.DictReader((tmp_path / folder / "metadata.csv").read_text().splitlines())
        }
        for reader in readers:
            for key in reader.keys():  # noqa: SIM118
                stored = read_member(reader.read(key, f"{kind}.safetensors"), kind)
                shape = read_member(reader.read(key, "shape.safetensors"), "shape")
                start = 0
                for frame, tokens in enumerate(shape["lengths"].flatten().tolist()):
                    name = object_name(key, frame)
                    assert (name in table) == (tokens > 0)
                    part = slice(start, start := start + tokens)
                    if not tokens:
                        continue
                    objects += 1
                    assert table[name][f"{column}_encoded"] == "True"
                    with np.load(tmp_path / folder / f"{name}.npz") as arrays:
                        if kind == "structure":
                            assert torch.equal(torch.from_numpy(arrays["z"]), stored["latent"][frame])
                            continue
                        assert int(table[name][f"{column}_tokens"]) == tokens
                        assert (arrays["coords"].dtype, arrays["feats"].dtype) == (np.uint8, np.float32)
                        assert torch.equal(torch.from_numpy(arrays["coords"]).int(), shape["coords"][part])
                        assert torch.equal(torch.from_numpy(arrays["feats"]), stored["latent"][part])
    assert objects == 3 * (len(keys) * world.FRAMES - 1)  # one frame is empty


def test_latents_of_other_shards_are_refused(latents: Path, tmp_path: Path) -> None:
    other = world.write_shards(tmp_path / "other", ["flag"])
    with pytest.raises(ConfigError, match="was not encoded from"):
        list(export_trellis2(other, tmp_path / "e", "train", latents))
    with pytest.raises(ConfigError, match="has no latents of"):
        list(export_trellis2(other, tmp_path / "e", "train", tmp_path))

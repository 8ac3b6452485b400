from __future__ import annotations

from pathlib import Path

import fsspec
import pytest

from helix4d.core import FormatError, NewerError
from helix4d.train.data.dataset import ClipReader
from helix4d.train.latents.storage import list_shards, open_shard
from tests.train import world


def test_remote_shards_read_like_local_ones(latents: Path, shards: Path, models: Path, tmp_path: Path) -> None:
    memory = fsspec.filesystem("memory")
    for root, folder in (("latents", latents), ("shards", shards)):
        for path in [*folder.glob("train/*"), *folder.glob("*.json")]:
            memory.pipe_file(f"/{root}/{path.relative_to(folder).as_posix()}", path.read_bytes())
    local = world.train_config("material", latents, shards, models, tmp_path)
    values = world.train_values("material", latents, shards, models, tmp_path)
    values["data"] |= {"latents": "memory://latents", "images": "memory://shards"}
    remote = world.build(world.TrainConfig, values, "test")
    readers = [ClipReader(config.data, config.stage) for config in (local, remote)]
    assert readers[0].entries == readers[1].entries
    a, b = (reader.training_clip(2, (0, 0, 0), 0.0) for reader in readers)
    assert a.images.equal(b.images)
    assert a.latent.clean.equal(b.latent.clean)
    assert a.latent.side is not None
    assert a.latent.side.shape == a.latent.clean.shape
    name = list_shards("memory://latents", "train")[0]
    memory.pipe_file(f"/cut/{name}", b"short")
    memory.pipe_file(f"/cut/{name.removesuffix('.tar')}.json", (latents / name).with_suffix(".json").read_bytes())
    with pytest.raises(FormatError, match="ends after"):
        open_shard("memory://cut", name).read(readers[0].entries[0].key, "shape.safetensors")
    with pytest.raises(FormatError, match="not committed"):
        open_shard("memory://nowhere", name)


def test_newer_latent_shards_are_refused() -> None:
    memory = fsspec.filesystem("memory")
    memory.pipe_file("/newer/index.json", b'{"version": 99, "shards": []}')
    memory.pipe_file("/newer/train/a.json", b'{"version": 99, "samples": []}')
    with pytest.raises(NewerError, match=r"index\.json: list of latent shards version 99"):
        list_shards("memory://newer", "train")
    with pytest.raises(NewerError, match="shard sidecar version 99"):
        open_shard("memory://newer", "train/a.tar")

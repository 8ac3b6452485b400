from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from helix4d.assets.samples import SAMPLES
from helix4d.cli.main import main
from helix4d.curation.shards.reader import ShardReader
from helix4d.curation.verify.sample import check_sample
from helix4d.render.scene.passes import decode_depth, decode_normal
from tests.curation.runs import curate


@pytest.mark.slow
def test_passes_are_written_and_verified(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, output = tmp_path / "source", tmp_path / "out"
    source.mkdir()
    (source / "ladybug.glb").write_bytes(SAMPLES["ladybug"]())
    curate(source, output, frames=2, views=1, image_size=32, passes=True)
    reader = ShardReader(next(output.glob("*/*.tar")))
    (key,) = reader.keys()
    for frame in range(2):
        name = f"view_00_frame_{frame:02d}"
        depth = decode_depth(reader.read(key, f"{name}.depth.png16"))
        normal = decode_normal(reader.read(key, f"{name}.normal.exr"))
        alpha = np.asarray(Image.open(io.BytesIO(reader.read(key, f"{name}.webp"))))[..., 3]
        whole = alpha == 255
        assert whole.any()
        assert (depth[whole] > 1).all()
        assert np.allclose(np.linalg.norm(normal[whole], axis=1), 1, atol=0.01)
        assert not depth[alpha == 0].any()
    assert main(["verify", str(output)]) == 0, capsys.readouterr()
    content = {suffix: reader.read(key, suffix) for suffix in reader.members(key)}
    old = {suffix.replace("depth.png16", "depth.png"): data for suffix, data in content.items()}
    config, sha256 = reader.sidecar["config"], reader.sidecar["config_sha256"]
    assert list(check_sample(key, old, old.__getitem__, (), config, sha256)) == []
    del old["view_00_frame_01.depth.png"]
    found = list(check_sample(key, old, old.__getitem__, (), config, sha256))
    assert found == [("view_00_frame_01.depth.png", "missing")]

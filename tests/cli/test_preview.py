from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageSequence

from helix4d.assets.samples import SAMPLES
from helix4d.cli.main import main
from tests.render.maps import write_hdr


def test_a_preview_plays_and_turns(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asset = tmp_path / "sprout.glb"
    asset.write_bytes(SAMPLES["sprout"]())
    output = tmp_path / "sprout.webp"
    assert main(["preview", str(asset), "--output", str(output), "--frames", "4", "--image-size", "64"]) == 0
    assert str(output) in capsys.readouterr().out
    with Image.open(output) as image:
        frames = [np.asarray(frame.convert("L"), int) for frame in ImageSequence.Iterator(image)]
    assert len(frames) == 8
    assert all(frame.min() < 200 for frame in frames), "every frame shows the object"
    covered = [(frame < 250).sum() for frame in frames[:4]]
    assert covered[0] < covered[3], "it grows"
    assert np.abs(frames[0] - frames[4]).max() > 20, "it looks different from behind"


def test_a_preview_can_be_lit_by_an_environment_map(tmp_path: Path) -> None:
    asset, maps = tmp_path / "sprout.glb", tmp_path / "maps"
    asset.write_bytes(SAMPLES["sprout"]())
    maps.mkdir()
    options = ["--frames", "1", "--image-size", "48", "--hdri", str(maps)]
    assert main(["preview", str(asset), "--output", str(tmp_path / "none.webp"), *options]) == 2, (
        "the folder has no map"
    )
    light = np.zeros((16, 32, 3), np.float32)
    light[..., 0] = 1.0
    write_hdr(maps / "red.hdr", light)
    assert main(["preview", str(asset), "--output", str(tmp_path / "red.webp"), *options]) == 0
    with Image.open(tmp_path / "red.webp") as image:
        shown = np.asarray(image.convert("RGB"), int)
    covered = (shown < 250).any(axis=2)
    assert covered.any()
    assert shown[covered][:, 1:].mean() < shown[covered][:, 0].mean() - 20


def test_unusable_assets_and_presets_are_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "bad.glb").write_bytes(b"glTF")
    assert main(["preview", str(tmp_path / "bad.glb")]) == 2
    assert "bad.glb" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["preview", str(tmp_path / "bad.glb"), "--preset", "fine"])
    assert "'draft', 'train', 'reference'" in " ".join(capsys.readouterr().err.split())

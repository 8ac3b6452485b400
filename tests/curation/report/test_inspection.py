from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from helix4d.cli.main import main
from helix4d.curation.shards.reader import ShardReader
from tests.curation.outputs import output_of

pytestmark = pytest.mark.slow


def first_shard(output: Path) -> Path:
    return next(tar for tar in sorted(output.glob("train/*.tar")) if ShardReader(tar).keys())


def test_a_shard_is_listed_with_its_samples_and_gaps(
    reference_output: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gaps = 0
    for tar in sorted(reference_output.glob("*/*.tar")):
        assert main(["inspect", str(tar), "--sheet", str(tmp_path / "sheet.webp")]) == 0
        printed = capsys.readouterr().out
        assert all(key in printed for key in ShardReader(tar).keys())  # noqa: SIM118
        gaps += printed.count("no sample: broken.glb (failed: not_gltf)")
    assert gaps == 1


def test_a_sample_is_described_and_drawn(
    reference_output: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tar = first_shard(reference_output)
    key = ShardReader(tar).keys()[0]
    sheet = tmp_path / "sheet.webp"
    assert main(["inspect", str(tar), key, "--sheet", str(sheet)]) == 0
    printed = capsys.readouterr().out
    assert "view_01_frame_03.webp" in printed
    assert "resolution: 64" in printed
    assert str(sheet) in printed
    page = np.asarray(Image.open(sheet))
    assert page.shape[1] > 4 * 128 > page.shape[0] > 2 * 128  # two views by four frames
    assert page.std() > 5


def test_missing_samples_and_shards_are_reported(reference_output: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tar = first_shard(reference_output)
    assert main(["inspect", str(tar), "nokey_0"]) == 2
    assert "no sample 'nokey_0'; its samples are" in capsys.readouterr().err
    assert main(["inspect", str(tar.with_name("none.tar"))]) == 2
    assert "no such file" in capsys.readouterr().err


def test_damaged_and_missing_shards_are_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tar = first_shard(output_of(tmp_path / "out", ["a.glb"]))
    (key,) = ShardReader(tar).keys()
    assert main(["inspect", str(tar), "--sheet", str(tar / "below" / "a.webp")]) == 2
    assert "cannot write (Not a directory)" in capsys.readouterr().err
    data = bytearray(tar.read_bytes())
    offset, size = ShardReader(tar).sample(key)["members"]["view_00_frame_00.webp"]
    data[offset : offset + size] = bytes(size)
    tar.write_bytes(data)
    for arguments in ([str(tar)], [str(tar), key]):
        assert main(["inspect", *arguments]) == 2
        assert "cannot read image" in capsys.readouterr().err
    tar.unlink()
    assert main(["inspect", str(tar), key]) == 2
    assert "no such file" in capsys.readouterr().err

"""`helix4d curate --engine blenderproc --hdf5`: the usual shards, and BlenderProc's files beside them."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from helix4d.assets import bake, normalize
from helix4d.assets.samples import SAMPLES
from helix4d.cli.main import main
from helix4d.curation.shards.reader import ShardReader
from helix4d.render import Camera, Lights, RenderSettings, load_engine, sample_cameras
from tests.curation.runs import arguments, curate
from tests.render.measures import psnr
from tests.render.test_blenderproc import needs_blenderproc


@needs_blenderproc
@pytest.mark.slow
def test_shards_equal_those_of_cycles_and_files_contain_their_images(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import h5py

    source, files = tmp_path / "source", tmp_path / "files"
    source.mkdir()
    (source / "ladybug.glb").write_bytes(SAMPLES["ladybug"]())
    options = {"frames": 2, "views": 2, "image_size": 96, "workers": 1}
    curate(source, tmp_path / "shards", engine="blenderproc", hdf5=files, **options)
    reader = ShardReader(next((tmp_path / "shards").glob("*/*.tar")))
    (key,) = reader.keys()
    views = [json.loads(reader.read(key, f"view_0{view}.json")) for view in range(2)]
    cameras = [Camera.from_json(view["camera"]) for view in views]
    assert [c.to_json() for c in cameras] == [c.to_json() for c in sample_cameras(0, key, 2, 96)], "equal cameras"
    lights = [Lights.from_json(view["lights"]) for view in views]
    clip, _ = normalize(bake(source / "ladybug.glb", frames=2))
    for truth in load_engine("cycles")(clip, cameras, lights, RenderSettings(image_size=96)):
        name = f"view_0{truth.view}_frame_0{truth.frame}.webp"
        shown = np.asarray(Image.open(io.BytesIO(reader.read(key, name))))
        assert psnr(shown, truth.rgba) >= 35
        with h5py.File(files / key / f"frame_0{truth.frame}" / f"{truth.view}.hdf5") as file:
            np.testing.assert_array_equal(np.asarray(file["colors"]), shown)
    sidecar = json.loads(next((tmp_path / "shards").glob("*/*.json")).read_text())
    assert sidecar["tools"]["blenderproc"] == "2.8.0"
    assert main(["verify", str(tmp_path / "shards")]) == 0, capsys.readouterr()


def test_hdf5_files_need_the_engine_blenderproc(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["curate", *arguments(tmp_path, tmp_path / "out", hdf5=tmp_path / "files")]) == 2
    assert "engine cycles: only blenderproc writes HDF5 files" in capsys.readouterr().err

"""Reading the items of every bench, and rejecting folders that are not a bench."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torch import Tensor

from helix4d.core import ConfigError, FormatError
from helix4d.curation.shards.reader import ShardReader
from helix4d.evaluation import sample_surface
from helix4d.evaluation.geometry.sampling import Surface
from helix4d.evaluation.methods.benches import BenchName, open_bench
from helix4d.evaluation.metrics.metric import Need, NotAvailable
from helix4d.evaluation.runner import EvaluateRun, run_evaluation
from helix4d.voxelize import decode_vxz, extract_mesh
from tests.evaluation.predictions import write_actionbench_item, write_glb, write_run_file, write_stills
from tests.evaluation.shapes import moved, tripod
from tests.packages import needs
from tests.train.world import FRAMES, write_shards


def test_actionbench(tmp_path: Path) -> None:
    for name in ("b", "a"):
        write_actionbench_item(tmp_path / "data" / name, [tripod(), moved(tripod(), (1, 0, 0))], points=50)
    for data in (tmp_path, tmp_path / "data"):
        bench = open_bench("actionbench", data)
        assert [item.key for item in bench.items] == ["a", "b"]
    item = bench.items[0].read()
    assert isinstance(item.truth, Tensor)
    assert isinstance(item.video, np.ndarray)
    assert (item.frames, tuple(item.truth.shape), item.video.shape) == (2, (2, 50, 3), (2, 8, 8, 4))
    np.testing.assert_allclose(item.truth[1] - item.truth[0], [[1, 0, 0]] * 50, atol=1e-6)
    assert item.video[1, 3, 3].tolist() == [40, 100, 200, 255]

    (tmp_path / "data" / "a" / "imgs" / "01.png").unlink()
    assert isinstance(bench.items[0].read().video, NotAvailable)
    np.save(tmp_path / "data" / "a" / "surfaces.npy", np.zeros((2, 50, 3)))
    with pytest.raises(FormatError, match="6"):
        bench.items[0].read()
    (tmp_path / "data" / "b" / "surfaces.npy").write_bytes(b"no array")
    with pytest.raises(FormatError, match="cannot read array"):
        bench.items[1].read()


def test_helix4dbench(tmp_path: Path) -> None:
    folder = tmp_path / "videos" / "robot-truck"
    folder.mkdir(parents=True)
    (folder / "entry.json").write_text("{}")
    for frame in range(11):
        Image.new("RGBA", (6, 6), (frame, 0, 0, 255)).save(folder / f"frame_{frame:02d}.png")
    Image.new("RGBA", (6, 6)).save(folder / "preview.webp")
    (tmp_path / "videos" / "unfinished").mkdir()
    bench = open_bench("helix4dbench", tmp_path)
    assert [item.key for item in bench.items] == ["robot-truck"]
    assert bench.offers == {Need.VIDEO}
    item = bench.items[0].read()
    assert isinstance(item.video, np.ndarray)
    assert item.video[:, 0, 0, 0].tolist() == list(range(11))
    assert isinstance(item.truth, NotAvailable)
    (folder / "frame_03.png").write_bytes(b"no picture")
    with pytest.raises(FormatError, match="frame_03"):
        bench.items[0].read()


@needs("av")
def test_the_output_of_bench_build_is_read_frame_by_frame(tmp_path: Path) -> None:
    from helix4d.bench_builder.entry import write_entry

    frames = np.random.default_rng(0).integers(0, 256, (16, 16, 16, 4), np.uint8)
    write_entry(tmp_path / "videos" / "robot", frames, 8.0, {"id": "robot"}, tmp_path / "work")
    (item,) = open_bench("helix4dbench", tmp_path).items
    video = item.read().video
    assert isinstance(video, np.ndarray)
    np.testing.assert_array_equal(video, frames)


@needs("av")
def test_results_are_tied_to_the_build_of_the_bench(tmp_path: Path) -> None:
    """The same items with other frames are another bench: runs are not resumed on it and rows are not combined."""
    from helix4d.bench_builder.entry import write_entry

    write_stills(tmp_path / "out" / "robot", [tripod()], "frame_{:02d}.glb")
    hashes = set()
    for build in range(2):
        frames = np.full((1, 16, 16, 4), 100 + build, np.uint8)
        write_entry(tmp_path / str(build) / "videos" / "robot", frames, 8.0, {"id": "robot"}, tmp_path / "work")
        hashes.add(open_bench("helix4dbench", tmp_path / str(build)).items_sha256())
    assert len(hashes) == 2

    def run(build: int, output: str, beside: tuple[Path, ...] = ()) -> None:
        settings = EvaluateRun(
            bench="helix4dbench", data=tmp_path / str(build), predictions=tmp_path / "out", output=tmp_path / output,
            device="cpu", metrics=("clip",), pages=False, beside=beside,
        )  # fmt: skip
        run_evaluation(settings)

    run(0, "a")
    with pytest.raises(ConfigError, match="items_sha256 was"):
        run(1, "a")
    with pytest.raises(ConfigError, match="differ from the 1 of this run"):
        run(1, "b", (tmp_path / "a",))


def test_the_held_out_split_of_our_shards(tmp_path: Path) -> None:
    root = write_shards(tmp_path, ["flag", "sprout"], split="test")
    bench = open_bench("texverse-heldout", root)
    (path,) = (root / "test").glob("*.tar")
    reader = ShardReader(path)
    assert [item.key for item in bench.items] == reader.keys()
    assert Need.TRACKS not in bench.offers
    key = reader.keys()[0]
    item = bench.items[0].read()
    assert isinstance(item.truth, Tensor)
    assert isinstance(item.video, np.ndarray)
    assert item.frames == len(item.truth) == len(item.video) == FRAMES
    vertices, faces = extract_mesh(decode_vxz(reader.read(key, "frame_01.vxz")))
    # On the surface of the O-Voxel, but not at the points at which a perfect prediction is sampled.
    for axis in range(3):
        assert item.truth[1, :, axis].max() == pytest.approx(vertices[faces].reshape(-1, 3)[:, axis].max(), abs=0.01)
    same = sample_surface(Surface(vertices, faces), 100_000, 45)
    assert float((item.truth[1] - same).abs().max()) > 0.01
    again = bench.items[0].read().truth
    assert isinstance(again, Tensor)
    assert bool((again == item.truth).all())


def test_an_empty_frame_of_the_truth_is_not_available(tmp_path: Path) -> None:
    root = write_shards(tmp_path, ["flag"], split="test", empty_frame=True)
    truth = open_bench("texverse-heldout", root).items[0].read().truth
    assert isinstance(truth, NotAvailable)
    assert "ground truth, frame" in truth.reason


@pytest.mark.parametrize("name", ["actionbench", "helix4dbench", "texverse-heldout"])
def test_folders_without_a_bench_are_rejected(tmp_path: Path, name: BenchName) -> None:
    with pytest.raises(ConfigError, match=str(tmp_path)):
        open_bench(name, tmp_path)


@pytest.mark.parametrize("name", ["helix4dbench", "texverse-heldout"])
def test_benches_that_cannot_be_downloaded_require_data(name: BenchName) -> None:
    with pytest.raises(ConfigError, match="--data"):
        open_bench(name, None)


def test_actionbench_offline_reports_how_to_download_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ConfigError, match="hf download facebook/actionbench"):
        open_bench("actionbench", None, offline=True)


def test_our_own_output_on_the_held_out_split(tmp_path: Path) -> None:
    """A prediction that equals the true surface, in the layout of helix4d sample, is only a sampling distance away."""
    root = write_shards(tmp_path / "shards", ["flag"], split="test")
    (path,) = (root / "test").glob("*.tar")
    reader = ShardReader(path)
    (key,) = reader.keys()
    folder = tmp_path / "out" / key
    for frame in range(FRAMES):
        vertices, faces = extract_mesh(decode_vxz(reader.read(key, f"frame_{frame:02d}.vxz")))
        y_up = np.stack([vertices[:, 0], vertices[:, 2], -vertices[:, 1]], axis=1)
        write_glb(folder / f"frame_{frame:02d}.glb", Surface(y_up, faces))
    write_run_file(folder, [1] * FRAMES)
    run = EvaluateRun(
        bench="texverse-heldout",
        data=root,
        predictions=tmp_path / "out",
        output=tmp_path / "scores",
        device="cpu",
        pruned=True,
        points=20_000,
        alignment_points=60,
        metrics=("cd_3d", "cd_4d", "cd_m"),
        pages=False,
    )
    table = run_evaluation(run)
    (row, *published) = table.rows
    # About 1.5 times the mean distance between neighbors of 20,000 and 100,000 points on this surface.
    for name in ("cd_3d", "cd_4d"):
        value = row.cells[name].value
        assert value is not None
        assert value < 0.04
    assert row.cells["cd_m"].reason == "the item has no points that are tracked through all frames (1 of 1)"
    assert [(p.method, p.cells["cd_3d"].value) for p in published] == [("ActionMesh", 0.056), ("Helix4D", 0.045)]

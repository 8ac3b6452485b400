"""The scripts in `examples/` do what their docstrings say, on a small output and on small meshes."""

from __future__ import annotations

import io
import json
import runpy
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from helix4d.assets import bake_still
from helix4d.curation.shards.reader import ShardReader
from helix4d.curation.shards.track_files import decode_tracks
from helix4d.render import Camera, project
from helix4d.voxelize import read_vxz, write_vxz
from tests.curation.outputs import FRAMES, IMAGE_SIZE, VIEWS, output_of, ovoxels_of
from tests.curation.servers import FileServer, serving

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def run(name: str, *arguments: object) -> None:
    """Run an example as `python examples/NAME ARGUMENTS` does."""
    before, sys.argv = sys.argv, [name, *map(str, arguments)]
    try:
        runpy.run_path(str(EXAMPLES / name), run_name="__main__")
    finally:
        sys.argv = before


@pytest.fixture(scope="module")
def shard(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first shard of an output of two assets."""
    output = output_of(tmp_path_factory.mktemp("output"), ["cat.glb", "dog.glb"])
    return sorted(output.glob("*/*.tar"))[0]


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.name)
def test_docstring_shows_the_command(path: Path) -> None:
    lines = path.read_text().splitlines()
    assert lines[0].startswith('"""')
    assert any(line.startswith(f"    python examples/{path.name} ") for line in lines[:8])
    assert len(lines) <= 60


def test_read_shards(shard: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run("read_shards.py", shard, "--view", 1, "--frame", 2)
    printed = capsys.readouterr().out.splitlines()
    reader = ShardReader(shard)
    assert [line.split()[0] for line in printed] == reader.keys()
    for line, key in zip(printed, reader.keys(), strict=True):
        assert f"image ({IMAGE_SIZE}, {IMAGE_SIZE}, 4)" in line
        assert f"{reader.clip(key)['voxels'][2]} voxels" in line


@pytest.mark.parametrize("scheme", ["path", "file", "http"])
def test_read_one_view(shard: Path, tmp_path: Path, scheme: str) -> None:
    server = FileServer({f"/{path.name}": path.read_bytes() for path in shard.parent.glob(f"{shard.stem}.*")})
    with serving(server):
        place = {"path": str(shard), "file": shard.as_uri(), "http": f"{server.url}/{shard.name}"}[scheme]
        run("read_one_view.py", place, "--view", 1, "--output", tmp_path)
    key = ShardReader(shard).keys()[0]
    expected = ["view_01.json", *(f"view_01_frame_{frame:02d}.webp" for frame in range(FRAMES))]
    assert sorted(path.name for path in tmp_path.iterdir()) == expected
    with tarfile.open(shard) as archive:
        for name in expected:
            stream = archive.extractfile(f"{key}.{name}")
            assert stream is not None
            assert (tmp_path / name).read_bytes() == stream.read()
    if scheme == "http":
        transferred = sum(request.sent for request in server.asked(f"/{shard.name}"))
        assert transferred == sum(path.stat().st_size for path in tmp_path.iterdir())


def test_export_cameras_projects_as_the_shard_does(shard: Path, tmp_path: Path) -> None:
    run("export_cameras.py", shard, "--frame", 1, "--output", tmp_path)
    scene = json.loads((tmp_path / "transforms.json").read_text())
    reader = ShardReader(shard)
    key = reader.keys()[0]
    points = np.random.default_rng(0).uniform(-0.5, 0.5, (50, 3))
    assert len(scene["frames"]) == VIEWS
    for view, frame in enumerate(scene["frames"]):
        camera = Camera.from_json(json.loads(reader.read(key, f"view_{view:02d}.json"))["camera"])
        expected, depth = project(camera, points)
        assert depth.min() > 0
        to_camera = np.linalg.inv(np.array(frame["transform_matrix"]))
        x, y, z = (points @ to_camera[:3, :3].T + to_camera[:3, 3]).T
        # OpenGL's axes: the camera looks along -z, y is up; pixel rows count downward.
        pixels = np.stack([frame["cx"] + frame["fl_x"] * x / -z, frame["cy"] - frame["fl_y"] * y / -z], axis=1)
        np.testing.assert_allclose(pixels, expected, atol=1e-9)
        np.testing.assert_allclose(-z, depth, atol=1e-12)
        with Image.open(tmp_path / frame["file_path"]) as image:
            assert (image.mode, image.size) == ("RGBA", (frame["w"], frame["h"]))
            webp = Image.open(io.BytesIO(reader.read(key, f"view_{view:02d}_frame_01.webp")))
            np.testing.assert_array_equal(np.asarray(image), np.asarray(webp))
    # instant-ngp's unit cube holds the object.
    assert scene["scale"] * 0.5 + scene["offset"][0] == 1.0


def test_scene_flow_follows_the_points(tmp_path: Path) -> None:
    output = output_of(tmp_path / "output", ["cat.glb"], tracks=True)
    shard = sorted(output.glob("*/*.tar"))[0]
    run("scene_flow.py", shard, "--frames", 0, 2, "--output", tmp_path / "flow.npz")
    flow = np.load(tmp_path / "flow.npz")
    reader = ShardReader(shard)
    key = reader.keys()[0]
    tracks = decode_tracks(reader.read(key, "tracks.npz"), FRAMES, 64, key)
    camera = Camera.from_json(json.loads(reader.read(key, "view_00.json"))["camera"])
    assert flow["pixels"].shape == (64, 2, 2)
    for place, frame in enumerate((0, 2)):
        expected, _ = project(camera, tracks.positions[frame])
        np.testing.assert_allclose(flow["pixels"][:, place], expected, atol=1e-9)
        turned = tracks.positions[frame] @ camera.extrinsics[:3, :3].T + camera.extrinsics[:3, 3]
        np.testing.assert_allclose(flow["points"][:, place], turned, atol=1e-6)
    towards = ((camera.position - tracks.positions[0]) * tracks.normals[0]).sum(axis=1)
    assert not flow["visible"][towards <= 0].any(), "the back of the sphere is hidden"
    assert flow["visible"][towards > 0.2 * towards.max()].mean() > 0.8


@pytest.mark.parametrize("source", ["file", "shard"])
def test_ovoxel_to_glb(shard: Path, tmp_path: Path, source: str) -> None:
    pytest.importorskip("xatlas", reason="the extra model is not installed")
    path = tmp_path / "frame.vxz"
    write_vxz(path, ovoxels_of(0)[1])
    arguments = [path] if source == "file" else [shard, "--frame", 1]
    run("ovoxel_to_glb.py", *arguments, "--texture-size", 128, "--output", tmp_path / "frame.glb")
    if source == "shard":
        reader = ShardReader(shard)
        path.write_bytes(reader.read(reader.keys()[0], "frame_01.vxz"))
    ovoxel = read_vxz(path)
    still = bake_still(tmp_path / "frame.glb")
    points = (ovoxel.coords + ovoxel.dual_vertices) / ovoxel.resolution - 0.5
    vertices = still.frames[0].vertices
    np.testing.assert_allclose(vertices.min(axis=0), points.min(axis=0), atol=1e-5)
    np.testing.assert_allclose(vertices.max(axis=0), points.max(axis=0), atol=1e-5)
    # The spheres have one color, which the texture repeats.
    expected = np.append(np.median(ovoxel.base_color, axis=0), 255)
    assert np.abs(np.median(still.images[0].reshape(-1, 4), axis=0) - expected).max() <= 1


def test_evaluate_meshes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch = pytest.importorskip("torch", reason="the extra model is not installed")
    torch.set_num_threads(1)
    from tests.evaluation.predictions import write_stills
    from tests.evaluation.shapes import box, join, moved, tripod

    reference = [moved(tripod(), (0.1 * frame, 0, 0)) for frame in range(3)]
    changed = [join(surface, box((0.3, 0.1, 0.1), (0.45, 0.3, 0.3))) for surface in reference]
    write_stills(tmp_path / "reference", reference)
    write_stills(tmp_path / "same", [moved(surface, (0, 0.2, 0)) for surface in reference])
    write_stills(tmp_path / "changed", [*changed[:2], reference[2]])

    def scores(predicted: str, against: str) -> dict[str, str]:
        run("evaluate_meshes.py", tmp_path / predicted, tmp_path / against, "--points", 1500)
        return dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())

    same, other = scores("same", "reference"), scores("changed", "reference")
    assert float(same["cd_3d"]) < 0.04 < float(other["cd_3d"])
    assert float(same["cd_m"]) > float(same["cd_4d"])
    assert "topology" in other["cd_m"]
    assert "topology" in scores("same", "changed")["cd_m"]
    assert "topology" in scores("same", "changed")["cd_m"]

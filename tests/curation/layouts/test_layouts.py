"""Datasets in the layouts of other tools, read back without our code if the layout has a documented format."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path

import numpy as np
import pytest
import trimesh
from PIL import Image

from helix4d.assets import bake
from helix4d.cli.main import main
from helix4d.core import ConfigError
from helix4d.curation.layouts.glb import export_glb
from helix4d.curation.layouts.meshes import export_meshes
from helix4d.curation.layouts.multiview import export_multiview
from helix4d.curation.layouts.nerf import export_nerf
from helix4d.curation.layouts.trellis2 import export_trellis2, object_name
from helix4d.curation.shards.members import decode_image
from helix4d.curation.shards.reader import ShardReader
from helix4d.voxelize import decode_vxz
from tests.curation.outputs import FRAMES, IMAGE_SIZE, RESOLUTION, output_of, ovoxels_of
from tests.curation.s3_server import S3Server

NAMES = ["a.glb", "b.glb", "c.glb"]


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return output_of(tmp_path_factory.mktemp("layouts") / "o", NAMES, tracks=True)


def _number(output: Path, key: str) -> int:
    return next(
        NAMES.index(clip["asset"])
        for tar in output.glob("train/*.tar")
        for name, clip in ShardReader(tar).clips().items()
        if name == key
    )


def test_nerf_views_show_the_sphere_where_their_cameras_see_it(output: Path, tmp_path: Path) -> None:
    keys = [sample.key for sample in export_nerf(output, tmp_path, "train")]
    assert len(keys) == 3
    for key in keys:
        radius = 0.2 + 0.02 * _number(output, key)
        for frame in range(FRAMES - 1):  # the last one is empty
            folder = tmp_path / key / f"frame_{frame:02d}"
            content = json.loads((folder / "transforms.json").read_bytes())
            assert len(content["frames"]) == 2
            center = np.array([0.08 * frame - 0.1, 0, 0])
            for view in content["frames"]:
                alpha = np.array(Image.open(folder / view["file_path"]))[..., 3] > 127
                seen = _sphere_mask(view, center, radius)
                assert (alpha & seen).sum() / (alpha | seen).sum() > 0.93  # of 32³ voxels and 64² pixels
                assert view["camera_angle_x"] == pytest.approx(2 * math.atan(view["w"] / 2 / view["fl_x"]))


def _sphere_mask(view: dict, center: np.ndarray, radius: float) -> np.ndarray:
    """Cast a ray through every pixel, with the camera axes of `transforms.json`: x right, y up, z backward."""
    rows, columns = np.mgrid[: view["h"], : view["w"]] + 0.5
    local = [(columns - view["cx"]) / view["fl_x"], -(rows - view["cy"]) / view["fl_y"], -np.ones_like(rows)]
    matrix = np.array(view["transform_matrix"])
    rays = np.stack(local, axis=-1) @ matrix[:3, :3].T
    rays /= np.linalg.norm(rays, axis=-1, keepdims=True)
    to_center = center - matrix[:3, 3]
    along = rays @ to_center
    return (along > 0) & (to_center @ to_center - along**2 < radius**2)


def test_multiview_images_are_those_of_the_shard(output: Path, tmp_path: Path) -> None:
    for sample in export_multiview(output, tmp_path, "train"):
        reader = next(r for r in map(ShardReader, output.glob("train/*.tar")) if sample.key in r.keys())  # noqa: SIM118
        cameras = json.loads((tmp_path / sample.key / "cameras.json").read_bytes())["views"]
        assert sorted(cameras) == ["view_00", "view_01"]
        for view, camera in cameras.items():
            stored = json.loads(reader.read(sample.key, f"{view}.json"))["camera"]
            assert camera == stored
            for frame in range(FRAMES):
                image = np.array(Image.open(tmp_path / sample.key / view / f"{frame:02d}.png"))
                data = reader.read(sample.key, f"{view}_frame_{frame:02d}.webp")
                assert image.shape == (IMAGE_SIZE, IMAGE_SIZE, 4)
                assert (image == np.array(decode_image(data, "image"))).all()


def test_meshes_are_the_surfaces_and_the_tracks(output: Path, tmp_path: Path) -> None:
    for sample in export_meshes(output, tmp_path, "train"):
        arrays = np.load(tmp_path / f"{sample.key}.npz")
        radius = 0.2 + 0.02 * _number(output, sample.key)
        for frame in range(FRAMES - 1):
            center = np.array([0.08 * frame - 0.1, 0, 0])
            used = arrays[f"vertices_{frame:02d}"][np.unique(arrays[f"faces_{frame:02d}"])]
            assert np.abs(np.linalg.norm(used - center, axis=1) - radius).max() < 1 / RESOLUTION
        assert len(arrays[f"faces_{FRAMES - 1:02d}"]) == 0
        present = arrays["track_present"]
        assert arrays["tracks"].shape == (FRAMES, 64, 3)
        first = arrays["tracks"][0][present[0]]
        assert len(first)
        assert np.abs(np.linalg.norm(first - [-0.1, 0, 0], axis=1) - radius).max() < 0.02


def test_glb_frames_have_the_surface_and_the_color(output: Path, tmp_path: Path) -> None:
    for sample in export_glb(output, tmp_path, "train"):
        number = _number(output, sample.key)
        names = sorted(path.name for path in (tmp_path / sample.key).iterdir())
        assert names == ["clip.glb", *(f"frame_{frame:02d}.glb" for frame in range(FRAMES - 1))]  # the last is empty
        for frame in range(FRAMES - 1):
            mesh = trimesh.load(tmp_path / sample.key / f"frame_{frame:02d}.glb", force="mesh")
            center = np.array([0.08 * frame - 0.1, 0, 0])  # Y up is Z up for a sphere on the x axis
            distances = np.linalg.norm(mesh.vertices - center, axis=1)
            assert np.abs(distances - (0.2 + 0.02 * number)).max() < 1 / RESOLUTION
            assert (np.einsum("ij,ij->i", mesh.vertex_normals, mesh.vertices - center) > 0).mean() > 0.99
            seen = np.array(mesh.visual.material.baseColorTexture.convert("RGB"))
            texel = (mesh.visual.uv % 1 * seen.shape[0]).astype(int).clip(0, seen.shape[0] - 1)
            colors = seen[seen.shape[0] - 1 - texel[:, 1], texel[:, 0]]  # trimesh's v points up
            stored = ovoxels_of(number)[frame].base_color[0]
            assert np.abs(np.median(colors, axis=0) - stored).max() <= 1


def test_a_sample_is_exported_as_an_animation(output: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tar = sorted(output.glob("train/*.tar"))[0]
    key = ShardReader(tar).keys()[0]
    command = ["export-sample", str(tar), key, "--output", str(tmp_path / "clip.glb"), "--texture-size", "128"]
    assert main([*command, "--frames", str(tmp_path / "frames"), "--texture-format", "webp"]) == 0
    assert len(list((tmp_path / "frames").iterdir())) == FRAMES - 1
    assert capsys.readouterr().out.count("MB") == FRAMES
    radius = 0.2 + 0.02 * _number(output, key)
    times = ShardReader(tar).clip(key)["times_s"]
    baked = bake(tmp_path / "clip.glb", frames=FRAMES)
    step = (times[-1] - times[0]) / (FRAMES - 1)
    assert baked.times[-1] - baked.times[0] == pytest.approx(FRAMES * step, rel=0.34)
    first = baked.frames[0]
    used = first.vertices[np.unique(first.faces[first.areas > 0])]  # other frames' meshes have a scale of 0
    assert np.abs(np.linalg.norm(used - [-0.1, 0, 0], axis=1) - radius).max() < 1 / RESOLUTION
    assert main(["export-sample", str(tar), "0" * 16 + "_0", "--output", str(tmp_path / "clip.glb")]) == 2
    assert "has no sample 0000000000000000_0" in capsys.readouterr().err


def test_trellis2_folders_follow_the_tables(output: Path, tmp_path: Path) -> None:
    keys = [sample.key for sample in export_trellis2(output, tmp_path, "train")]
    tables = {
        folder: {
            row["sha256"]: row for row in csv.DictReader((tmp_path / folder / "metadata.csv").read_text().splitlines())
        }
        for folder in (".", f"dual_grid_{RESOLUTION}", f"pbr_voxels_{RESOLUTION}", "renders_cond")
    }
    expected = {object_name(key, frame) for key in keys for frame in range(FRAMES - 1)}
    for table in tables.values():
        assert table.keys() == expected  # the empty frame is no object
    for key in keys:
        for frame in range(FRAMES - 1):
            name = object_name(key, frame)
            truth = ovoxels_of(_number(output, key))[frame]
            grid = _streams(tmp_path / f"dual_grid_{RESOLUTION}" / f"{name}.vxz")
            assert grid["attr"] == [["vertices", 3], ["intersected", 1]]
            pbr = _streams(tmp_path / f"pbr_voxels_{RESOLUTION}" / f"{name}.vxz")
            assert pbr["attr"] == [["base_color", 3], ["metallic", 1], ["roughness", 1], ["alpha", 1]]
            assert grid["num_voxel"] == pbr["num_voxel"] == len(truth.coords)
            base = tables["."][name]
            assert float(base["aesthetic_score"]) == 5.0
            assert {"num_faces", "num_basecolor_tex", "num_metallic_tex", "num_roughness_tex"} <= base.keys()
            row = tables[f"dual_grid_{RESOLUTION}"][name]
            assert (row["dual_grid_converted"], int(row["dual_grid_size"])) == ("True", len(truth.coords))
            read = decode_vxz((tmp_path / f"dual_grid_{RESOLUTION}" / f"{name}.vxz").read_bytes())
            assert (read.coords == truth.coords).all()
            assert (read.intersected == truth.intersected).all()
            material = decode_vxz((tmp_path / f"pbr_voxels_{RESOLUTION}" / f"{name}.vxz").read_bytes())
            assert (material.coords == truth.coords).all()
            assert (material.base_color == truth.base_color).all()
            views = json.loads((tmp_path / "renders_cond" / name / "transforms.json").read_bytes())
            assert views.keys() == {"aabb", "scale", "offset", "frames"}
            for view in views["frames"]:
                assert view.keys() == {"file_path", "camera_angle_x", "transform_matrix"}
                image = np.array(Image.open(tmp_path / "renders_cond" / name / view["file_path"]))
                size = image.shape[0]
                focal = size / 2 / math.tan(view["camera_angle_x"] / 2)
                camera = {**view, "w": size, "h": size, "fl_x": focal, "fl_y": focal, "cx": size / 2, "cy": size / 2}
                seen = _sphere_mask(camera, np.array([0.08 * frame - 0.1, 0, 0]), 0.2 + 0.02 * _number(output, key))
                alpha = image[..., 3] > 127
                assert (alpha & seen).sum() / (alpha | seen).sum() > 0.93


def _streams(path: Path) -> dict:
    """Read the header of a `.vxz` as its format specifies: an offset, then JSON."""
    data = path.read_bytes()
    assert data[:4] == b"VXZ\0"
    return json.loads(data[8 : int.from_bytes(data[4:8], "big")])


@pytest.mark.parametrize("layout", ["meshes", "multiview", "nerf", "trellis2"])
def test_an_interrupted_export_continues(
    output: Path, tmp_path: Path, layout: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ["export", str(output), "--layout", layout, "--output", str(tmp_path / "e"), "--split", "train"]
    assert main(command) == 0
    assert f"3 samples in the layout {layout}" in capsys.readouterr().out
    written = {path: path.read_bytes() for path in (tmp_path / "e").rglob("*") if path.is_file()}
    kept = {path: path.stat().st_mtime_ns for path in written}
    last = [path for path in written if path.suffix in (".npz", ".json", ".vxz")][-1]
    last.unlink()
    assert main(command) == 0
    assert {path: path.read_bytes() for path in (tmp_path / "e").rglob("*") if path.is_file()} == written
    again = {path for path in kept if path.stat().st_mtime_ns != kept[path] and path.suffix not in (".csv",)}
    assert last in again
    assert len(again) <= 2  # an object's second half is written with its first


def test_what_cannot_be_exported(output: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    blind = output_of(tmp_path / "blind", ["a.glb"], views=0)
    for export in (export_nerf, export_multiview):
        with pytest.raises(ConfigError, match="has no views"):
            list(export(blind, tmp_path / "e", "train"))
        with pytest.raises(ConfigError, match=r"no test/\*\.tar"):
            list(export(output, tmp_path / "e", "test"))
    assert len(list(export_trellis2(blind, tmp_path / "t", "train"))) == 1
    assert not (tmp_path / "t" / "renders_cond").exists()
    command = ["export", str(output), "--layout", "nerf", "--output", str(tmp_path / "e"), "--latents", "x"]
    assert main(command) == 2
    assert "or use --layout trellis2" in capsys.readouterr().err


def test_layouts_are_written_from_a_url(output: Path, s3: S3Server, tmp_path: Path) -> None:
    s3.put_folder(output, "/bucket/o")
    for export in (export_nerf, export_meshes, export_multiview, export_trellis2):
        for name, place in {"url": "s3://bucket/o", "folder": output}.items():
            assert len(list(export(place, tmp_path / export.__name__ / name, "train"))) == 3
        read = [
            {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
            for folder in (tmp_path / export.__name__ / "url", tmp_path / export.__name__ / "folder")
        ]
        assert read[0] == read[1]

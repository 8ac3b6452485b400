"""`helix4d curate --fixed-views` and how random views are drawn: members, settings, report, and the held-out bench."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from helix4d.assets import bake, normalize
from helix4d.assets.samples import SAMPLES
from helix4d.assets.tracks import track_points
from helix4d.cli.main import main
from helix4d.core import ConfigError, generator
from helix4d.curation.config import SampleConfig
from helix4d.curation.shards.members import decode_image
from helix4d.curation.shards.reader import ShardReader
from helix4d.curation.shards.sidecar import read_sidecar
from helix4d.curation.shards.track_files import decode_tracks, encode_tracks
from helix4d.curation.verify.sample import check_sample
from helix4d.render import Camera, Lights, sample_camera, sample_view_lights
from helix4d.render.scene.fixed_views import fixed_cameras
from tests.curation.outputs import output_of
from tests.curation.runs import curate, hashes


def test_settings_of_0_3_are_read_as_what_it_did() -> None:
    earlier = SampleConfig(cameras="even", lights="even")
    stored = earlier.to_json()
    assert not {"cameras", "lights", "view_transform", "fixed_views", "tracks", "environment_maps"} & set(stored)
    assert SampleConfig.from_json(stored) == earlier != SampleConfig()
    for changed in (SampleConfig(), SampleConfig(view_transform="filmic"), SampleConfig(fixed_views="front,orbit:8")):
        assert SampleConfig.from_json(json.loads(json.dumps(changed.to_json()))) == changed
        assert changed.sha256() != earlier.sha256()


def test_unknown_fixed_views_are_refused() -> None:
    with pytest.raises(ConfigError, match="fixed view 'top'"):
        SampleConfig(fixed_views="front,top")


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two assets with two random and three fixed views, all in the test split, curated twice."""
    folder = tmp_path_factory.mktemp("fixed")
    (folder / "source").mkdir()
    for name in ("ladybug", "sprout"):
        (folder / "source" / f"{name}.glb").write_bytes(SAMPLES[name]())
    options: dict[str, object] = {
        "fixed_views": "front,orbit:3",
        "view_transform": "filmic",
        "passes": True,
        "tracks": 512,
    }
    for name, workers in (("first", 2), ("second", 1)):
        curate(folder / "source", folder / name, workers=workers, frames=3, engine="raster", **options)
    assert hashes(folder / "first") == hashes(folder / "second") != {}
    return folder / "first"


@pytest.mark.slow
def test_members_cameras_lights_and_clipped_pixels(output: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for tar in output.glob("*/*.tar"):
        reader, sidecar = ShardReader(tar), read_sidecar(tar)
        assert sidecar is not None
        assert sidecar["config"]["fixed_views"] == "front,orbit:3"
        for key in reader.keys():  # noqa: SIM118
            clip = reader.clip(key)
            assert clip["fixed_views"] == [-90.0, 30.0, 150.0]
            assert set(clip["clipped"]) == {"view_00", "view_01", "fixed_00", "fixed_01", "fixed_02"}
            assert clip["clipped"] == reader.sample(key)["clipped"]
            for number, expected in enumerate(fixed_cameras("front,orbit:3", 48)):
                view = json.loads(reader.read(key, f"fixed_{number:02d}.json"))
                assert Camera.from_json(view["camera"]).to_json() == expected.to_json()
                lights = sample_view_lights(0, key, f"fixed_{number:02d}", expected, "even")
                assert Lights.from_json(view["lights"]) == lights
                assert {f"fixed_{number:02d}_frame_01.webp", f"fixed_{number:02d}_frame_01.depth.png16"} <= set(
                    reader.members(key)
                )
            random = json.loads(reader.read(key, "view_01.json"))
            camera = sample_camera(0, key, 1, 2, 48)
            assert random["camera"] == camera.to_json()
            assert Lights.from_json(random["lights"]) == sample_view_lights(0, key, 1, camera)
    assert main(["verify", str(output)]) == 0, capsys.readouterr()
    assert main(["report", str(output)]) == 0, capsys.readouterr()
    assert "visible pixels that are brighter than white" in (output / "report" / "index.html").read_text()


@pytest.mark.slow
def test_a_missing_fixed_view_is_found(output: Path, tmp_path: Path) -> None:
    tar = next(output.glob("*/*.tar"))
    reader, sidecar = ShardReader(tar), read_sidecar(tar)
    assert sidecar is not None
    (key, *_) = reader.keys()
    members = [name for name in reader.members(key) if name != "fixed_02_frame_00.webp"]
    found = check_sample(
        key, members, lambda name: reader.read(key, name), (), sidecar["config"], sidecar["config_sha256"]
    )
    assert list(found) == [("fixed_02_frame_00.webp", "missing")]


@pytest.mark.slow
def test_tracked_points_are_those_of_the_clip(output: Path) -> None:
    """In the normalized cube, seeded by the key, and checked by verify."""
    for tar in output.glob("*/*.tar"):
        reader = ShardReader(tar)
        for key in reader.keys():  # noqa: SIM118
            clip = reader.clip(key)
            assert clip["tracks"] == 512
            found = decode_tracks(reader.read(key, "tracks.npz"), 3, 512, key)
            shown = normalize(bake(output.parent / "source" / clip["asset"], frames=3))[0]
            expected = track_points(shown, 512, generator(0, key, "tracks"))
            np.testing.assert_array_equal(found.positions, expected.positions)
            np.testing.assert_array_equal(found.present, expected.present)
            sidecar = read_sidecar(tar)
            assert sidecar is not None
            wrong = encode_tracks(replace(expected, positions=expected.positions + np.float32(0.6)))
            problems = check_sample(
                key,
                reader.members(key),
                lambda name, reader=reader, key=key, wrong=wrong: (  # type: ignore[misc]
                    wrong if name == "tracks.npz" else reader.read(key, name)
                ),
                (),
                sidecar["config"],
                sidecar["config_sha256"],
            )
            assert list(problems) == [("tracks.npz", "a position is not inside the cube")]


@pytest.mark.slow
def test_the_held_out_bench_takes_its_video_from_the_front(output: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    from helix4d.evaluation.methods.benches import open_bench

    tar = next(output.glob("*/*.tar"))
    (tmp_path / "test").mkdir()
    for suffix in (".tar", ".json"):
        (tmp_path / "test" / f"helix4d-000000{suffix}").write_bytes(tar.with_suffix(suffix).read_bytes())
    item = open_bench("texverse-heldout", tmp_path).items[0]
    video = item.read().video
    assert isinstance(video, np.ndarray)
    reader = ShardReader(tar)
    first = decode_image(reader.read(item.key, "fixed_00_frame_00.webp"), "front")
    np.testing.assert_array_equal(video[0], np.asarray(first))


@pytest.mark.slow
def test_actionbench_folders_are_those_of_the_bench(
    output: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Surfaces and frames round-trip, a second run reads nothing again, and what cannot be tracked is named."""
    pytest.importorskip("torch")
    from helix4d.evaluation.methods.benches import open_bench

    splits = sorted({tar.parent.name for tar in output.glob("*/*.tar")})
    for split in splits:
        arguments = ["export", str(output), "--layout", "actionbench", "--output", str(tmp_path), "--split", split]
        assert main(arguments) == 0
    printed = capsys.readouterr().out
    assert printed.count("left out: its surface appears") == 1  # the sprout grows
    assert printed.count(" written\n") == 1
    (item,) = open_bench("actionbench", tmp_path).items
    reference = item.read()
    (reader,) = (ShardReader(tar) for tar in output.glob("*/*.tar") if item.key in ShardReader(tar).keys())  # noqa: SIM118
    tracks = decode_tracks(reader.read(item.key, "tracks.npz"), 3, 512, item.key)
    surfaces = np.load(tmp_path / "data" / item.key / "surfaces.npy")
    assert surfaces.shape == (3, 512, 6)
    assert surfaces.dtype == np.float32
    np.testing.assert_array_equal(surfaces[..., :3], tracks.positions)
    np.testing.assert_array_equal(surfaces[..., 3:], tracks.normals)
    np.testing.assert_array_equal(reference.truth, tracks.positions)
    assert isinstance(reference.video, np.ndarray)
    frame = decode_image(reader.read(item.key, "fixed_00_frame_01.webp"), "front")
    np.testing.assert_array_equal(reference.video[1], np.asarray(frame))
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.*")}
    for split in splits:
        assert main(["export", str(output), "--layout=actionbench", "--output", str(tmp_path), "--split", split]) == 0
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.*")} == before


def test_exporting_shards_without_tracks_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output_of(tmp_path, [f"asset {number}.glb" for number in range(4)])
    assert main(["export", str(tmp_path), "--layout", "actionbench", "--output", "b", "--split", "train"]) == 2
    assert "curate with --tracks 8192 and --fixed-views front" in capsys.readouterr().err
    assert main(["export", str(tmp_path / "no"), "--layout", "actionbench", "--output", "b"]) == 2
    assert "no test/*.tar" in capsys.readouterr().err

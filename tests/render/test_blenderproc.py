"""The engine blenderproc compared with the default one: same positions, nearly the same pixels; and its files."""

from __future__ import annotations

import errno
import importlib.util
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from helix4d.assets import Clip
from helix4d.core import ConfigError
from helix4d.render import RenderedImage, RenderSettings, check_engine, load_engine, sample_cameras, sample_lights
from helix4d.render.scene.environment import EnvironmentMap, place_map
from tests.mounts import mounted, needs_mounts
from tests.render.clips import empty_frame
from tests.render.measures import check_preview, psnr
from tests.render.test_blender import EVEN, FRONT, LAMP, QUICK, SIZE, mixed_clip, unlit_cube

try:
    check_engine("blenderproc")
    _MISSING = ""
except ConfigError as error:
    _MISSING = str(error)

needs_blenderproc = pytest.mark.skipif(bool(_MISSING), reason=_MISSING)


def render(
    engine: str, shown: Clip, settings: RenderSettings = QUICK, views: int = 3, hdf5: Path | None = None
) -> list[RenderedImage]:
    cameras = sample_cameras(2, "mixed", views, settings.image_size)
    lights = sample_lights(2, "mixed", cameras)
    return list(load_engine(engine, hdf5)(shown, cameras, lights, settings))  # type: ignore[arg-type]


@needs_blenderproc
@pytest.mark.parametrize("settings", [QUICK, RenderSettings(image_size=96, device="cpu"), replace(QUICK, passes=True)])
def test_the_views_are_those_of_the_default_engine(settings: RenderSettings) -> None:
    """Textures, masks, glass, one to three lamps, fields of view from 10 to 70 degrees, a mesh that moves."""
    ours, theirs = (render(engine, mixed_clip(), settings, views=4) for engine in ("cycles", "blenderproc"))
    assert [(i.view, i.frame) for i in ours] == [(i.view, i.frame) for i in theirs]
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(a.rgba[..., 3], b.rgba[..., 3])
        assert psnr(b.rgba, a.rgba) >= 35, (a.view, a.frame)
        if settings.passes:
            np.testing.assert_allclose(b.depth, a.depth, atol=1e-4)
            assert (np.abs(b.normal - a.normal).max(axis=-1) < 1e-3).mean() > 0.999
        else:
            assert b.depth is None


@needs_blenderproc
def test_the_alpha_of_the_paths_is_the_same_too() -> None:
    settings = replace(QUICK, exact_alpha=False, samples=16)
    for a, b in zip(*(render(engine, mixed_clip(), settings) for engine in ("cycles", "blenderproc")), strict=True):
        assert np.abs(a.rgba[..., 3].astype(int) - b.rgba[..., 3]).mean() < 0.5
        assert psnr(b.rgba, a.rgba) >= 35


@needs_blenderproc
def test_environment_maps_light_the_scene(tmp_path: Path) -> None:
    """Two maps and a uniform environment, each in its own view."""
    rng = np.random.default_rng(0)
    maps = [EnvironmentMap(f"{i}.hdr", str(i), rng.uniform(0, 2, (8, 16, 3)).astype(np.float32)) for i in range(2)]
    cameras = sample_cameras(2, "mixed", 3, SIZE)
    lights = [place_map(maps[0], 1.0, cameras[0]), LAMP, place_map(maps[1], 2.0, cameras[2])]
    by_hash = {environment.sha256: environment for environment in maps}
    ours, theirs = (
        [image.rgba for image in load_engine(engine, hdf5)(mixed_clip(), cameras, lights, QUICK, maps=by_hash)]
        for engine, hdf5 in (("cycles", None), ("blenderproc", tmp_path / "key"))
    )
    assert len(list(tmp_path.rglob("*.hdf5"))) == len(ours) == 6
    for a, b in zip(ours, theirs, strict=True):
        assert psnr(b, a) >= 35
    with pytest.raises(ConfigError, match=r"environment map 0\.hdr .* is missing"):
        load_engine("blenderproc")(mixed_clip(), cameras, lights, QUICK)


@needs_blenderproc
def test_a_view_alone_is_that_view_of_the_set() -> None:
    """Also after another clip."""
    shown = mixed_clip()
    cameras = sample_cameras(2, "mixed", 3, SIZE)
    lights = sample_lights(2, "mixed", cameras)
    together = {(i.view, i.frame): i.rgba for i in render("blenderproc", shown)}
    assert len(together) == 6
    render("blenderproc", unlit_cube(), views=1)
    for view, frame in ((2, 1), (1, 0)):
        (alone,) = load_engine("blenderproc")(shown, [cameras[view]], [lights[view]], QUICK, [frame])
        np.testing.assert_array_equal(alone.rgba, together[view, frame])


@needs_blenderproc
def test_files_hold_images_passes_and_cameras(tmp_path: Path) -> None:
    import h5py

    shown = mixed_clip()
    shown = replace(shown, frames=(empty_frame(), shown.frames[0]))
    cameras = sample_cameras(2, "mixed", 3, SIZE)
    folder = tmp_path / "files" / "key"
    images = render("blenderproc", shown, replace(QUICK, passes=True), hdf5=folder)
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*.hdf5")}
    assert names == {f"frame_0{frame}/{view}.hdf5" for frame in range(2) for view in range(3)}
    assert sorted(path.name for path in folder.parent.iterdir()) == ["key"]
    for image in images:
        assert image.depth is not None
        assert image.normal is not None
        with h5py.File(folder / f"frame_{image.frame:02d}" / f"{image.view}.hdf5") as file:
            stored = {name: np.asarray(value) for name, value in file.items()}
        assert stored["blender_proc_version"] == b"2.8.0"
        np.testing.assert_array_equal(stored["colors"], image.rgba)
        hit = stored["depth"] < 1e9
        np.testing.assert_array_equal(np.where(hit, stored["depth"], 0), image.depth)
        assert hit.any() == (image.frame == 1)
        assert (stored["normals"][~hit] == 0.5).all(axis=-1).mean() > 0.9, "all but pixels of the silhouette"
        # Points unprojected with BlenderProc's depth and camera must be on the object.
        pose, k = stored["cam2world_matrix"], stored["cam_K"]
        np.testing.assert_allclose(
            np.linalg.inv(pose @ np.diag([1.0, -1.0, -1.0, 1.0])), cameras[image.view].extrinsics, atol=1e-9
        )
        rows, columns = np.nonzero(hit)
        depth = stored["depth"][hit]
        rays = np.stack([(columns - k[0, 2]) / k[0, 0], -(rows - k[1, 2]) / k[1, 1], -np.ones(len(rows))], -1)
        points = (rays * depth[:, None]) @ pose[:3, :3].T + pose[:3, 3]
        assert (np.abs(points) < 0.52).all()
        facing = (stored["normals"][hit] - 0.5) @ np.array([0.0, 0.0, 2.0])
        assert not len(rows) or facing.mean() > 0.3, "normals look at the camera"


@needs_blenderproc
def test_files_appear_whole_and_replace_older_ones(tmp_path: Path) -> None:
    folder = tmp_path / "key"
    (folder / "frame_07").mkdir(parents=True)
    images = load_engine("blenderproc", folder)(mixed_clip(), [FRONT], [EVEN], QUICK)
    next(images)
    assert [path.name for path in folder.iterdir()] == ["frame_07"]
    images.close()  # type: ignore[attr-defined]
    assert [path.name for path in tmp_path.iterdir()] == ["key"]
    render("blenderproc", mixed_clip(), views=1, hdf5=folder)
    assert sorted(path.name for path in folder.iterdir()) == ["frame_00", "frame_01"]
    assert [path.name for path in tmp_path.iterdir()] == ["key"]


@needs_blenderproc
def test_rendering_prints_nothing_leaves_no_files_and_changes_no_environment(tmp_path: Path) -> None:
    """In a new process, where BlenderProc is imported for the first time."""
    script = (
        "import os, sys, numpy as np\nfrom tests.render.test_blenderproc import render, mixed_clip\n"
        "before = list(sys.path), dict(os.environ), hasattr(np, 'string_')\n"
        "assert 'bpy' in sys.modules and 'blenderproc' not in sys.modules\n"
        f"render('blenderproc', mixed_clip(), views=1, hdf5=__import__('pathlib').Path({str(tmp_path / 'key')!r}))\n"
        "os.environ.pop('OPENCV_IO_ENABLE_OPENEXR')\n"
        "after = list(sys.path), dict(os.environ), hasattr(np, 'string_')\n"
        "assert before == after, (before, after)\n"
    )
    root = Path(__file__).resolve().parents[2]
    (tmp_path / "temporary").mkdir()
    environment = {**os.environ, "PYTHONPATH": str(root), "TMPDIR": str(tmp_path / "temporary")}
    environment.pop("OPENCV_IO_ENABLE_OPENEXR", None)  # an earlier test may have set it
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=root, env=environment, timeout=300, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    left = {path.name for path in (tmp_path / "temporary").iterdir()}
    assert not {name for name in left if name.startswith("helix4d")}


def test_arguments_that_do_not_match_are_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="only blenderproc writes HDF5"):
        load_engine("cycles", tmp_path)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"engine blenderproc: cannot import .*sklearn.*'\.\[curate,blenderproc\]'"):
        check_engine("blenderproc")


@needs_blenderproc
def test_files_without_views_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no views to write"):
        load_engine("blenderproc", tmp_path / "key")(mixed_clip(), [], [], QUICK)


@needs_blenderproc
def test_helix4d_preview_takes_the_engine(tmp_path: Path) -> None:
    check_preview("blenderproc", tmp_path)


@needs_blenderproc
@needs_mounts
@pytest.mark.parametrize("kilobytes", [8, 200])
def test_a_full_disk_is_an_error_of_storage(tmp_path: Path, kilobytes: int) -> None:
    """In a new process: HDF5 itself ends it with a segmentation fault."""
    script = (
        "import sys, numpy as np\nfrom pathlib import Path\n"
        "from helix4d.render.blenderproc.bootstrap import write_hdf5\n"
        "noise = np.random.default_rng(0).random((2, 128, 128), np.float32)\n"
        "try:\n    write_hdf5(Path(sys.argv[1]), {'depth': list(noise)})\n"
        "except OSError as error:\n    print('errno', error.errno)\n"
    )
    root, small = Path(__file__).resolve().parents[2], tmp_path / "small"
    with mounted(small, "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs"):
        done = subprocess.run(
            [sys.executable, "-c", script, str(small / "frame_00")],
            cwd=root,
            env={**os.environ, "PYTHONPATH": str(root)},
            timeout=300,
            capture_output=True,
            text=True,
            check=False,
        )
        held = sum(path.stat().st_size for path in small.rglob("*.hdf5"))
    if kilobytes == 8:
        assert done.stdout.endswith(f"errno {errno.ENOSPC}\n"), done.stderr
    else:
        assert (done.returncode, "errno" in done.stdout) == (0, False), done.stderr
        assert held > 100_000
    assert "Segmentation fault" not in done.stderr

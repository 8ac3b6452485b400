"""Files that crash a library do not crash the process that bakes them."""

from __future__ import annotations

import os
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest

from helix4d.assets import ClipInfo, bake, list_clips
from helix4d.core import AssetError, ConfigError, ReasonCode
from tests.assets import in_process
from tests.assets.glb import tetrahedron

USD = """#usda 1.0
(
    startTimeCode = 0
    endTimeCode = 24
    upAxis = "Z"
)
def Mesh "a"
{
    int[] faceVertexCounts = [3]
    int[] faceVertexIndices = [0, 1, 2]
    point3f[] points = [(0, 0, 0), (1, 0, 0), (0, 1, 0)]
    color3f[] primvars:displayColor = [(1, 0, 0)]
    float3 xformOp:translate.timeSamples = { 0: (0, 0, 0), 24: (1, 0, 0) }
    uniform token[] xformOpOrder = ["xformOp:translate"]
}
def BasisCurves "left_out" {}
"""


@pytest.fixture
def stage(tmp_path: Path) -> Path:
    path = tmp_path / "a.usda"
    path.write_text(USD)
    return path


def replace_library(folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, source: str) -> None:
    """Let child processes import a module of the tests in the place of a library."""
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.py").write_text(source)
    monkeypatch.setenv("PYTHONPATH", str(folder), prepend=os.pathsep)


def test_a_clip_from_the_child_is_that_of_this_process(stage: Path) -> None:
    isolated, direct = bake(stage, 3), in_process.bake(stage, 3)
    assert isolated.materials == direct.materials
    assert isolated.warnings == direct.warnings
    assert isolated.warnings
    assert isolated.extras == direct.extras
    assert (isolated.name, isolated.index, isolated.motion_between) == (direct.name, direct.index, 0)
    np.testing.assert_array_equal(isolated.times, direct.times)
    for one, two in zip(isolated.frames, direct.frames, strict=True):
        assert one.topology is isolated.frames[0].topology
        np.testing.assert_array_equal(one.vertices, two.vertices)
        np.testing.assert_array_equal(one.normals, two.normals)
        assert one.topology.colors is not None
        np.testing.assert_array_equal(one.topology.colors, two.topology.colors)
    assert list_clips(stage) == [ClipInfo(0, "", 0.0, 1.0)]


@pytest.mark.parametrize(
    ("source", "code", "words"),
    [
        ("import ctypes; ctypes.string_at(0)", ReasonCode.CRASHED, "signal SIGSEGV"),
        ("import os; os.abort()", ReasonCode.CRASHED, "signal SIGABRT"),
        ("import os; os._exit(3)", ReasonCode.CRASHED, "exit status 3"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", ReasonCode.OUT_OF_MEMORY, "killed"),
        ("raise MemoryError", ReasonCode.OUT_OF_MEMORY, "an allocation failed"),
        ("raise RuntimeError('what the library says')", ReasonCode.CRASHED, "what the library says"),
    ],
)
def test_a_crash_is_an_asset_error(
    stage: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, code: ReasonCode, words: str
) -> None:
    replace_library(tmp_path / "library", monkeypatch, "pxr", source)
    for call in (bake, list_clips) if "string_at" in source else (bake,):
        with pytest.raises(AssetError, match=words) as caught:
            call(stage)
        assert caught.value.code is code
        assert "a.usda" in str(caught.value)


def test_a_blender_file_in_an_archive_that_crashes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    replace_library(tmp_path / "library", monkeypatch, "bpy", "import ctypes; ctypes.string_at(0)")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("folder/a.blend", b"BLENDER-v402" + bytes(100))
    with pytest.raises(AssetError, match=r"a\.blend: .*SIGSEGV") as caught:
        bake(tmp_path / "a.zip")
    assert caught.value.code is ReasonCode.CRASHED


def test_errors_of_the_child_are_those_of_this_process(stage: Path, tmp_path: Path) -> None:
    (tmp_path / "b.usda").write_text("#usda 1.0\n def nothing {{")
    shutil.copy(stage, tmp_path / "c.abc")
    for path, options in ((tmp_path / "b.usda", {}), (tmp_path / "c.abc", {}), (stage, {"clip": "lost"})):
        found = []
        for call in (bake, in_process.bake):
            with pytest.raises(AssetError) as caught:
                call(path, **options)
            found.append((caught.value.code, str(caught.value), caught.value.path))
        assert found[0] == found[1]


def test_a_missing_package_is_a_configuration_error(
    stage: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace_library(tmp_path / "library", monkeypatch, "pxr", "raise ModuleNotFoundError('pxr')")
    with pytest.raises(ConfigError, match="pxr"):
        bake(stage)


def test_gltf_and_calls_that_ask_for_none_need_no_child(
    stage: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    builder = tetrahedron()
    builder.channel(0, "translation", [0, 1], [[0, 0, 0], [3, 0, 0]], animation=0)
    path = builder.write(tmp_path)
    monkeypatch.setattr("subprocess.run", None)
    assert len(bake(path, 2).frames) == 2
    assert len(bake(stage, 2, isolated=False).frames) == 2
    with pytest.raises(TypeError):
        bake(stage, 2)


def test_the_child_leaves_no_files(stage: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "scratch").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "scratch"))
    monkeypatch.setenv("TMPDIR", str(tmp_path / "scratch"))
    bake(stage, 2)
    assert not list((tmp_path / "scratch").iterdir())

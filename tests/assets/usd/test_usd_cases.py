"""Regression tests: third-party USD files that were once read incorrectly give the results in their index."""

from __future__ import annotations

import numpy as np
import pytest

from helix4d.assets import Clip, check_clip, motion
from tests.assets.in_process import bake
from tests.conftest import CASES, NO_CASES

pxr = pytest.importorskip("pxr", reason="usd-core is not installed (extra 'curate')")
from pxr import Gf, Usd, UsdGeom, UsdSkel  # noqa: E402

pytestmark = pytest.mark.skipif(not (CASES / "files").is_dir(), reason=NO_CASES)


def bake_case(name: str, frames: int) -> Clip:
    clip = bake(CASES / "files" / name, frames)
    assert not check_clip(clip)
    return clip


def test_an_empty_mesh_shows_nothing() -> None:
    clip = bake_case("usd_good_and_empty_mesh_segfault.usda", 2)
    assert [len(frame.faces) for frame in clip.frames] == [1, 1]
    assert [float(frame.vertices[:, 0].max()) for frame in clip.frames] == pytest.approx([1, 2])


def test_the_samples_give_the_time_range_of_a_stage_without_one() -> None:
    clip = bake_case("usd_no_time_range.usda", 3)
    np.testing.assert_allclose(clip.times * 24, [1, 6, 11])
    assert [float(frame.vertices[:, 0].min()) for frame in clip.frames] == pytest.approx([0, 0.5, 1])
    varying = bake_case("usd_varying_no_range.usda", 3)
    assert varying.times[-1] > varying.times[0]
    assert motion(varying) > 0.1


def test_display_colors_are_vertex_colors() -> None:
    clip = bake_case("usd_displayColor_white.usda", 2)
    colors, frame = clip.frames[0].topology.colors, clip.frames[0]
    assert colors is not None
    corner = np.abs(frame.vertices[frame.faces] - [1, 1, 1]).max(axis=2) < 1e-6  # of the first cube
    assert corner.any()
    np.testing.assert_allclose(colors[corner][:, :3], 1)
    yellow = np.abs(frame.vertices[frame.faces] - [1, 1, -1]).max(axis=2) < 1e-6
    np.testing.assert_allclose(colors[yellow], np.broadcast_to([1, 1, 0, 1], (int(yellow.sum()), 4)), atol=1e-6)


@pytest.mark.parametrize("name", ["usd_inbetween_blendshapes.usda", "usd_dual_quaternion.usda"])
def test_skins_equal_those_that_usdskel_bakes(name: str) -> None:
    clip = bake_case(name, 7)
    stage = Usd.Stage.Open(str(CASES / "files" / name))
    rate = stage.GetTimeCodesPerSecond()
    session = Usd.Stage.Open(stage.Flatten())
    assert UsdSkel.BakeSkinning(session.Traverse(), Gf.Interval(stage.GetStartTimeCode(), stage.GetEndTimeCode()))
    meshes = [prim for prim in session.Traverse() if prim.IsA(UsdGeom.Mesh)]
    y_up = UsdGeom.GetStageUpAxis(stage) == "Y"
    for time, frame in zip(clip.times, clip.frames, strict=True):
        code = round(float(time) * rate)
        if abs(code - time * rate) > 1e-6:
            continue  # UsdSkel bakes whole time codes
        bounds = []
        for prim in meshes:
            if UsdGeom.Imageable(prim).ComputeVisibility(code) == "invisible":
                continue
            to_world = np.array(UsdGeom.Xformable(prim).ComputeLocalToWorldTransform(code))
            points = np.array(UsdGeom.Mesh(prim).GetPointsAttr().Get(code), np.float64)
            bounds.append(points @ to_world[:3, :3] + to_world[3, :3])
        expected = np.concatenate(bounds)
        if y_up:
            expected = np.stack([expected[:, 0], -expected[:, 2], expected[:, 1]], axis=1)
        used = frame.vertices[np.unique(frame.faces)]
        diagonal = np.linalg.norm(np.ptp(expected, axis=0))
        np.testing.assert_allclose(used.min(axis=0), expected.min(axis=0), atol=1e-4 * diagonal)
        np.testing.assert_allclose(used.max(axis=0), expected.max(axis=0), atol=1e-4 * diagonal)

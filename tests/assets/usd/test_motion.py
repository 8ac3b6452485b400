"""Positions of every frame against USD's own evaluation, within 1e-4 of the diagonal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pxr import Gf, Sdf, Ts, Usd, UsdGeom, UsdSkel, UsdUtils, Vt

from tests.assets.in_process import bake, list_clips
from tests.assets.usd.stages import (
    BOX,
    BOX_FACES,
    BOX_JOINTS,
    BOX_WEIGHTS,
    Writer,
    bind,
    box,
    corners,
    diagonal,
    distance,
    evaluated,
    in_clip_axes,
    keys,
    new_stage,
    skeleton,
    slide,
)

_TOLERANCE = 1e-4


def hierarchy(stage: Usd.Stage) -> None:
    parent = UsdGeom.Xform.Define(stage, "/A")
    slide(parent)
    keys(parent.AddRotateXYZOp(), {0: (0, 0, 0), 8: (30, 50, 170)})
    child = UsdGeom.Xform.Define(stage, "/A/B")
    keys(child.AddScaleOp(), {0: (1, 1, 1), 8: (2, 0.5, -1)})
    keys(child.AddRotateZOp(), {2: 0, 6: 360})
    box(stage, "/A/B/Mesh").AddTranslateOp().Set((1, 2, 3))


def common_api(order: str) -> Writer:
    def write(stage: Usd.Stage) -> None:
        api = UsdGeom.XformCommonAPI(box(stage, "/Mesh"))
        for code in range(0, 9, 2):
            turn = (10 * code, 25 * code, -40 * code)
            kind = getattr(UsdGeom.XformCommonAPI, f"RotationOrder{order}")
            api.SetXformVectors((code, 0, 1), turn, (1, 1 + code, 2), (0.5, 0.5, 0.5), kind, code)

    return write


def quaternions_and_inverses(stage: Usd.Stage) -> None:
    mesh = box(stage, "/Mesh")
    mesh.AddTranslateOp(opSuffix="pivot").Set((2, 1, 0))
    turn = mesh.AddOrientOp()
    for code in range(9):
        turn.Set(Gf.Quatf(Gf.Rotation(Gf.Vec3d(1, 1, 0), 33 * code).GetQuat()), code)
    mesh.AddTranslateOp(opSuffix="pivot", isInverseOp=True)


def reset_stack(stage: Usd.Stage) -> None:
    slide(UsdGeom.Xform.Define(stage, "/A"), (100, 0, 0))
    mesh = box(stage, "/A/Mesh")
    slide(mesh)
    mesh.SetResetXformStack(True)


def matrices(stage: Usd.Stage) -> None:
    moved = Gf.Matrix4d(Gf.Rotation(Gf.Vec3d(0, 0, 1), 90), Gf.Vec3d(1, 2, 3))
    keys(box(stage, "/Mesh").AddTransformOp(), {0: Gf.Matrix4d(1), 8: moved})


def points(stage: Usd.Stage) -> None:
    mesh = box(stage, "/Mesh")
    keys(mesh.GetPointsAttr(), {c: [(x + c * y, y, z * (1 + c)) for x, y, z in BOX] for c in (0, 3, 8)})


def topology(stage: Usd.Stage) -> None:
    mesh = box(stage, "/Mesh")
    keys(mesh.GetPointsAttr(), {0: BOX, 4: [(0, 0, 0), (4, 0, 0), (4, 1, 1), (0, 1, 1), (2, 3, 0)], 8: BOX})
    keys(mesh.GetFaceVertexCountsAttr(), {0: [4] * 6, 4: [4, 3], 8: [4] * 6})
    keys(mesh.GetFaceVertexIndicesAttr(), {0: BOX_FACES, 4: [0, 1, 2, 3, 2, 3, 4], 8: BOX_FACES})


def y_up_centimeters(stage: Usd.Stage) -> None:
    UsdGeom.SetStageUpAxis(stage, "Y")
    UsdGeom.SetStageMetersPerUnit(stage, 0.01)
    slide(box(stage, "/Mesh"), (1, 2, 3))


def linear_skin(stage: Usd.Stage) -> None:
    skel, _ = skeleton(stage, "/Root")
    mesh = box(stage, "/Root/Mesh")
    mesh.AddTranslateOp().Set((50, 0, 0))  # a skinned mesh ignores its own transform
    bind(mesh.GetPrim(), skel, BOX_JOINTS, BOX_WEIGHTS)


def dual_quaternion_skin(stage: Usd.Stage) -> None:
    linear_skin(stage)
    UsdSkel.BindingAPI(stage.GetPrimAtPath("/Root/Mesh")).CreateSkinningMethodAttr("dualQuaternion")


def bound_with_transform(stage: Usd.Stage) -> None:
    linear_skin(stage)
    api = UsdSkel.BindingAPI(stage.GetPrimAtPath("/Root/Mesh"))
    api.CreateGeomBindTransformAttr(Gf.Matrix4d(Gf.Rotation(Gf.Vec3d(0, 1, 0), 40), Gf.Vec3d(0, 1, 0)))


def other_joint_order(stage: Usd.Stage) -> None:
    linear_skin(stage)
    api = UsdSkel.BindingAPI(stage.GetPrimAtPath("/Root/Mesh"))
    api.CreateJointsAttr(["a/b", "a"])


def moving_skeleton(stage: Usd.Stage) -> None:
    linear_skin(stage)
    slide(stage.GetPrimAtPath("/Root"), (0, 5, 0))
    keys(UsdGeom.Xformable(stage.GetPrimAtPath("/Root/Skel")).AddRotateXOp(), {0: 0, 8: 80})


def rigid_mesh(stage: Usd.Stage) -> None:
    skel, _ = skeleton(stage, "/Root")
    bind(box(stage, "/Root/Mesh").GetPrim(), skel, [0, 1], [0.25, 0.75], rigid=True)


def blend_shapes(stage: Usd.Stage) -> None:
    skel, animation = skeleton(stage, "/Root")
    mesh = box(stage, "/Root/Mesh")
    up = UsdSkel.BlendShape.Define(stage, "/Root/Mesh/Up")
    up.CreateOffsetsAttr([(0, 0, 4)] * 8)
    half = up.CreateInbetween("half")
    half.SetWeight(0.5)
    half.SetOffsets([(0, 1, 0)] * 8)
    some = UsdSkel.BlendShape.Define(stage, "/Root/Mesh/Some")
    some.CreateOffsetsAttr([(1, 1, 1), (2, 0, 0)])
    some.CreatePointIndicesAttr([7, 2])
    api = UsdSkel.BindingAPI.Apply(mesh.GetPrim())
    api.CreateSkeletonRel().SetTargets([skel.GetPath()])
    api.CreateBlendShapesAttr(["up", "some"])
    api.CreateBlendShapeTargetsRel().SetTargets([up.GetPath(), some.GetPath()])
    animation.CreateBlendShapesAttr(["some", "unused", "up"])
    for code in range(9):
        animation.CreateBlendShapeWeightsAttr().Set(Vt.FloatArray([code / 8, 3.0, -0.25 + code / 6]), code)


def blend_shapes_and_skin(stage: Usd.Stage) -> None:
    blend_shapes(stage)
    skel = UsdSkel.Skeleton(stage.GetPrimAtPath("/Root/Skel"))
    bind(stage.GetPrimAtPath("/Root/Mesh"), skel, BOX_JOINTS, BOX_WEIGHTS)


def instances(stage: Usd.Stage) -> None:
    stage.CreateClassPrim("/Class")
    slide(box(stage, "/Class/Mesh"), (0, 0, 2))
    for number in range(3):
        prim = UsdGeom.Xform.Define(stage, f"/I{number}")
        prim.AddTranslateOp().Set((5 * number, 0, 0))
        prim.GetPrim().GetReferences().AddInternalReference("/Class")
        prim.GetPrim().SetInstanceable(True)


def skinned_instances(stage: Usd.Stage) -> None:
    stage.CreateClassPrim("/Class")
    skel, _ = skeleton(stage, "/Class/Root")
    bind(box(stage, "/Class/Root/Mesh").GetPrim(), skel, BOX_JOINTS, BOX_WEIGHTS)
    for number in range(2):
        prim = UsdGeom.Xform.Define(stage, f"/I{number}")
        prim.AddTranslateOp().Set((0, 5 * number, 0))
        prim.GetPrim().GetReferences().AddInternalReference("/Class")
        prim.GetPrim().SetInstanceable(True)


def visibility(stage: Usd.Stage) -> None:
    box(stage, "/Still").AddTranslateOp().Set((0, 4, 0))
    parent = UsdGeom.Xform.Define(stage, "/A")
    box(stage, "/A/Mesh")
    keys(parent.GetVisibilityAttr(), {0: "inherited", 3: "invisible", 6: "inherited", 8: "inherited"})


def purposes(stage: Usd.Stage) -> None:
    for number, purpose in enumerate(("default", "render", "proxy", "guide")):
        mesh = box(stage, f"/P{number}")
        slide(mesh, (0, 0, 1 + number))
        mesh.AddTranslateOp(opSuffix="aside").Set((4 * number, 0, 0))
        mesh.CreatePurposeAttr(purpose)


def mirrored_left_handed(stage: Usd.Stage) -> None:
    mesh = box(stage, "/Mesh")
    mesh.CreateOrientationAttr("leftHanded")
    mesh.CreateFaceVertexIndicesAttr([BOX_FACES[4 * n + k] for n in range(6) for k in (0, 3, 2, 1)])
    slide(mesh)
    mesh.AddScaleOp().Set((-1, 1, 1))


def variants(stage: Usd.Stage) -> None:
    prim = UsdGeom.Xform.Define(stage, "/A").GetPrim()
    chosen = prim.GetVariantSets().AddVariantSet("size")
    for name, by in (("small", (1, 0, 0)), ("large", (0, 9, 0))):
        chosen.AddVariant(name)
        chosen.SetVariantSelection(name)
        with chosen.GetVariantEditContext():
            slide(box(stage, "/A/Mesh"), by)
    chosen.SetVariantSelection("large")


def subdivision_cage(stage: Usd.Stage) -> None:
    slide(box(stage, "/Mesh", "catmullClark"))


CASES: dict[str, Writer] = {
    **{f"common api {order}": common_api(order) for order in ("XYZ", "XZY", "YXZ", "YZX", "ZXY", "ZYX")},
    **{
        function.__name__: function
        for function in (
            *(hierarchy, quaternions_and_inverses, reset_stack, matrices, points, topology, y_up_centimeters),
            *(linear_skin, dual_quaternion_skin, bound_with_transform, other_joint_order, moving_skeleton, rigid_mesh),
            *(blend_shapes, blend_shapes_and_skin, instances, skinned_instances, visibility, purposes),
            *(mirrored_left_handed, variants, subdivision_cage),
        )
    },
}


@pytest.mark.parametrize("name", CASES)
def test_positions_are_those_of_usd(name: str, tmp_path: Path) -> None:
    path = tmp_path / ("a.usda" if len(name) % 2 else "a.usdc")
    stage = new_stage(path)
    CASES[name](stage)
    stage.Save()
    clip = bake(path, frames=9)
    np.testing.assert_allclose(clip.times * 24, np.arange(9), atol=1e-9)
    expected = [evaluated(stage, code) for code in range(9)]
    size = diagonal(expected)
    for frame, rows in zip(clip.frames, expected, strict=True):
        assert distance(corners(frame), rows) <= _TOLERANCE * size
    outward(clip.frames[0], expected[0])


def outward(frame: Any, rows: np.ndarray) -> None:
    """Check that a frame of whole boxes encloses a positive volume, and that normals point the same way."""
    triangles = frame.triangles().astype(float)
    a, b, c = triangles[:, 0], triangles[:, 1], triangles[:, 2]
    assert np.einsum("fi,fi->f", a - rows.mean(axis=0), np.cross(b, c)).sum() > 0
    flat = np.cross(b - a, c - a)
    assert (np.einsum("fi,fki->fk", flat, frame.normals[frame.faces]) > 0).all()
    np.testing.assert_allclose(np.linalg.norm(frame.normals, axis=1), 1, atol=1e-5)


def test_skins_between_keys_are_evaluated_rather_than_interpolated(tmp_path: Path) -> None:
    """Half of a turn by 120 degrees keeps the radius; half-way between the posed points would be at half of it."""
    path = tmp_path / "a.usda"
    stage = new_stage(path)
    skel, animation = skeleton(stage, "/Root")
    bind(box(stage, "/Root/Mesh").GetPrim(), skel, BOX_JOINTS, [1.0, 0.0] * 8)
    for attribute in (animation.GetRotationsAttr(), animation.GetTranslationsAttr(), animation.GetScalesAttr()):
        attribute.Clear()
    turned = Gf.Quatf(Gf.Rotation(Gf.Vec3d(0, 0, 1), 120).GetQuat())
    keys(animation.GetRotationsAttr(), {0: [Gf.Quatf(1)] * 2, 8: [turned, Gf.Quatf(1)]})
    animation.GetTranslationsAttr().Set([(0, 0, 0), (1, 0, 0)])
    animation.GetScalesAttr().Set([(1, 1, 1)] * 2)
    stage.Save()
    radii = [np.linalg.norm(corners(frame)[:, :2], axis=1).max() for frame in bake(path, frames=5).frames]
    np.testing.assert_allclose(radii, np.sqrt(5), rtol=1e-5)


def test_a_rigid_gprim_follows_its_joint(tmp_path: Path) -> None:
    path = tmp_path / "a.usda"
    stage = new_stage(path)
    skel, _ = skeleton(stage, "/Root")
    cube = UsdGeom.Cube.Define(stage, "/Root/Cube")
    bind(cube.GetPrim(), skel, [1, 0], [1.0, 0.0], rigid=True)
    stage.Save()
    clip = bake(path, frames=9)
    flat = Usd.Stage.Open(stage.Flatten())
    UsdSkel.BakeSkinning(flat.Traverse())
    unit = np.array([(x, y, z) for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], float)
    for code, frame in enumerate(clip.frames):
        matrix = np.array(UsdGeom.XformCache(code).GetLocalToWorldTransform(flat.GetPrimAtPath("/Root/Cube")))
        assert distance(corners(frame), unit @ matrix[:3, :3] + matrix[3, :3]) < 1e-4


def test_point_instancers_move_hide_and_nest(tmp_path: Path) -> None:
    path = tmp_path / "a.usda"
    stage = new_stage(path, up="Y")
    outer = UsdGeom.PointInstancer.Define(stage, "/Outer")
    outer.AddTranslateOp().Set((0, 0, 7))
    inner = UsdGeom.PointInstancer.Define(stage, "/Outer/Inner")
    mesh = box(stage, "/Outer/Inner/Proto/Mesh")
    mesh.AddTranslateOp().Set((0, 0, 0.5))
    UsdGeom.Xformable(stage.DefinePrim("/Outer/Inner/Proto", "Xform")).AddScaleOp().Set((1, 2, 1))
    inner.CreatePrototypesRel().SetTargets(["/Outer/Inner/Proto"])
    inner.CreateProtoIndicesAttr([0, 0, 0])
    inner.CreateIdsAttr([10, 20, 30])
    inner.CreateInvisibleIdsAttr([20])
    keys(inner.CreatePositionsAttr(), {0: [(0, 0, 0), (9, 9, 9), (0, 5, 0)], 8: [(4, 0, 0), (9, 9, 9), (0, 5, 0)]})
    outer.CreatePrototypesRel().SetTargets(["/Outer/Inner"])
    outer.CreateProtoIndicesAttr([0, 0])
    outer.CreatePositionsAttr([(0, 0, 0), (0, 20, 0)])
    turn = Gf.Quatf(Gf.Rotation(Gf.Vec3d(0, 1, 0), 90).GetQuat())
    outer.CreateOrientationsfAttr([Gf.Quatf(1), turn])
    outer.CreateScalesAttr([(1, 1, 1), (2, 2, 2)])
    stage.Save()
    local = np.array(BOX, float) + (0, 0, 0.5)
    for number, frame in enumerate(bake(path, frames=5).frames):
        boxes = [local * (1, 2, 1) + shift for shift in ((number, 0, 0), (0, 5, 0))]
        first = np.concatenate(boxes)
        second = 2 * np.stack([first[:, 2], first[:, 1], -first[:, 0]], axis=1) + (0, 20, 0)
        expected = in_clip_axes(stage, np.concatenate([first, second]) + (0, 0, 7))
        assert distance(corners(frame), expected) < _TOLERANCE * diagonal([expected])
        assert len(frame.faces) == 4 * 12


def test_a_varying_number_of_instances(tmp_path: Path) -> None:
    path = tmp_path / "a.usda"
    stage = new_stage(path)
    instancer = UsdGeom.PointInstancer.Define(stage, "/I")
    UsdGeom.Sphere.Define(stage, "/I/Ball")
    instancer.CreatePrototypesRel().SetTargets(["/I/Ball"])
    for code in range(9):
        instancer.CreateProtoIndicesAttr().Set([0] * (1 + code), code)
        instancer.CreatePositionsAttr().Set([(3.0 * n, 0, 0) for n in range(1 + code)], code)
    stage.Save()
    clip = bake(path, frames=9)
    count = len(clip.frames[0].faces)
    assert [len(frame.faces) for frame in clip.frames] == [count * (1 + code) for code in range(9)]
    assert corners(clip.frames[8])[:, 0].max() == pytest.approx(25)


def test_references_payloads_sublayers_and_value_clips_are_composed(tmp_path: Path) -> None:
    part = new_stage(tmp_path / "part.usdc")
    slide(box(part, "/Part/Mesh"))
    part.SetDefaultPrim(part.GetPrimAtPath("/Part"))
    part.Save()
    (tmp_path / "under").mkdir()
    below = new_stage(tmp_path / "under" / "below.usda")
    below.OverridePrim("/B").GetPayloads().AddPayload("../part.usdc")
    below.Save()
    samples = new_stage(tmp_path / "clip.usda")
    keys(box(samples, "/C").GetPointsAttr(), {0: BOX, 8: [(x, y + 6, z) for x, y, z in BOX]})
    samples.Save()
    stage = new_stage(tmp_path / "a.usda")
    stage.GetRootLayer().subLayerPaths.append("./under/below.usda")
    UsdGeom.Xform.Define(stage, "/B").AddTranslateOp(opSuffix="aside").Set((0, 9, 0))
    stage.DefinePrim("/R", "Xform").GetReferences().AddReference("part.usdc", layerOffset=Sdf.LayerOffset(2, 0.5))
    box(stage, "/C").GetPointsAttr().Clear()
    clips = Usd.ClipsAPI(stage.GetPrimAtPath("/C"))
    clips.SetClipAssetPaths([Sdf.AssetPath("./clip.usda")])
    clips.SetClipPrimPath("/C")
    clips.SetClipActive([(0, 0)])
    clips.SetClipTimes([(0, 0), (8, 8)])
    stage.Save()
    expected = [evaluated(stage, code) for code in range(9)]
    assert np.ptp(np.concatenate(expected)[:, 1]) > 6
    for frame, rows in zip(bake(tmp_path / "a.usda", frames=9).frames, expected, strict=True):
        assert distance(corners(frame), rows) < 1e-3


def test_splines_are_animation(tmp_path: Path) -> None:
    path = tmp_path / "a.usda"
    stage = new_stage(path)
    spline = Ts.Spline()
    for time, value in ((0, 0.0), (8, 90.0)):
        knot = Ts.Knot()
        knot.SetTime(time)
        knot.SetValue(value)
        knot.SetNextInterpolation(Ts.InterpLinear)
        spline.SetKnot(knot)
    box(stage, "/Mesh").AddRotateZOp(UsdGeom.XformOp.PrecisionDouble).GetAttr().SetSpline(spline)
    stage.Save()
    clip = bake(path, frames=3)
    np.testing.assert_allclose(clip.times * 24, [0, 4, 8])
    assert distance(corners(clip.frames[1]), evaluated(stage, 4)) < 1e-4


@pytest.mark.parametrize(
    ("declared", "rate", "span"),
    [
        (None, None, (2, 6)),
        ((0, 100), None, (2, 6)),
        ((3, 5), 12, (3, 5)),
        ((50, 60), 30, (2, 6)),
        ((2, 2), None, (2, 6)),
    ],
)
def test_the_time_range_is_that_of_the_samples_within_the_declared_one(
    declared: tuple[int, int] | None, rate: int | None, span: tuple[int, int], tmp_path: Path
) -> None:
    stage = Usd.Stage.CreateNew(str(tmp_path / "a.usda"))
    keys(box(stage, "/Mesh").AddTranslateOp(), {2: (0, 0, 0), 6: (4, 0, 0)})
    keys(UsdGeom.Camera.Define(stage, "/Camera").AddTranslateOp(), {0: (0, 0, 0), 1000: (4, 0, 0)})
    hidden = box(stage, "/Guide")
    hidden.CreatePurposeAttr("guide")
    slide(hidden)
    if declared:
        stage.SetStartTimeCode(declared[0])
        stage.SetEndTimeCode(declared[1])
    if rate:
        stage.SetTimeCodesPerSecond(rate)
    stage.Save()
    (clip,) = list_clips(tmp_path / "a.usda")
    assert (clip.start * (rate or 24), clip.end * (rate or 24)) == pytest.approx(span)


def test_usdz_is_read_with_its_textures_and_layers(tmp_path: Path) -> None:
    part = new_stage(tmp_path / "part.usda")
    slide(box(part, "/Part/Mesh"))
    part.SetDefaultPrim(part.GetPrimAtPath("/Part"))
    part.Save()
    stage = new_stage(tmp_path / "a.usda")
    stage.DefinePrim("/R", "Xform").GetReferences().AddReference("./part.usda")
    stage.Save()
    assert UsdUtils.CreateNewUsdzPackage(str(tmp_path / "a.usda"), str(tmp_path / "a.usdz"))
    # A package inside a stage is composed by USD itself.
    whole = new_stage(tmp_path / "whole.usda")
    whole.DefinePrim("/W", "Xform").GetReferences().AddReference("./a.usdz", "/R")
    whole.Save()
    for name in ("a.usdz", "whole.usda"):
        for code, frame in enumerate(bake(tmp_path / name, frames=9).frames):
            assert distance(corners(frame), evaluated(stage, code)) < 1e-4

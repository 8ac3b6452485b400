"""Writes stages for the tests, and evaluates them with usd-core directly."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from pxr import Gf, Usd, UsdGeom, UsdSkel, Vt

BOX = [(x, y, z) for z in (0, 1) for y in (0, 1) for x in (0, 2)]
BOX_FACES = [0, 2, 3, 1, 4, 5, 7, 6, 0, 1, 5, 4, 2, 6, 7, 3, 0, 4, 6, 2, 1, 3, 7, 5]
SHOWN = Usd.TraverseInstanceProxies(Usd.PrimDefaultPredicate)


def new_stage(path: Path, up: str = "Z") -> Usd.Stage:
    """Create a stage of 24 time codes per second, from code 0 to 8."""
    stage = Usd.Stage.CreateNew(str(path))
    UsdGeom.SetStageUpAxis(stage, up)
    UsdGeom.SetStageMetersPerUnit(stage, 1.0)
    stage.SetStartTimeCode(0)
    stage.SetEndTimeCode(8)
    return stage


def box(stage: Usd.Stage, path: str, scheme: str = "none") -> UsdGeom.Mesh:
    """Add a closed box of 2 × 1 × 1, with its least corner at the origin."""
    mesh = UsdGeom.Mesh.Define(stage, path)
    mesh.CreatePointsAttr(BOX)
    mesh.CreateFaceVertexCountsAttr([4] * 6)
    mesh.CreateFaceVertexIndicesAttr(BOX_FACES)
    mesh.CreateSubdivisionSchemeAttr(scheme)
    return mesh


def keys(attribute: Any, samples: dict[float, Any]) -> None:
    """Set time samples of an attribute or xform operation."""
    for time, value in samples.items():
        attribute.Set(value, time)


def slide(prim: Any, by: tuple[float, float, float] = (3, 0, 0)) -> None:
    """Move a prim from code 0 to 8."""
    keys(UsdGeom.Xformable(prim).AddTranslateOp(), {0: (0, 0, 0), 8: by})


def skeleton(stage: Usd.Stage, root: str) -> tuple[UsdSkel.Skeleton, UsdSkel.Animation]:
    """Add two joints, at x = 0 and 1, the second of which bends, stretches and moves."""
    UsdSkel.Root.Define(stage, root)
    skel = UsdSkel.Skeleton.Define(stage, f"{root}/Skel")
    second = Gf.Matrix4d().SetTranslate((1, 0, 0))
    skel.CreateJointsAttr(["a", "a/b"])
    skel.CreateBindTransformsAttr(Vt.Matrix4dArray([Gf.Matrix4d(1), second]))
    skel.CreateRestTransformsAttr(Vt.Matrix4dArray([Gf.Matrix4d(1), second]))
    animation = UsdSkel.Animation.Define(stage, f"{root}/Skel/Anim")
    animation.CreateJointsAttr(["a", "a/b"])
    UsdSkel.BindingAPI.Apply(skel.GetPrim()).CreateAnimationSourceRel().SetTargets([animation.GetPath()])
    turns = [Gf.Rotation(Gf.Vec3d(0.3, 1, 0.2), 20 * n).GetQuat() for n in range(9)]
    for code in range(9):
        animation.CreateRotationsAttr().Set(Vt.QuatfArray([Gf.Quatf(1), Gf.Quatf(turns[code])]), code)
        animation.CreateTranslationsAttr().Set(Vt.Vec3fArray([(0.1 * code, 0, 0), (1, 0, 0.05 * code)]), code)
        animation.CreateScalesAttr().Set(Vt.Vec3hArray([(1, 1, 1), (1 + 0.1 * code, 1, 1)]), code)
    return skel, animation


def bind(prim: Usd.Prim, skel: UsdSkel.Skeleton, joints: list[int], weights: list[float], rigid: bool = False) -> None:
    """Bind a prim to a skeleton; two influences per point, or for the whole prim."""
    api = UsdSkel.BindingAPI.Apply(prim)
    api.CreateSkeletonRel().SetTargets([skel.GetPath()])
    api.CreateJointIndicesPrimvar(rigid, 2).Set(joints)
    api.CreateJointWeightsPrimvar(rigid, 2).Set(weights)


BOX_JOINTS = [0, 1] * 8
BOX_WEIGHTS = [w for x, _, _ in BOX for w in ((0.8, 0.2) if x == 0 else (0.1, 0.9))]


def evaluated(stage: Usd.Stage, code: float) -> np.ndarray:
    """Return (N, 3) world positions of all visible meshes by USD's own evaluation, skins by its baking."""
    plain = Usd.Stage.Open(stage.GetRootLayer())
    plain.SetEditTarget(plain.GetSessionLayer())
    for prim in plain.Traverse():
        if prim.IsInstance():  # usd-core does not bake skins inside instances
            prim.SetInstanceable(False)
    flat = Usd.Stage.Open(plain.Flatten())
    UsdSkel.BakeSkinning(Usd.PrimRange(flat.GetPseudoRoot(), SHOWN))
    cache, rows = UsdGeom.XformCache(code), []
    for prim in Usd.PrimRange(flat.GetPseudoRoot(), SHOWN):
        if not prim.IsA(UsdGeom.Mesh) or UsdGeom.Imageable(prim).ComputeVisibility(code) == "invisible":
            continue
        if UsdGeom.Imageable(prim).ComputePurpose() in ("proxy", "guide"):
            continue
        points = np.array(UsdGeom.Mesh(prim).GetPointsAttr().Get(code), float)
        used = np.unique(UsdGeom.Mesh(prim).GetFaceVertexIndicesAttr().Get(code))
        matrix = np.array(cache.GetLocalToWorldTransform(prim))
        rows.append(points[used] @ matrix[:3, :3] + matrix[3, :3])
    return in_clip_axes(stage, np.concatenate(rows) if rows else np.zeros((0, 3)))


def in_clip_axes(stage: Usd.Stage, points: np.ndarray) -> np.ndarray:
    """Convert (N, 3) positions of a stage to Z up and meters."""
    points = np.asarray(points, float) * UsdGeom.GetStageMetersPerUnit(stage)
    if UsdGeom.GetStageUpAxis(stage) == "Y":
        points = np.stack([points[:, 0], -points[:, 2], points[:, 1]], axis=1)
    return points


def distance(one: np.ndarray, two: np.ndarray) -> float:
    """Return how far any point of either set is from the other set."""
    if not len(one) or not len(two):
        return 0.0 if len(one) == len(two) else np.inf
    apart = np.linalg.norm(one[:, None] - two[None], axis=2)
    return float(max(apart.min(axis=0).max(), apart.min(axis=1).max()))


Writer = Callable[[Usd.Stage], Any]


def corners(frame: Any) -> np.ndarray:
    """Return the (N, 3) float64 positions of the corners of a frame's triangles."""
    return frame.triangles().reshape(-1, 3).astype(float)


def diagonal(rows: Iterable[np.ndarray]) -> float:
    """Return the diagonal of the box around several sets of points."""
    points = np.concatenate(list(rows))
    return float(np.linalg.norm(np.ptp(points, axis=0)))

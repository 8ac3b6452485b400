"""Reads the joints and the up axis of a stage."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from pxr import Usd, UsdGeom, UsdSkel, Vt

from helix4d.assets.skeleton import Skeleton, UpAxis
from helix4d.assets.usd.scene import Part
from helix4d.assets.usd.skinning import SHOWN

_AXES: dict[str, UpAxis] = {"Y": "Y", "Z": "Z"}


def read_skeleton(stage: Usd.Stage, parts: Iterable[Part]) -> Skeleton:
    """Return the joints of all `Skeleton` prims, those of instances once; skinned if one of the parts has a skin."""
    names = [name for found in _skeletons(stage) for name in _joint_names(found)]
    skinned = any(part.shape.skin is not None and part.shape.skin.follows_joints for part in parts)
    return Skeleton.of(names, len(names), skinned)


def stated_up_axis(stage: Usd.Stage) -> UpAxis | None:
    """Return the up axis of a stage; None if no layer states it, so that usd-core's fallback applies."""
    if not stage.HasAuthoredMetadata(UsdGeom.Tokens.upAxis):
        return None
    return _AXES.get(str(UsdGeom.GetStageUpAxis(stage)))


def _skeletons(stage: Usd.Stage) -> Iterator[UsdSkel.Skeleton]:
    seen: set[str] = set()
    for prim in Usd.PrimRange(stage.GetPseudoRoot(), SHOWN):
        if not prim.IsA(UsdSkel.Skeleton):
            continue
        own = prim.GetPrimInPrototype() if prim.IsInstanceProxy() else prim
        if str(own.GetPath()) not in seen:
            seen.add(str(own.GetPath()))
            yield UsdSkel.Skeleton(own)


def _joint_names(skeleton: UsdSkel.Skeleton) -> list[str]:
    """Return the names of the joints: `jointNames` if there is one for each, else the last parts of their paths."""
    paths, names = (_tokens(attribute) for attribute in (skeleton.GetJointsAttr(), skeleton.GetJointNamesAttr()))
    return names if len(names) == len(paths) else [path.rpartition("/")[2] for path in paths]


def _tokens(attribute: Usd.Attribute) -> list[str]:
    value = attribute.Get()
    return [str(token) for token in value] if isinstance(value, Vt.TokenArray) else []

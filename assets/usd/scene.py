"""Finds the visible shapes of a stage and their transforms: meshes, geometric primitives, instances, point instancers.

Matrices multiply row vectors from the right, as everywhere in USD.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pxr import Usd, UsdGeom

from helix4d.assets.limits import Limits
from helix4d.assets.usd.gprims import GPRIMS
from helix4d.assets.usd.shapes import Shape
from helix4d.assets.usd.skinning import SHOWN, read_skins
from helix4d.core import AssetError, ReasonCode
from helix4d.core.arrays import Float64Array

_MAX_NESTING = 8
_HIDDEN = (UsdGeom.Tokens.proxy, UsdGeom.Tokens.guide)
_INSTANCER_ATTRIBUTES = (
    *("protoIndices", "positions", "orientations", "orientationsf", "scales", "velocities", "accelerations"),
    *("angularVelocities", "invisibleIds"),
)


@dataclass(frozen=True, eq=False)
class Instancing:
    """A prototype of a point instancer.

    Attributes:
        instancer: the point instancer.
        number: index of the prototype in the instancer's `prototypes`.
        root: root prim of the prototype.
    """

    instancer: UsdGeom.PointInstancer
    number: int
    root: Usd.Prim


@dataclass(frozen=True, eq=False)
class Part:
    """A shape, and the point instancers that repeat it, innermost first."""

    shape: Shape
    instancing: tuple[Instancing, ...]


class Scene:
    """All visible shapes of a stage.

    Args:
        stage: the stage.
        path: path of its file, for error messages.
        limits: upper bounds on its size.
        warn: receives a message for every unsupported feature.

    Raises:
        AssetError: out_of_memory if it has too many prims, invalid_scene_graph if instancers contain each other.
    """

    def __init__(self, stage: Usd.Stage, path: Path, limits: Limits, warn: Callable[[str], None]) -> None:
        self.stage, self._path, self._limits, self._warn = stage, path, limits, warn
        self._skins, self._skeletons = read_skins(stage)
        self._shapes: dict[str, Shape] = {}
        self._prims = 0
        shown = Usd.TraverseInstanceProxies(Usd.PrimDefaultPredicate)
        self.parts = tuple(self._found(stage.GetPseudoRoot(), shown, ()))

    def matrices(self, part: Part, time: float, cache: UsdGeom.XformCache) -> Float64Array:
        """Return the (K, 4, 4) transforms from the space of a part's shape to the world, for its K visible instances.

        Args:
            part: the part.
            time: time code.
            cache: transforms at this time.
        """
        space = part.shape.skin.space if part.shape.skin else part.shape.prim
        found = np.eye(4)[None]
        shown = part.shape.prim
        for link in part.instancing:
            if not _is_visible(shown, link.root, time):
                return np.zeros((0, 4, 4))
            inner, reset = cache.ComputeRelativeTransform(space, link.root)
            placed = self._instances(link, time)
            if reset:
                self._warn(
                    f"{space.GetPath()}: transform reset in a prototype: instances are still moved by the instancer"
                )
            found = (found @ np.array(inner))[:, None] @ placed[None]
            found = found.reshape(-1, 4, 4)
            space = shown = link.instancer.GetPrim()
        if not len(found) or not _is_visible(shown, None, time):
            return np.zeros((0, 4, 4))
        return np.asarray(found @ np.array(cache.GetLocalToWorldTransform(space)))

    def attributes(self) -> Iterator[Usd.Attribute]:
        """Yield the attributes that may move, change or hide a part; some several times."""
        seen: set[str] = set()
        for part in self.parts:
            yield from part.shape.attributes()
            prims = [part.shape.prim, *([part.shape.skin.space] if part.shape.skin else [])]
            for link in part.instancing:
                prim = link.instancer.GetPrim()
                prims.append(prim)
                yield from (a for name in _INSTANCER_ATTRIBUTES if (a := prim.GetAttribute(name)))
            for prim in prims:
                while prim and str(prim.GetPath()) not in seen:
                    seen.add(str(prim.GetPath()))
                    imageable = UsdGeom.Imageable(prim)
                    if imageable:
                        yield imageable.GetVisibilityAttr()
                    if prim.IsA(UsdGeom.Xformable):
                        yield from (op.GetAttr() for op in UsdGeom.Xformable(prim).GetOrderedXformOps())
                    prim = prim.GetParent()

    def _found(self, root: Usd.Prim, shown: object, instancing: tuple[Instancing, ...]) -> Iterator[Part]:
        prims = iter(Usd.PrimRange(root, shown))
        for prim in prims:
            self._count()
            if prim.IsA(UsdGeom.PointInstancer):
                prims.PruneChildren()
                yield from self._instanced(UsdGeom.PointInstancer(prim), instancing)
            elif self._is_shown(prim):
                path = str(prim.GetPath())
                if path not in self._shapes:
                    self._shapes[path] = Shape(prim, self._skins.get(path), self._warn)
                yield Part(self._shapes[path], instancing)

    def _instanced(self, instancer: UsdGeom.PointInstancer, outer: tuple[Instancing, ...]) -> Iterator[Part]:
        path = instancer.GetPath()
        if len(outer) >= _MAX_NESTING or any(link.instancer.GetPath() == path for link in outer):
            message = f"{path}: point instancers contain each other, or are nested more than {_MAX_NESTING} levels deep"
            raise AssetError(ReasonCode.INVALID_SCENE_GRAPH, message, self._path)
        if UsdGeom.Imageable(instancer).ComputePurpose() in _HIDDEN:
            return
        for number, target in enumerate(instancer.GetPrototypesRel().GetForwardedTargets()):
            root = self.stage.GetPrimAtPath(target)
            if not root:
                self._warn(f"{path}: the prototype {target} does not exist: not shown")
                continue
            yield from self._found(root, SHOWN, (Instancing(instancer, number, root), *outer))

    def _is_shown(self, prim: Usd.Prim) -> bool:
        """Return whether a prim is a visible shape, and warn if its type is not supported."""
        name = str(prim.GetTypeName())
        supported = name == "Mesh" or name in GPRIMS
        if not supported and not prim.IsA(UsdGeom.Gprim):
            if name and not prim.IsA(Usd.Typed):
                self._warn(f"{prim.GetPath()}: prims of the unknown type {name} are not supported: not shown")
            return False
        if UsdGeom.Imageable(prim).ComputePurpose() in _HIDDEN:
            return False
        if not supported:
            self._warn(f"{prim.GetPath()}: prims of type {name} are not supported: not shown")
        return supported

    def _instances(self, link: Instancing, time: float) -> Float64Array:
        """Return the (K, 4, 4) transforms of the visible instances of a prototype, in the space of the instancer."""
        instancer = link.instancer
        indices = np.array(instancer.GetProtoIndicesAttr().Get(time) or (), np.int64)
        found = instancer.ComputeInstanceTransformsAtTime(
            time, time, UsdGeom.PointInstancer.IncludeProtoXform, UsdGeom.PointInstancer.IgnoreMask
        )
        if len(found) != len(indices):
            self._warn(f"{instancer.GetPath()}: positions, orientations or scales do not match protoIndices: not shown")
            return np.zeros((0, 4, 4))
        if len(indices) > self._limits.primitives:
            message = f"{instancer.GetPath()}: has {len(indices):,} instances, more than the limit of "
            raise AssetError(ReasonCode.OUT_OF_MEMORY, f"{message}{self._limits.primitives:,}", self._path)
        chosen = indices == link.number
        mask = instancer.ComputeMaskAtTime(time)
        if mask:
            chosen &= np.array(mask, bool)
        return np.array([found[int(number)] for number in np.flatnonzero(chosen)], np.float64).reshape(-1, 4, 4)

    def _count(self) -> None:
        self._prims += 1
        if self._prims > self._limits.nodes:
            message = f"has at least {self._prims:,} prims, more than the limit of {self._limits.nodes:,}"
            raise AssetError(ReasonCode.OUT_OF_MEMORY, message, self._path)


def _is_visible(prim: Usd.Prim, root: Usd.Prim | None, time: float) -> bool:
    """Return whether a prim and all its ancestors, up to `root` if it is given, are visible."""
    while prim and not prim.IsPseudoRoot():
        imageable = UsdGeom.Imageable(prim)
        if imageable and imageable.GetVisibilityAttr().Get(time) == UsdGeom.Tokens.invisible:
            return False
        if root is not None and prim == root:
            break
        prim = prim.GetParent()
    return True

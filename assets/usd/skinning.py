"""Deforms meshes with UsdSkel's queries: blend shapes with in-betweens, then linear or dual-quaternion skinning."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from pxr import Gf, Usd, UsdGeom, UsdSkel, Vt

from helix4d.core.arrays import Float64Array, Int64Array

SHOWN = Usd.TraverseInstanceProxies(Usd.PrimIsActive & Usd.PrimIsLoaded & Usd.PrimHasDefiningSpecifier)
"""Prims that can be shown, including those of instances and of prototypes below an `over`."""


@dataclass(frozen=True, eq=False)
class Skin:
    """Skeleton and blend shapes that deform a prim.

    Attributes:
        query: joint influences of the prim.
        skeleton: skeleton and its animation; inside an instance, those of its prototype.
        skeleton_prim: prim of the skeleton, inside the same instance as the skinned prim.
        shapes: blend shapes, or None.
    """

    query: UsdSkel.SkinningQuery
    skeleton: UsdSkel.SkeletonQuery
    skeleton_prim: Usd.Prim
    shapes: UsdSkel.BlendShapeQuery | None

    @property
    def follows_joints(self) -> bool:
        """Whether joints move the prim, so that its own transform is not used."""
        return bool(self.query.HasJointInfluences())

    @property
    def space(self) -> Usd.Prim:
        """The prim in whose space the deformed points are."""
        return self.skeleton_prim if self.follows_joints else self.query.GetPrim()

    def attributes(self) -> list[Usd.Attribute]:
        """Return the attributes that may animate the skin, apart from transforms."""
        animation = self.skeleton.GetAnimQuery()
        owners = [animation.GetPrim()] if animation else []
        names = ("translations", "rotations", "scales", "blendShapeWeights")
        primvars = UsdGeom.PrimvarsAPI(self.query.GetPrim())
        influences = [primvars.GetPrimvar(f"skel:{name}").GetAttr() for name in ("jointIndices", "jointWeights")]
        return [prim.GetAttribute(name) for prim in owners for name in names] + [found for found in influences if found]

    def deform(
        self, points: Vt.Vec3fArray, normals: Vt.Vec3fArray | None, owners: Int64Array | None, time: float
    ) -> bool:
        """Deform points and normals in place.

        Args:
            points: V points in the space of the prim; afterwards in that of `space`.
            normals: N normals, or None.
            owners: (N,) point that each normal belongs to.
            time: time code.

        Returns:
            Whether the joints mirror the majority of the points.

        Raises:
            ValueError: if usd-core cannot evaluate the skin.
        """
        if self.shapes is not None:
            self._add_shapes(self.shapes, points, time)
        if not self.follows_joints:
            return False
        matrices = self.skeleton.ComputeSkinningTransforms(time)
        bind = self.query.GetGeomBindTransform(time)
        if not self.query.ComputeSkinnedPoints(matrices, points, time):
            raise ValueError(f"{self.query.GetPrim().GetPath()}: usd-core cannot skin the prim")
        mapper = self.query.GetJointMapper()
        if mapper is not None and not mapper.IsIdentity():
            matrices = mapper.RemapTransforms(matrices, Vt.Matrix4dArray(), 1)
        joints, weights = self.query.ComputeVaryingJointInfluences(len(points), time)
        if normals is not None and owners is not None:
            self._skin_normals(normals, owners, matrices, bind, joints, weights)
        return _mirrors(matrices, bind, np.array(joints, np.int64), np.array(weights, np.float64))

    def _add_shapes(self, shapes: Any, points: Vt.Vec3fArray, time: float) -> None:
        animation = self.skeleton.GetAnimQuery()
        weights = animation.ComputeBlendShapeWeights(time) if animation else None
        if weights is None or not len(weights):
            return
        mapper = self.query.GetBlendShapeMapper()
        if mapper is not None and not mapper.IsIdentity():
            weights = mapper.Remap(weights, None, 1)
        shapes.ComputeDeformedPoints(
            *shapes.ComputeSubShapeWeights(weights),
            shapes.ComputeBlendShapePointIndices(),
            shapes.ComputeSubShapePointOffsets(),
            points,
        )

    def _skin_normals(
        self,
        normals: Vt.Vec3fArray,
        owners: Int64Array,
        matrices: Vt.Matrix4dArray,
        bind: Gf.Matrix4d,
        joints: Vt.IntArray,
        weights: Vt.FloatArray,
    ) -> None:
        count = self.query.GetNumInfluencesPerComponent()
        UsdSkel.SkinNormals(
            self.query.GetSkinningMethod(),
            _turn(bind),
            Vt.Matrix3dArray([_turn(matrix) for matrix in matrices]),
            Vt.IntArray.FromNumpy(np.array(joints, np.int32).reshape(-1, count)[owners].reshape(-1)),
            Vt.FloatArray.FromNumpy(np.array(weights, np.float32).reshape(-1, count)[owners].reshape(-1)),
            count,
            normals,
        )


def read_skins(stage: Usd.Stage) -> tuple[dict[str, Skin], UsdSkel.Cache]:
    """Return the skins of a stage by the path of the deformed prim, and the cache, which must outlive them."""
    cache, skins = UsdSkel.Cache(), {}
    prims = iter(Usd.PrimRange(stage.GetPseudoRoot(), SHOWN))
    for prim in prims:
        if not prim.IsA(UsdSkel.Root):
            continue
        prims.PruneChildren()  # a nested root belongs to the outer one
        root = UsdSkel.Root(prim)
        cache.Populate(root, SHOWN)
        for binding in cache.ComputeSkelBindings(root, SHOWN):
            skeleton = cache.GetSkelQuery(binding.GetSkeleton())
            for query in binding.GetSkinningTargets() if skeleton else ():
                if not (query.HasJointInfluences() or query.HasBlendShapes()):
                    continue
                target = query.GetPrim()
                shapes = UsdSkel.BlendShapeQuery(UsdSkel.BindingAPI(target)) if query.HasBlendShapes() else None
                skins[str(target.GetPath())] = Skin(query, skeleton, binding.GetSkeleton().GetPrim(), shapes)
    return skins, cache


def _turn(matrix: Gf.Matrix4d) -> Gf.Matrix3d:
    """Return the matrix that rotates normals when points, as row vectors, are multiplied by `matrix`."""
    return matrix.ExtractRotationMatrix().GetInverse().GetTranspose()


def _mirrors(matrices: Vt.Matrix4dArray, bind: Gf.Matrix4d, joints: Int64Array, weights: Float64Array) -> bool:
    signs = np.sign([matrix.GetDeterminant3() * bind.GetDeterminant3() for matrix in matrices])
    valid = (joints >= 0) & (joints < len(signs))
    return bool((signs[joints[valid]] * weights[valid]).sum() < 0)

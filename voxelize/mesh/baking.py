"""Bakes an O-Voxel's attributes into textures of its mesh: unwraps the mesh, then samples the voxels for every texel.

Like TRELLIS.2's exporter, but without a GPU. Texels of a simplified mesh sample the nearest point of the full surface.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from helix4d.core import ConfigError
from helix4d.voxelize.kernels.baking_kernels import rasterize_positions, sample_voxels
from helix4d.voxelize.mesh.alpha_mode import AlphaCounts
from helix4d.voxelize.mesh.cleaning import vertex_normals
from helix4d.voxelize.mesh.nearest import Surface
from helix4d.voxelize.mesh.unwrap import XATLAS_FACES, unwrap
from helix4d.voxelize.ovoxel import OVoxel, morton_codes, spread_table


@dataclass(frozen=True, eq=False)
class BakedMesh:
    """A textured mesh.

    Attributes:
        vertices: float32 (V, 3), Z up; vertices of the input are repeated along seams.
        normals: float32 (V, 3), unit.
        uvs: float32 (V, 2), v down as in glTF.
        faces: int32 (F, 3).
        base_color: uint8 (S, S, 4), sRGB as in the voxels, and alpha.
        metallic_roughness: uint8 (S, S, 3), channels as in glTF: roughness in green, metallic in blue.
        alpha: numbers of voxels by alpha, from which the alpha mode follows.
    """

    vertices: np.ndarray
    normals: np.ndarray
    uvs: np.ndarray
    faces: np.ndarray
    base_color: np.ndarray
    metallic_roughness: np.ndarray
    alpha: AlphaCounts


def bake_mesh(
    vertices: np.ndarray,
    faces: np.ndarray,
    ovoxel: OVoxel,
    texture_size: int = 1024,
    full_faces: np.ndarray | None = None,
    xatlas_faces: int = XATLAS_FACES,
) -> BakedMesh:
    """Unwrap a mesh and fill its textures.

    Args:
        vertices: (N, 3) float32 in the unit cube, Z up.
        faces: (F, 3) int32; at least one.
        ovoxel: attributes of the surface, in Morton order.
        texture_size: pixels per side S.
        full_faces: (F', 3) faces of the full surface of the same vertices, if the mesh was simplified. Normals and
            attributes are taken from it.
        xatlas_faces: meshes with more faces are unwrapped in blocks, which is fast but makes smaller charts.

    Raises:
        ConfigError: if xatlas is not installed, the mesh has no face, or the texture is too small.
    """
    if not len(faces) or texture_size < 1:
        raise ConfigError(f"cannot bake {len(faces)} faces into a texture of {texture_size} pixels per side")
    normals = vertex_normals(vertices, faces if full_faces is None else full_faces)
    used, compact = np.unique(faces, return_inverse=True)
    compacted = compact.reshape(faces.shape).astype(np.int32)
    cut = unwrap(vertices[used], compacted, ovoxel.resolution, texture_size, xatlas_faces)
    origin = used[cut.origin]
    placed = np.ascontiguousarray(vertices[origin], np.float32)

    positions = np.zeros((texture_size, texture_size, 3), np.float32)
    distances = np.full((texture_size, texture_size), np.inf, np.float32)
    rasterize_positions(cut.uvs, placed, cut.faces, texture_size, positions, distances)
    covered = np.isfinite(distances)
    attributes = np.concatenate([ovoxel.base_color, ovoxel.alpha, ovoxel.roughness, ovoxel.metallic], axis=1)
    image = np.zeros((texture_size, texture_size, 6), np.float32)
    points = positions[covered]
    if full_faces is not None:
        points = Surface.build(vertices, full_faces).nearest(points)[0].astype(np.float32)
    image[covered] = sample_attributes(points, ovoxel, attributes)
    image = np.round(_fill(image, covered)).astype(np.uint8)

    base_color = np.ascontiguousarray(image[..., :4])
    metallic_roughness = np.zeros((texture_size, texture_size, 3), np.uint8)
    metallic_roughness[..., 1:] = image[..., 4:]
    return BakedMesh(
        placed, normals[origin], cut.uvs, cut.faces, base_color, metallic_roughness, AlphaCounts.of(ovoxel)
    )


def sample_attributes(points: np.ndarray, ovoxel: OVoxel, attributes: np.ndarray) -> np.ndarray:
    """Sample the voxels' (N, C) attributes at points (P, 3) of the unit cube: float32 (P, C); see `sample_voxels`.

    Raises:
        ConfigError: if a point is more than 8 voxels from the nearest one.
    """
    out = np.zeros((len(points), attributes.shape[1]), np.float32)
    codes = morton_codes(ovoxel.coords)
    table = spread_table(ovoxel.resolution).astype(np.int64)
    values = np.ascontiguousarray(attributes, np.float32)
    lost = sample_voxels(np.ascontiguousarray(points, np.float32), codes, table, ovoxel.resolution, values, out)
    if lost:
        raise ConfigError(
            f"{lost} of {len(points)} points have no voxel within 8 voxels: are mesh and O-Voxel of the same frame?"
        )
    return out


def _fill(image: np.ndarray, covered: np.ndarray) -> np.ndarray:
    """Fill texels between charts with the mean of the smallest enclosing square that has a value, for mip levels.

    image (S, S, C) float32, covered (S, S) bool.
    """
    if covered.all() or not covered.any():
        return image
    odd = ((0, image.shape[0] % 2), (0, image.shape[1] % 2))
    values = np.pad(image * covered[..., None], (*odd, (0, 0)))
    weights = np.pad(covered.astype(np.float32), odd)
    rows, columns = values.shape[0] // 2, values.shape[1] // 2
    sums = values.reshape(rows, 2, columns, 2, -1).sum(axis=(1, 3))
    counts = weights.reshape(rows, 2, columns, 2).sum(axis=(1, 3))
    coarse = _fill(sums / np.maximum(counts, 1)[..., None], counts > 0)
    finer = coarse.repeat(2, axis=0).repeat(2, axis=1)[: image.shape[0], : image.shape[1]]
    return np.where(covered[..., None], image, finer)

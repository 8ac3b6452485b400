"""Turns the surfaces of a clip's frames into files that other programs read: cleaned, simplified and textured."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from helix4d.core import ConfigError
from helix4d.core.extras import missing_package
from helix4d.voxelize.mesh.alpha_mode import clip_alpha_mode
from helix4d.voxelize.mesh.baking import BakedMesh, bake_mesh
from helix4d.voxelize.mesh.cleaning import fill_holes, remove_small_components
from helix4d.voxelize.mesh.glb import TextureFormat, clip_glb, encode_textures, frame_glb, morph_glb
from helix4d.voxelize.mesh.morph import TopologyChangeError, follow_clip
from helix4d.voxelize.mesh.simplify import simplify
from helix4d.voxelize.mesh.unwrap import XATLAS_FACES
from helix4d.voxelize.mesh.usdz import clip_usdz
from helix4d.voxelize.ovoxel import OVoxel

log = logging.getLogger("helix4d.voxelize")

CLIP_FILES = ("clip.glb", "clip_morph.glb", "clip.usdz")


@dataclass(frozen=True, kw_only=True)
class ExportSettings:
    """How meshes are cleaned, textured and written."""

    fill_holes: float = 0.03
    """Close holes whose boundary is at most this long (the cube's side is 1). TRELLIS.2's value; 0 closes none."""
    min_component: float = 0.0001
    """Remove components with less than this fraction of a frame's faces; 0 removes none."""
    faces: int | None = 200_000
    """Simplify each frame to at most this many faces; None keeps all."""
    texture_size: int = 1024
    """Pixels per side of the baked textures."""
    xatlas_faces: int = XATLAS_FACES
    """Unwrap meshes with more faces in blocks: seconds instead of minutes for a clip, but more seams."""
    texture_format: TextureFormat = TextureFormat.PNG
    """png, or webp for smaller files, which readers without EXT_texture_webp refuse."""
    meshopt: bool = False
    """Quantize and compress the geometry of clip.glb, which readers without EXT_meshopt_compression refuse."""
    morph: bool = False
    """Also write clip_morph.glb, one mesh with morph targets, if the mesh of frame 0 can follow all frames."""
    usdz: bool = False
    """Also write clip.usdz."""

    def __post_init__(self) -> None:
        if self.texture_size < 1:
            raise ConfigError(f"texture_size is {self.texture_size}: must be at least 1")
        if self.faces is not None and self.faces < 4:
            raise ConfigError(f"faces is {self.faces}: must be at least 4, or None to keep all")
        if not self.fill_holes >= 0 or not 0 <= self.min_component <= 1:
            raise ConfigError(
                f"fill_holes is {self.fill_holes} and min_component {self.min_component}: expected a length and a "
                f"fraction of at most 1, neither negative"
            )


def require_packages(settings: ExportSettings) -> None:
    """Check that everything is installed, before hours of work.

    Raises:
        SetupError: if a package is missing.
    """
    needed = {"xatlas": "model"} if settings.xatlas_faces else {}
    if settings.faces is not None or settings.meshopt:
        needed["meshoptimizer"] = "model"
    if settings.usdz:
        needed["pxr"] = "curate"
    for module, extra in needed.items():
        if importlib.util.find_spec(module) is None:
            raise missing_package("writing meshes", module, extras=extra)


def textured_mesh(
    vertices: np.ndarray, faces: np.ndarray, ovoxel: OVoxel, settings: ExportSettings
) -> BakedMesh | None:
    """Clean, simplify and texture the surface of a frame; None if it has no face.

    Args:
        vertices: (V, 3) float32 in the unit cube, Z up.
        faces: (F, 3) int32, consistently oriented.
        ovoxel: attributes of the surface, in Morton order.
        settings: how.
    """
    if not len(faces):
        return None
    kept = remove_small_components(faces, settings.min_component)
    full_vertices, full = fill_holes(vertices, kept, settings.fill_holes)
    few = full if settings.faces is None else simplify(full_vertices, full, settings.faces)
    full_faces = None if few is full else full
    return bake_mesh(full_vertices, few, ovoxel, settings.texture_size, full_faces, settings.xatlas_faces)


def clip_files(meshes: Sequence[BakedMesh | None], fps: float, settings: ExportSettings) -> Iterator[tuple[str, bytes]]:
    """Yield the name and content of each file of a clip: a GLB per frame with a mesh, then those of `CLIP_FILES`.

    All of them have one alpha mode. Without any mesh there are no files; without a mesh that follows all frames, there
    is no `clip_morph.glb`, which is logged as a warning.
    """
    if all(mesh is None for mesh in meshes):
        return
    mode = clip_alpha_mode(mesh.alpha for mesh in meshes if mesh is not None)
    textured = [None if mesh is None else encode_textures(mesh, mode, settings.texture_format) for mesh in meshes]
    for number, mesh in enumerate(textured):
        if mesh is not None:
            name = f"frame_{number:02d}"
            yield f"{name}.glb", frame_glb(mesh, name)
    yield "clip.glb", clip_glb(textured, fps, settings.meshopt)
    if settings.morph:
        try:
            clip = follow_clip(meshes)
        except TopologyChangeError as error:
            log.warning("clip_morph.glb is not written: %s", error)
        else:
            first = textured[0]
            if first is not None:
                yield "clip_morph.glb", morph_glb(clip, first, fps, settings.meshopt)
    if settings.usdz:
        yield "clip.usdz", clip_usdz(meshes, fps, mode)

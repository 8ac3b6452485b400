"""Converts baked meshes to a `Clip`, mainly for rendering."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from helix4d.assets import AlphaMode, Clip, Frame, Material, Texture, Topology
from helix4d.voxelize.mesh.alpha_mode import clip_alpha_mode
from helix4d.voxelize.mesh.baking import BakedMesh


def baked_clip(meshes: Sequence[BakedMesh | None], fps: float, alpha_mode: AlphaMode | None = None) -> Clip:
    """A clip with one material and two images per frame.

    Args:
        meshes: one mesh per frame; None for an empty frame.
        fps: frames per second.
        alpha_mode: how alpha is drawn; by default as `clip_alpha_mode` says.
    """
    if alpha_mode is None:
        alpha_mode = clip_alpha_mode(mesh.alpha for mesh in meshes if mesh is not None)
    frames: list[Frame] = []
    materials: list[Material] = []
    images: list[np.ndarray] = []
    for mesh in meshes:
        if mesh is None:
            empty = Topology(np.zeros((0, 3), np.int32), np.zeros((1, 0, 3, 2), np.float32), np.zeros(0, np.int32))
            frames.append(Frame(np.zeros((0, 3), np.float32), np.zeros((0, 3), np.float32), empty))
            continue
        ids = np.full(len(mesh.faces), len(materials), np.int32)
        topology = Topology(mesh.faces, np.ascontiguousarray(mesh.uvs[mesh.faces][None]), ids)
        frames.append(Frame(mesh.vertices, mesh.normals, topology))
        materials.append(
            Material(
                base_color_texture=Texture(len(images)),
                metallic_roughness_texture=Texture(len(images) + 1),
                alpha_mode=alpha_mode,
                double_sided=True,
            )
        )
        opaque = np.full((*mesh.metallic_roughness.shape[:2], 1), 255, np.uint8)
        images += [mesh.base_color, np.concatenate([mesh.metallic_roughness, opaque], axis=2)]
    return Clip("generated", 0, np.arange(len(meshes)) / fps, tuple(frames), tuple(materials), tuple(images))

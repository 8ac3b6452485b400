"""Writes baked meshes as binary glTF: one file per frame, or one animated file with a node per frame."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from helix4d import __version__
from helix4d.assets.gltf.writer import GlbBuilder, Mesh, Part, Track
from helix4d.core import ConfigError
from helix4d.voxelize.mesh.baking import BakedMesh

_PNG_LEVEL = 6


def frame_glb(mesh: BakedMesh, name: str = "frame") -> bytes:
    """Write one mesh; the alphaMode of its material is BLEND if its voxels are transparent."""
    builder = _builder(name)
    builder.node(name, mesh=_add(builder, mesh, name))
    return builder.build()


def clip_glb(meshes: Sequence[BakedMesh | None], fps: float) -> bytes:
    """Write all frames into one file that any glTF player can play.

    Topology changes from frame to frame, so morph targets cannot be used. Instead, each frame is a node with scale 1 in
    its interval and 0 otherwise, with STEP interpolation.

    Args:
        meshes: one mesh per frame; None for a frame without surface.
        fps: frames per second; frame f is shown from f / fps to (f + 1) / fps.

    Raises:
        ConfigError: if no frame has a mesh, or fps is not positive.
    """
    if not fps > 0 or all(mesh is None for mesh in meshes):
        raise ConfigError(f"{len(meshes)} frames at {fps} frames per second: expected a mesh and a positive rate")
    builder = _builder("clip")
    root = builder.node("clip")
    count = len(meshes)
    tracks = []
    for number, mesh in enumerate(meshes):
        if mesh is None:
            continue
        name = f"frame_{number:02d}"
        node = builder.node(name, parent=root, mesh=_add(builder, mesh, name))
        # At least two keys, the last one at the end of the clip, so that all frames have the same duration.
        times = sorted({0, number, number + 1, count})
        shown = [1.0 if t == number or (t == count and number == count - 1) else 0.0 for t in times]
        scales = np.repeat(np.array(shown)[:, None], 3, axis=1)
        tracks.append(Track(node, "scale", np.array(times) / fps, scales, interpolation="STEP"))
    builder.animation("frames", tracks)
    return builder.build()


def _builder(title: str) -> GlbBuilder:
    return GlbBuilder(f"Helix4D {__version__}", {"title": title})


def _add(builder: GlbBuilder, mesh: BakedMesh, name: str) -> int:
    base = mesh.base_color if mesh.transparent else mesh.base_color[..., :3]
    material = builder.material(
        name,
        metallic=1.0,
        roughness=1.0,
        color_texture=builder.texture(base, f"{name}_base_color", _PNG_LEVEL),
        metallic_roughness_texture=builder.texture(mesh.metallic_roughness, f"{name}_metallic_roughness", _PNG_LEVEL),
        alpha_mode="BLEND" if mesh.transparent else "OPAQUE",
        double_sided=True,
    )
    surface = Mesh(_y_up(mesh.vertices), _y_up(mesh.normals), mesh.uvs.astype(np.float64), mesh.faces.astype(np.int64))
    return builder.mesh(name, [Part(surface, material)])


def _y_up(points: np.ndarray) -> np.ndarray:
    """Convert Z up to glTF's Y up: (x, y, z) to (x, z, -y)."""
    return np.stack([points[:, 0], points[:, 2], -points[:, 1]], axis=1).astype(np.float64)

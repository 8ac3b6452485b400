"""Writes baked meshes as binary glTF: a file per frame, an animated file with a node per frame, or one that morphs."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np
from PIL import Image

from helix4d import __version__
from helix4d.assets import AlphaMode
from helix4d.assets.gltf.meshopt_writer import compress_glb, vertex_order
from helix4d.assets.gltf.writer import GlbBuilder, Mesh, Part, Target, Track
from helix4d.core import ConfigError
from helix4d.voxelize.mesh.baking import BakedMesh
from helix4d.voxelize.mesh.morph import MorphedClip

_PNG_LEVEL = 6
_WEBP_QUALITY = 90


class TextureFormat(StrEnum):
    """Image files in a GLB."""

    PNG = "png"
    WEBP = "webp"
    """EXT_texture_webp: base color with losses (alpha without), metallic and roughness without."""


@dataclass(frozen=True, eq=False)
class TexturedMesh:
    """A mesh with its textures as files, so that they are encoded once for all files that contain them.

    Attributes:
        mesh: the mesh.
        alpha_mode: how its alpha is drawn.
        base_color: a file of `mime_type`; without alpha if the mode is OPAQUE.
        metallic_roughness: a file of `mime_type`.
        mime_type: image/png or image/webp.
    """

    mesh: BakedMesh
    alpha_mode: AlphaMode
    base_color: bytes
    metallic_roughness: bytes
    mime_type: str


def encode_textures(
    mesh: BakedMesh, alpha_mode: AlphaMode | None = None, texture_format: TextureFormat = TextureFormat.PNG
) -> TexturedMesh:
    """Encode the textures of a mesh; the alpha mode is by default that of the mesh alone."""
    mode = mesh.alpha.mode if alpha_mode is None else alpha_mode
    base = mesh.base_color[..., :3] if mode is AlphaMode.OPAQUE else mesh.base_color
    if texture_format is TextureFormat.PNG:
        files = [_image(pixels, "PNG", compress_level=_PNG_LEVEL) for pixels in (base, mesh.metallic_roughness)]
        return TexturedMesh(mesh, mode, files[0], files[1], "image/png")
    color = _image(base, "WEBP", quality=_WEBP_QUALITY, alpha_quality=100)
    return TexturedMesh(mesh, mode, color, _image(mesh.metallic_roughness, "WEBP", lossless=True), "image/webp")


def frame_glb(mesh: TexturedMesh, name: str = "frame") -> bytes:
    """Write one mesh."""
    builder = glb_builder(name)
    builder.node(name, mesh=builder.mesh(name, [Part(gltf_mesh(mesh.mesh), add_material(builder, mesh, name))]))
    return builder.build()


def clip_glb(meshes: Sequence[TexturedMesh | None], fps: float, meshopt: bool = False) -> bytes:
    """Write all frames into one file that any glTF player can play.

    Topology changes from frame to frame, so morph targets cannot be used. Instead, each frame is a node with scale 1 in
    its interval and 0 otherwise, with STEP interpolation.

    Args:
        meshes: one mesh per frame; None for a frame without surface.
        fps: frames per second; frame f is shown from f / fps to (f + 1) / fps.
        meshopt: quantize vertices (KHR_mesh_quantization) and compress them (EXT_meshopt_compression).

    Raises:
        ConfigError: if no frame has a mesh, or fps is not positive.
    """
    if not fps > 0 or all(mesh is None for mesh in meshes):
        raise ConfigError(f"{len(meshes)} frames at {fps} frames per second: expected a mesh and a positive rate")
    builder = glb_builder("clip")
    root = builder.node("clip")
    count = len(meshes)
    tracks = []
    for number, mesh in enumerate(meshes):
        if mesh is None:
            continue
        name = f"frame_{number:02d}"
        surface = gltf_mesh(_reordered(mesh.mesh, *vertex_order(mesh.mesh.faces)) if meshopt else mesh.mesh)
        index = builder.mesh(name, [Part(surface, add_material(builder, mesh, name))], quantized=meshopt)
        node = builder.node(name, parent=root, mesh=index)
        # At least two keys, the last one at the end of the clip, so that all frames have the same duration.
        times = sorted({0, number, number + 1, count})
        shown = [1.0 if t == number or (t == count and number == count - 1) else 0.0 for t in times]
        scales = np.repeat(np.array(shown)[:, None], 3, axis=1)
        tracks.append(Track(node, "scale", np.array(times) / fps, scales, interpolation="STEP"))
    builder.animation("frames", tracks)
    return compress_glb(builder.build()) if meshopt else builder.build()


def morph_glb(clip: MorphedClip, textures: TexturedMesh, fps: float, meshopt: bool = False) -> bytes:
    """Write one mesh with a morph target per later frame, which engines can blend, shade and instance.

    Args:
        clip: one mesh for all frames.
        textures: the textures of `clip.mesh`.
        fps: frames per second; frame f is reached at f / fps, and frames in between are interpolated.
        meshopt: quantize vertices (KHR_mesh_quantization) and compress them (EXT_meshopt_compression).
    """
    mesh, places, normals = clip.mesh, clip.positions, clip.normals
    if meshopt:
        order, faces = vertex_order(mesh.faces)
        mesh = _reordered(mesh, order, faces)
        places, normals = places[:, order], normals[:, order]
    builder = glb_builder("clip")
    targets = [
        Target(f"frame_{number:02d}", y_up(places[number]), y_up(normals[number])) for number in range(1, len(places))
    ]
    base = gltf_mesh(replace(mesh, vertices=places[0], normals=normals[0]))
    part = Part(base, add_material(builder, textures, "clip"), targets)
    node = builder.node("clip", mesh=builder.mesh("clip", [part], quantized=meshopt))
    if targets:
        times = np.arange(len(places) + 1) / fps  # the last frame lasts as long as the others
        weights = np.eye(len(places))[np.minimum(np.arange(len(places) + 1), len(places) - 1), 1:]
        builder.animation("frames", [Track(node, "weights", times, weights)])
    return compress_glb(builder.build()) if meshopt else builder.build()


def glb_builder(title: str) -> GlbBuilder:
    """Start a file."""
    return GlbBuilder(f"Helix4D {__version__}", {"title": title})


def add_material(builder: GlbBuilder, mesh: TexturedMesh, name: str) -> int:
    """Add the material of a mesh and its textures."""
    return builder.material(
        name,
        metallic=1.0,
        roughness=1.0,
        color_texture=builder.image_file(mesh.base_color, mesh.mime_type, f"{name}_base_color"),
        metallic_roughness_texture=builder.image_file(
            mesh.metallic_roughness, mesh.mime_type, f"{name}_metallic_roughness"
        ),
        alpha_mode=mesh.alpha_mode.value,
        double_sided=True,
    )


def gltf_mesh(mesh: BakedMesh) -> Mesh:
    """Convert a mesh to glTF's axes and types."""
    return Mesh(y_up(mesh.vertices), y_up(mesh.normals), mesh.uvs.astype(np.float64), mesh.faces.astype(np.int64))


def y_up(points: np.ndarray) -> np.ndarray:
    """Convert Z up to glTF's Y up: (x, y, z) to (x, z, -y)."""
    return np.stack([points[:, 0], points[:, 2], -points[:, 1]], axis=1).astype(np.float64)


def _reordered(mesh: BakedMesh, order: np.ndarray, faces: np.ndarray) -> BakedMesh:
    arrays = {name: getattr(mesh, name)[order] for name in ("vertices", "normals", "uvs")}
    return replace(mesh, **arrays, faces=faces.astype(np.int32))


def _image(pixels: np.ndarray, kind: str, **options: int) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(stream, kind, **options)
    return stream.getvalue()

"""Removes the triangles of a scene that are never visible, before anything is measured or posed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from helix4d.assets.clip import AlphaMode, Material
from helix4d.assets.gltf.animation import Track
from helix4d.assets.gltf.geometry import Geometry
from helix4d.assets.gltf.images import Images
from helix4d.assets.gltf.looks import changing_materials, most_visible
from helix4d.assets.gltf.materials import Materials
from helix4d.assets.gltf.parse.document import Document
from helix4d.assets.gltf.scene import Part
from helix4d.assets.visibility import can_show, invisible_warning, largest_alpha


def visible_parts(
    parts: Iterable[Part], document: Document, images: Images, tracks: Iterable[Track] = ()
) -> tuple[Part, ...]:
    """Return the parts with only those triangles that may be visible; parts without any are dropped.

    The document gets a warning for every material with invisible triangles. Only images of materials that are not
    opaque are decoded.

    Args:
        parts: parts of the scene.
        document: the document, which collects the warnings.
        images: images that are added to.
        tracks: tracks of an animation, which may show a material at some time.
    """
    entries, changing = document.root.children("materials"), changing_materials(tracks)
    materials = Materials(document, images)
    seen: dict[int, Geometry] = {}
    kept: list[Part] = []
    for part in parts:
        geometry, number = part.geometry, part.geometry.material
        if number is not None and entries[number].text("alphaMode", "OPAQUE") != AlphaMode.OPAQUE:
            if id(geometry) not in seen:
                material = most_visible(materials[number], changing.get(number, ()))
                seen[id(geometry)] = _visible(geometry, material, images)
                if len(seen[id(geometry)].faces) < len(geometry.faces):
                    document.warn(invisible_warning(f"materials[{number}]", materials[number]))
            geometry = seen[id(geometry)]
            if not len(geometry.faces):
                continue
        kept.append(replace(part, geometry=geometry))
    return tuple(kept)


def _visible(geometry: Geometry, material: Material, images: Images) -> Geometry:
    texture = material.base_color_texture
    texture_alpha = 1.0 if texture is None else largest_alpha(images.kept[texture.image])
    # Morph targets may raise the alpha of vertices.
    colors = geometry.colors if geometry.morph_colors is None else None
    corners = None if colors is None else colors[geometry.faces]
    mask = can_show(material, texture_alpha, corners, len(geometry.faces))
    return geometry if mask.all() else replace(geometry, faces=geometry.faces[mask])

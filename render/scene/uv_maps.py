"""UV maps: UV sets after texture transforms, and the distinct ones of a material."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from helix4d.assets import Material, Texture, Topology


@dataclass(frozen=True)
class UvMap:
    """A UV set after a texture transform: one UV layer in Blender, one vertex attribute of the rasterizer.

    Attributes:
        uv_set: index into `Topology.uvs`.
        matrix: rows of `Texture.matrix`, which maps the set's UVs to sampled UVs.
    """

    uv_set: int
    matrix: tuple[tuple[float, ...], ...]

    @classmethod
    def of(cls, texture: Texture) -> UvMap:
        """Return the UV map of a texture."""
        return cls(texture.uv_set, tuple(map(tuple, texture.matrix().tolist())))

    def apply(self, uvs: np.ndarray) -> np.ndarray:
        """Map (S, F, 3, 2) glTF UV sets to (F, 3, 2) float64 sampled UVs (v down); zeros if the set is missing."""
        if self.uv_set >= len(uvs):
            return np.zeros(uvs.shape[1:])
        matrix = np.array(self.matrix)
        return np.asarray(uvs[self.uv_set].astype(np.float64) @ matrix[:, :2].T + matrix[:, 2])


def uv_maps(material: Material) -> list[UvMap]:
    """Return the distinct UV maps of a material's textures, in the order of the layers.

    A material has at most six textures, so six layers are enough for any clip (Blender allows eight).
    """
    textures = (
        material.base_color_texture,
        material.metallic_roughness_texture,
        material.normal_texture,
        material.emissive_texture,
        material.transmission_texture,
        material.thickness_texture,
    )
    return list(dict.fromkeys(UvMap.of(texture) for texture in textures if texture is not None))


def uv_layer(topology: Topology, maps: Sequence[Sequence[UvMap]], slot: int) -> np.ndarray:
    """(F, 3, 2) float64 UVs of every face under map number `slot` of its material; zeros if it has no such map.

    Args:
        topology: triangles with UV sets.
        maps: result of `uv_maps` for every material.
        slot: number of the layer.
    """
    layer = np.zeros((len(topology.faces), 3, 2))
    for index, own in enumerate(maps):
        if slot < len(own):
            faces = topology.material_ids == index
            layer[faces] = own[slot].apply(topology.uvs[:, faces])
    return layer

"""Finds surfaces that are invisible in a frame, because their alpha is 0 or below the cutoff everywhere."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from helix4d.assets.clip import AlphaMode, Clip, Material, Topology
from helix4d.core import AssetError, ReasonCode
from helix4d.core.arrays import BoolArray, FloatArray

_INVISIBLE = 0.5 / 255
"""With BLEND, alpha below this rounds to 0 in 8 bits."""

EVERYWHERE = "everywhere are left out"
"""Ending of the warning for surfaces that are invisible in all frames."""

ALL_INVISIBLE = "every surface is fully transparent: nothing is visible"


def can_show(material: Material, texture_alpha: float, colors: FloatArray | None, faces: int) -> BoolArray:
    """Return an (F,) bool mask of the triangles that may be visible.

    A triangle is judged by the largest alpha of its corners and of the whole texture, so no visible one is lost.

    Args:
        material: material of the triangles.
        texture_alpha: largest alpha of its base color texture, from 0 to 1; 1 without a texture.
        colors: (F, 3, 4) RGBA of the corners, or None.
        faces: number of triangles F.
    """
    if material.alpha_mode is AlphaMode.OPAQUE:
        return np.ones(faces, bool)
    least = material.alpha_cutoff if material.alpha_mode is AlphaMode.MASK else _INVISIBLE
    corner_alpha = np.ones(faces) if colors is None else colors[..., 3].max(axis=1, initial=0.0).astype(np.float64)
    return np.asarray(material.alpha * texture_alpha * corner_alpha >= least)


def without_invisible(clip: Clip) -> Clip:
    """Remove the triangles that are invisible in a frame from that frame; frames still share topologies.

    A surface that fades is therefore missing from some frames only: it has no voxels there, and does not count
    for the box around the clip.

    Raises:
        AssetError: empty_geometry if nothing remains.
    """
    alphas = [_texture_alpha(material, clip) for material in clip.materials]
    topologies: dict[int, Topology] = {}
    hidden: dict[int, set[int]] = {}
    for topology in {id(frame.topology): frame.topology for frame in clip.frames}.values():
        mask = np.ones(len(topology.faces), bool)
        for number, material in enumerate(clip.materials):
            if material.alpha_mode is AlphaMode.OPAQUE:
                continue
            rows = topology.material_ids == number
            colors = None if topology.colors is None else topology.colors[rows]
            mask[rows] = can_show(material, alphas[number], colors, int(rows.sum()))
        for number in np.unique(topology.material_ids[~mask]).tolist():
            hidden.setdefault(number, set()).add(id(topology))
        topologies[id(topology)] = topology if mask.all() else topology.only(mask)
    if not hidden:
        return clip
    if not any(len(topology.faces) for topology in topologies.values()):
        raise AssetError(ReasonCode.EMPTY_GEOMETRY, f"clip {clip.name!r}: {ALL_INVISIBLE}")
    frames = tuple(replace(frame, topology=topologies[id(frame.topology)]) for frame in clip.frames)
    warnings = []
    for number, where in sorted(hidden.items()):
        count = sum(id(frame.topology) in where for frame in clip.frames)
        always = count == len(clip.frames)
        when = EVERYWHERE if always else f"in {count} of {len(clip.frames)} frames are left out there"
        warnings.append(invisible_warning(f"materials[{number}]", clip.materials[number], when))
    return replace(clip, frames=frames, warnings=(*clip.warnings, *warnings))


def invisible_warning(where: str, material: Material, when: str = EVERYWHERE) -> str:
    """Return the warning for a material some of whose surfaces are left out: in all frames unless `when` differs."""
    name = f" ({material.name[:40]!r})" if material.name else ""
    return f"{where}{name}: surfaces whose alpha makes them invisible {when}"


def largest_alpha(image: np.ndarray) -> float:
    """Return the largest alpha of (H, W, 4) uint8 pixels, from 0 to 1."""
    return float(image[..., 3].max(initial=0)) / 255


def _texture_alpha(material: Material, clip: Clip) -> float:
    texture = material.base_color_texture
    if material.alpha_mode is AlphaMode.OPAQUE or texture is None:
        return 1.0
    return largest_alpha(clip.images[texture.image])

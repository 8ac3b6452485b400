"""Measures a clip for the filters: a handful of numbers, its license and the hash of its shape."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np

from helix4d.assets import Clip, motion, normalize
from helix4d.assets.appearance import appearance_change
from helix4d.assets.surface import size, solid
from helix4d.core.arrays import Float32Array, Float64Array
from helix4d.curation.filters.backdrop import backdrop_share
from helix4d.curation.filters.flicker import flicker
from helix4d.curation.filters.geometry_hash import geometry_hash
from helix4d.curation.filters.licenses import asset_license, license_text
from helix4d.curation.filters.poses import distinct_poses, start_jump
from helix4d.curation.filters.surface_kernels import place_of_share
from helix4d.curation.filters.thresholds import MeasuredClip
from helix4d.curation.filters.visibility import frame_visibility

_BULK = 0.98
"""Share of the surface inside the reference box of `scale_excursion`, along each axis."""
_OVER_TIME = frozenset(
    {"motion", "appearance_change", "centroid_excursion", "scale_excursion", "flicker", "distinct_poses", "start_jump"}
)
"""Measures that a clip of one frame does not have."""
_DIGITS = 6
_LICENSE_CHARACTERS = 200


def measure(clip: Clip, key: str, metadata: Mapping[str, Any] = MappingProxyType({})) -> MeasuredClip:
    """Measure a baked clip. No decision is made here.

    Args:
        clip: clip, not normalized yet.
        key: key of its sample.
        metadata: metadata from the asset's source; a license there is combined with the file's own.
    """
    license = asset_license(clip.extras, metadata)  # noqa: A001 (the natural name)
    unit = normalize(clip)[0] if any(solid(frame).any() for frame in clip.frames) else None
    values = {"first_frame": 0.0} if unit is None else _measures(clip, unit)
    if len(clip.times) > 1:
        values["duration_s"] = float(clip.times[-1] - clip.times[0])
        values["frame_gap_s"] = float(np.diff(clip.times).max())
    else:
        values = {name: value for name, value in values.items() if name not in _OVER_TIME}
    return MeasuredClip(
        key=key,
        name=clip.name,
        measures={name: _rounded(value) for name, value in values.items()},
        license=license.name if license else "",
        license_text=license_text(clip.extras, metadata)[:_LICENSE_CHARACTERS],
        geometry_hash="" if unit is None else geometry_hash(unit),
    )


def _measures(clip: Clip, unit: Clip) -> dict[str, float]:
    area = [frame.areas for frame in unit.frames]
    total = np.array([float(one.sum()) for one in area])
    looks = [frame_visibility(unit, frame) for frame in _looked_at(unit) if total[frame] > 0]
    change = appearance_change(clip)
    return {
        "first_frame": float(total[0] / total.max()),
        "size": size(clip),
        "motion": motion(clip),
        "centroid_excursion": _centroid_excursion(unit, area),
        "scale_excursion": _scale_excursion(unit, area),
        "foreground": float(np.mean([look.foreground for look in looks])) if looks else 0.0,
        "visible": max((look.visible for look in looks), default=0.0),
        "flicker": flicker(unit),
        "distinct_poses": float(distinct_poses(unit)),
        "start_jump": start_jump(unit),
        "backdrop_share": backdrop_share(unit),
        "emissive_share": float(np.mean([look.emissive for look in looks])) if looks else 0.0,
        "outline_share": _outline_share(unit),
        "faces": float(max(int((one > 0).sum()) for one in area)),
        "texture_pixels": float(sum(image.shape[0] * image.shape[1] for image in clip.images)),
        # Absent where it is 0, so that samples without it keep their bytes.
        **({"appearance_change": change} if change else {}),
    }


def _outline_share(clip: Clip) -> float:
    """Return the share of the surface that belongs to inverted hulls, averaged over the frames with a surface."""
    outline = np.array([material.outline for material in clip.materials] or [False])
    if not outline.any():
        return 0.0
    shares = [
        frame.areas[outline[frame.topology.material_ids]].sum() / frame.areas.sum()
        for frame in clip.frames
        if frame.areas.any()
    ]
    return float(np.mean(shares))


def _looked_at(clip: Clip) -> list[int]:
    """Return the first, middle and last frame, without repetitions."""
    return sorted({0, len(clip.frames) // 2, len(clip.frames) - 1})


def _rounded(value: float) -> float:
    return value if value.is_integer() else float(f"{value:.{_DIGITS}g}")


def _centroid_excursion(clip: Clip, area: list[np.ndarray]) -> float:
    """Return the largest distance of the surface's centroid from its start, in edge lengths of a frame's own box.

    The unit is the longest edge of the box around a frame, median over the frames.
    """
    centroids, edges = [], []
    for frame, weights in zip(clip.frames, area, strict=True):
        if weights.sum() > 0:
            shown = frame.triangles()[weights > 0].astype(np.float64)
            centroids.append(np.average(shown.mean(axis=1), axis=0, weights=weights[weights > 0]))
            edges.append((shown.max(axis=(0, 1)) - shown.min(axis=(0, 1))).max())
    away = np.linalg.norm(np.array(centroids) - centroids[0], axis=1)
    return float(away.max() / np.median(edges))


def _scale_excursion(clip: Clip, area: list[np.ndarray]) -> float:
    """Return the size of the box around all frames, relative to the box around 98 % of their surface.

    1: nothing sticks out. 10: a part that flies off makes the rest appear ten times smaller than it could. Each corner
    has a third of its triangle's area as weight.
    """
    faces = [frame.faces[weights > 0] for frame, weights in zip(clip.frames, area, strict=True)]
    weights = np.concatenate(area)
    weights = weights[weights > 0]
    total = float(np.repeat(weights, 3).sum())
    sides, whole = [], 0.0
    for axis in range(3):
        places = [frame.vertices[rows, axis] for frame, rows in zip(clip.frames, faces, strict=True)]
        values = np.concatenate(places).reshape(-1)
        del places
        sides.append(_quantile_width(values, weights, total))
        whole = max(whole, float(values.max()) - float(values.min()))
    return whole / max(max(sides), 1e-6 * whole)


def _quantile_width(values: Float32Array, weights: Float64Array, total: float) -> float:
    """Return the width of the middle 98 % of (3 F,) values, of which the three of a triangle share its (F,) weight.

    `total` is the sum of the weights of all values.
    """
    order = np.argsort(values, kind="stable")
    margin = (1 - _BULK) / 2
    low, high = (order[place_of_share(order, weights, total, share)] for share in (margin, 1 - margin))
    return float(values[high]) - float(values[low])

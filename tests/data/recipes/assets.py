"""The sample assets, baked and measured frame by frame."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from helix4d.assets import Clip, Frame, bake, bake_clips
from helix4d.assets.samples import SAMPLES

FRAMES = 6


def bake_sample(name: str, frames: int) -> Clip:
    """The most-moving clip of a sample asset."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{name}.glb"
        path.write_bytes(SAMPLES[name]())
        return bake(path, frames=frames)


def baked_samples() -> dict[str, np.ndarray]:
    """Every clip of every sample.

    Returns:
        `NAME.INDEX.times` (T,) seconds, `.boxes` (T, 2, 3) lowest and highest corner, `.areas` (T,), `.centroids`
        (T, 3) weighted by area, all float64, and `.triangles` (T,) int64.
    """
    arrays = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, build in sorted(SAMPLES.items()):
            path = Path(folder) / f"{name}.glb"
            path.write_bytes(build())
            for clip in bake_clips(path, frames=FRAMES):
                arrays.update({f"{name}.{clip.index}.{key}": array for key, array in _measure(clip).items()})
    return arrays


def _measure(clip: Clip) -> dict[str, np.ndarray]:
    boxes, areas, centroids = zip(*map(_measure_frame, clip.frames), strict=True)
    return {
        "times": np.asarray(clip.times, np.float64),
        "boxes": np.stack(boxes),
        "areas": np.array(areas),
        "centroids": np.stack(centroids),
        "triangles": np.array([len(frame.faces) for frame in clip.frames]),
    }


def _measure_frame(frame: Frame) -> tuple[np.ndarray, float, np.ndarray]:
    corners = frame.triangles().astype(np.float64)
    areas = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1) / 2
    centroid = (corners.mean(axis=1) * areas[:, None]).sum(axis=0) / areas.sum()
    return np.stack([corners.min(axis=(0, 1)), corners.max(axis=(0, 1))]), float(areas.sum()), centroid

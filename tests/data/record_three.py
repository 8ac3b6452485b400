"""Write `three.safetensors`: what three.js makes of random GLBs. Needs node and npm.

    python -m tests.data.record_three

Record it again only when `tests.assets.random_glb` changes what it draws.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from tests.assets.three import Animation, evaluated_by_three
from tests.data.frozen import save

SEEDS = range(40)
TRIANGLES = 5


def summary(animation: Animation) -> dict[str, np.ndarray]:
    """What is recorded of an animation at T times.

    Returns:
        `times` (T,); `boxes` (T, 2, 3); `count` (1,) of the triangles; of five triangles spread over all, `centroids`
        (T, 5, 3), `normals` (T, 5, 3), twice as long as their area, and `wound` (5,), whether the sign of these counts.
    """
    corners = animation.corners
    chosen = np.linspace(0, corners.shape[1] - 1, TRIANGLES).astype(int)
    a, b, c = corners[:, chosen].transpose(2, 0, 1, 3)
    return {
        "times": animation.times.astype(np.float32),
        "boxes": np.stack([corners.min(axis=(1, 2)), corners.max(axis=(1, 2))], axis=1).astype(np.float32),
        "count": np.array([corners.shape[1]], np.int32),
        "centroids": ((a + b + c) / 3).astype(np.float32),
        "normals": np.cross(b - a, c - a).astype(np.float32),
        "wound": animation.wound[chosen],
    }


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        evaluated = evaluated_by_three(Path(folder), SEEDS)
    save(
        "three",
        {
            f"{seed}.{number}.{name}": array
            for seed, animations in evaluated.items()
            for number, animation in enumerate(animations)
            for name, array in summary(animation).items()
        },
    )

"""Distances between two small tracked clouds, before and after a short alignment."""

from __future__ import annotations

import numpy as np
import torch

from helix4d.core import generator
from helix4d.evaluation import (
    AlignmentSettings,
    Clouds,
    Protocol,
    chamfer_distance,
    motion_chamfer_distance,
    score_clouds,
)

QUICK = Protocol(alignment=AlignmentSettings(steps=100, refined=2, coarse_points=100, coarse_steps=30))


def clouds() -> tuple[torch.Tensor, torch.Tensor]:
    """A prediction and its truth, (3, 300, 3) float32 tracked points each; the former is turned, scaled and noisy."""
    random = generator("frozen", "clouds")
    still = random.standard_normal((300, 3)) * [0.3, 0.15, 0.08]
    still[:, 2] += still[:, 0] ** 2  # no symmetry
    bent = [
        still + frame * np.stack([0 * still[:, 0], still[:, 0] ** 2, 0 * still[:, 0]], axis=1) for frame in range(3)
    ]
    truth = np.stack(bent)
    quarter = np.array([[0.0, 1.0, 0.0], [-1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    predicted = (1.2 * truth + random.standard_normal(truth.shape) * 0.01) @ quarter + [0.1, 0.0, -0.05]
    return torch.tensor(predicted, dtype=torch.float32), torch.tensor(truth, dtype=torch.float32)


def distances() -> dict[str, np.ndarray]:
    """`chamfer` (3,) and `motion` (1,) of the clouds where they are, `cd_3d`, `cd_4d`, `cd_m` (1,) after alignment."""
    predicted, truth = clouds()
    scores = score_clouds(Clouds(predicted, truth, predicted, truth, predicted), QUICK)
    return {
        "chamfer": np.array([chamfer_distance(p, t) for p, t in zip(predicted, truth, strict=True)]),
        "motion": np.array([motion_chamfer_distance(predicted, truth)]),
        **{name: np.array([getattr(scores, name)]) for name in ("cd_3d", "cd_4d", "cd_m")},
    }

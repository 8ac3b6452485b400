"""A flow whose velocity is known exactly: data from a mixture of Gaussians."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from helix4d.model.networks.flow_matching import SIGMA_MIN, velocity


@dataclass(frozen=True)
class MixtureFlow:
    """A `Velocity` toward Gaussians of equal weights.

    Attributes:
        means: [K, D], centers of the unconditional passes; conditional ones know that the sample is one of the first
            `known`.
        std: standard deviation of each Gaussian.
        known: number of centers of the conditional passes.
    """

    means: Tensor
    std: float
    known: int

    def __call__(self, x: Tensor, timestep: float, conditional: bool) -> Tensor:
        """Return the mean of the training target over all data and noise that give x [N, D] at 1000 t."""
        t = timestep / 1000
        means = self.means[: self.known] if conditional else self.means
        noise_std = SIGMA_MIN + (1 - SIGMA_MIN) * t
        variance = (1 - t) ** 2 * self.std**2 + noise_std**2
        offsets = x[:, None] - (1 - t) * means
        weights = torch.softmax(-offsets.square().sum(-1) / (2 * variance), dim=1)
        each = means + (1 - t) * self.std**2 / variance * offsets  # clean sample of each Gaussian, [N, K, D]
        clean = (weights[..., None] * each).sum(1)
        return velocity(clean, (x - (1 - t) * clean) / noise_std)

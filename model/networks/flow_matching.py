"""TRELLIS.2's flow matching: x_t = (1 − t) x₀ + (σ + (1 − σ) t) ε, v = (1 − σ) ε − x₀, σ = 1e-5.

Here t runs from 0 (data) to 1 (noise); the networks receive 1000 t. `t` broadcasts against the tensors.
"""

from __future__ import annotations

from torch import Tensor

SIGMA_MIN = 1e-5


def noisy(clean: Tensor, noise: Tensor, t: Tensor | float, sigma: float = SIGMA_MIN) -> Tensor:
    """Interpolate between data and noise: x_t."""
    return (1 - t) * clean + (sigma + (1 - sigma) * t) * noise


def velocity(clean: Tensor, noise: Tensor, sigma: float = SIGMA_MIN) -> Tensor:
    """Velocity that the network is trained to predict."""
    return (1 - sigma) * noise - clean


def clean_from_velocity(x_t: Tensor, v: Tensor, t: Tensor | float, sigma: float = SIGMA_MIN) -> Tensor:
    """Data x₀ implied by a velocity at x_t."""
    return (1 - sigma) * x_t - (sigma + (1 - sigma) * t) * v


def velocity_from_clean(x_t: Tensor, clean: Tensor, t: Tensor | float, sigma: float = SIGMA_MIN) -> Tensor:
    """Velocity at x_t that implies the data `clean`; inverse of `clean_from_velocity`."""
    return ((1 - sigma) * x_t - clean) / (sigma + (1 - sigma) * t)

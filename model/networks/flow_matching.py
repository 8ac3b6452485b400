"""The flow that TRELLIS.2 learns, as formulas: x_t = (1 − t) x₀ + (σ + (1 − σ) t) ε, v = (1 − σ) ε − x₀, σ = 1e-5.

t is between 0 (data) and 1 (noise) here; the networks see 1000 t. Every `t` broadcasts against its tensor.
"""

from __future__ import annotations

from torch import Tensor

SIGMA_MIN = 1e-5


def noisy(clean: Tensor, noise: Tensor, t: Tensor | float, sigma: float = SIGMA_MIN) -> Tensor:
    """x_t between the data and the noise."""
    return (1 - t) * clean + (sigma + (1 - sigma) * t) * noise


def velocity(clean: Tensor, noise: Tensor, sigma: float = SIGMA_MIN) -> Tensor:
    """What the network is trained to give."""
    return (1 - sigma) * noise - clean


def clean_from_velocity(x_t: Tensor, v: Tensor, t: Tensor | float, sigma: float = SIGMA_MIN) -> Tensor:
    """The data that a velocity at x_t points to."""
    return (1 - sigma) * x_t - (sigma + (1 - sigma) * t) * v


def velocity_from_clean(x_t: Tensor, clean: Tensor, t: Tensor | float, sigma: float = SIGMA_MIN) -> Tensor:
    """The inverse of `clean_from_velocity`."""
    return ((1 - sigma) * x_t - clean) / (sigma + (1 - sigma) * t)

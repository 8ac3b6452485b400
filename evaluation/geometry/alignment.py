"""Align a prediction to the ground truth before it is evaluated: ActionBench's alignment, exact or pruned.

x' = (s ∘ x) R + t with one scale per axis and R = R_start · R_6D. Starting from each of the 24 rotations that map axes
to axes, Adam minimizes the squared chamfer distance; the result is the best pose of all starts and steps. Gradients
flow only through the matched pairs, not through the neighbor search.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor

from helix4d.core import ConfigError
from helix4d.evaluation.geometry.nearest import Neighbors, nearest_of_each
from helix4d.evaluation.geometry.sampling import subsample

_BETAS, _EPSILON = (0.9, 0.999), 1e-8
"""torch's defaults for Adam."""
_COARSE_SEED = 0


@dataclass(frozen=True)
class AlignmentSettings:
    """Effort of the alignment.

    Args:
        steps: number of Adam steps; the default is the protocol's.
        learning_rate: learning rate of Adam; the default is the protocol's.
        refined: number of starts that are refined on all points; None refines all of them.
        coarse_points: number of points of the coarse descents that select the starts to refine.
        coarse_steps: number of steps of the coarse descents. At equal cost, few points and many steps rank starts
            better than many points and few steps (docs/evaluation.md).
    """

    steps: int = 200
    learning_rate: float = 0.01
    refined: int | None = None
    coarse_points: int = 1000
    coarse_steps: int = 200

    def __post_init__(self) -> None:
        if min(self.steps, self.coarse_points, self.coarse_steps) < 1 or (
            self.refined is not None and self.refined < 1
        ):
            raise ConfigError(f"alignment settings must have at least one step, point and start: {self}")


EXACT = AlignmentSettings()
PRUNED = AlignmentSettings(refined=4)


@dataclass(frozen=True)
class Pose:
    """Pose that aligns a prediction to the ground truth.

    Args:
        rotation: (3, 3), multiplied from the right.
        scale: (3,), scales along the axes of the prediction.
        translation: (3,).
        loss: squared chamfer distance of the alignment points in this pose.
        start: index of the start from which it was found.
    """

    rotation: Tensor
    scale: Tensor
    translation: Tensor
    loss: float
    start: int

    def apply(self, points: Tensor) -> Tensor:
        """Transform points (..., 3) → (..., 3)."""
        return (self.scale * points) @ self.rotation + self.translation


def axis_rotations() -> Tensor:
    """Return all rotations that map axes to axes, the identity first: (24, 3, 3) float32.

    The official list (Euler angles in multiples of 90°) also has 24 entries, but only 22 of them are distinct; this
    list has all 24.
    """
    quarter = torch.arange(4)
    x, y, z = (torch.stack([_quarter_turns(axis, int(q)) for q in quarter]) for axis in range(3))
    flat = [x[a] @ z[r] for a, r in product(range(4), range(4))]
    upright = [x[a] @ y[e] for a, e in product(range(4), (1, 3))]
    return torch.stack(flat + upright)


def align(points: Tensor, target: Tensor, settings: AlignmentSettings = EXACT, starts: Tensor | None = None) -> Pose:
    """Find the best pose of points (P, 3) relative to target (Q, 3), both float32.

    Args:
        points, target: about 10,000 points each; the time grows with their number.
        settings: `EXACT`, or `PRUNED`, which ranks all starts coarsely and refines the best four.
        starts: (S, 3, 3), initial rotations; by default `axis_rotations()`.
    """
    rotations = (axis_rotations() if starts is None else starts).to(points)
    selected = torch.arange(len(rotations))
    if settings.refined is not None:
        coarse, coarse_target = (subsample(cloud, settings.coarse_points, _COARSE_SEED) for cloud in (points, target))
        ranking = _descend(coarse, coarse_target, rotations, settings.coarse_steps, settings.learning_rate)
        selected = ranking.losses.argsort(stable=True)[: settings.refined].sort().values
    fine = _descend(points, target, rotations[selected], settings.steps, settings.learning_rate)
    best = int(fine.losses.argmin())
    state = fine.states[best]
    rotation = rotations[selected[best]] @ _rotation_of_6d(state[None, :6])[0]
    return Pose(rotation, state[9:], state[6:9], float(fine.losses[best]), int(selected[best]))


@dataclass(frozen=True)
class _Descents:
    """Best state of each start: states (S, 12), of six rotation numbers, t and s, and losses (S,)."""

    states: Tensor
    losses: Tensor


def _descend(points: Tensor, target: Tensor, rotations: Tensor, steps: int, learning_rate: float) -> _Descents:
    """Run Adam from all starts in parallel, independently of each other."""
    neighbors = Neighbors(target)
    state = torch.tensor([1.0, 0, 0, 0, 1, 0] + [0.0] * 3 + [1.0] * 3).to(rotations).repeat(len(rotations), 1)
    mean, square = torch.zeros_like(state), torch.zeros_like(state)
    best = _Descents(state, torch.full((len(rotations),), torch.inf).to(rotations))
    for step in range(1, steps + 1):
        losses, gradient = _losses_and_gradient(points, target, state, rotations, neighbors)
        better = losses < best.losses
        best = _Descents(torch.where(better[:, None], state, best.states), torch.where(better, losses, best.losses))
        mean = _BETAS[0] * mean + (1 - _BETAS[0]) * gradient
        square = _BETAS[1] * square + (1 - _BETAS[1]) * gradient**2
        unbiased = square / (1 - _BETAS[1] ** step)
        state = state - learning_rate * mean / (1 - _BETAS[0] ** step) / (unbiased.sqrt() + _EPSILON)
    return best


def _losses_and_gradient(
    points: Tensor, target: Tensor, state: Tensor, rotations: Tensor, neighbors: Neighbors
) -> tuple[Tensor, Tensor]:
    """Return losses (S,) and their gradient (S, 12)."""
    with torch.enable_grad():
        leaf = state.clone().requires_grad_()
        losses = _losses(points, target, leaf, rotations, neighbors)
        # Gradient of the mean over 24 starts, as in the official code; the factor matters only for Adam's epsilon.
        (gradient,) = torch.autograd.grad(losses.sum() / 24, leaf)
    return losses.detach(), gradient


def _move(points: Tensor, state: Tensor, rotations: Tensor) -> Tensor:
    """Transform points (P, 3) or (S, P, 3) by states (S, 12) and initial rotations (S, 3, 3) → (S, P, 3)."""
    turned = rotations @ _rotation_of_6d(state[:, :6])
    return (state[:, None, 9:] * points) @ turned + state[:, None, 6:9]


def _losses(points: Tensor, target: Tensor, state: Tensor, rotations: Tensor, neighbors: Neighbors) -> Tensor:
    """Return squared chamfer distances (S,) between transformed points and target, as the sum of both means."""
    moved = _move(points, state, rotations)
    _, to_target = neighbors.query(moved)
    _, to_moved = nearest_of_each(target, moved)
    # Select, then transform: the gradient of selecting is a sum in nondeterministic order on a GPU.
    matched = _move(points[to_moved], state, rotations)
    return _mean_square(moved - target[to_target]) + _mean_square(matched - target)


def _mean_square(difference: Tensor) -> Tensor:
    """Mean squared norm: (S, P, 3) → (S,)."""
    return (difference**2).sum(dim=-1).mean(dim=-1)


def _rotation_of_6d(numbers: Tensor) -> Tensor:
    """Convert 6D rotations (S, 6) → (S, 3, 3): two orthonormalized rows and their cross product (Zhou et al. 2019)."""
    first = torch.nn.functional.normalize(numbers[:, :3], dim=-1)
    second = numbers[:, 3:] - (first * numbers[:, 3:]).sum(dim=-1, keepdim=True) * first
    second = torch.nn.functional.normalize(second, dim=-1)
    return torch.stack([first, second, torch.linalg.cross(first, second)], dim=1)


def _quarter_turns(axis: int, count: int) -> Tensor:
    """Return the exact rotation (3, 3) by `count` · 90° about an axis."""
    cosine, sine = ((1, 0), (0, 1), (-1, 0), (0, -1))[count % 4]
    a, b = (axis + 1) % 3, (axis + 2) % 3
    matrix = torch.eye(3)
    matrix[a, a] = matrix[b, b] = cosine
    matrix[a, b], matrix[b, a] = -sine, sine
    return matrix

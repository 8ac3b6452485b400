"""A prediction is moved onto the truth before it is judged: ActionBench's alignment, exact or pruned.

x' = (s ∘ x) R + t with a scale per axis, R = R_start · R_6D. From each of the 24 rotations that map axes to axes, Adam
descends the squared chamfer distance; the best pose met by any start at any step counts. Neighbors are found without
gradient, which flows through the matched pairs alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor

from helix4d.core import ConfigError
from helix4d.evaluation.geometry.nearest import Neighbors
from helix4d.evaluation.geometry.sampling import subsample

_BETAS, _EPSILON = (0.9, 0.999), 1e-8
"""Adam's defaults in torch."""
_COARSE_SEED = 0


@dataclass(frozen=True)
class AlignmentSettings:
    """How long to look, and from how many starts.

    Args:
        steps, learning_rate: of Adam, the protocol's.
        refined: starts that descend on all points; None: all of them.
        coarse_points, coarse_steps: of the descents that choose them. Few points and many steps tell starts apart
            better than many points and few steps, at the same cost (docs/evaluation.md).
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
            raise ConfigError(f"an alignment needs at least one step, point and start: {self}")


EXACT = AlignmentSettings()
PRUNED = AlignmentSettings(refined=4)


@dataclass(frozen=True)
class Pose:
    """Where a prediction was moved to.

    Args:
        rotation: (3, 3), to be multiplied from the right.
        scale: (3,), along the axes of the prediction.
        translation: (3,).
        loss: the squared chamfer distance there, over the points of the alignment.
        start: index into the starts.
    """

    rotation: Tensor
    scale: Tensor
    translation: Tensor
    loss: float
    start: int

    def apply(self, points: Tensor) -> Tensor:
        """(..., 3) → (..., 3)."""
        return (self.scale * points) @ self.rotation + self.translation


def axis_rotations() -> Tensor:
    """(24, 3, 3) float32: every rotation that maps axes to axes, the identity first.

    The official list (Euler angles in multiples of 90°) also has 24 entries, of which only 22 differ: two rotations are
    missing. All 22 are here.
    """
    quarter = torch.arange(4)
    x, y, z = (torch.stack([_quarter_turns(axis, int(q)) for q in quarter]) for axis in range(3))
    flat = [x[a] @ z[r] for a, r in product(range(4), range(4))]
    upright = [x[a] @ y[e] for a, e in product(range(4), (1, 3))]
    return torch.stack(flat + upright)


def align(points: Tensor, target: Tensor, settings: AlignmentSettings = EXACT, starts: Tensor | None = None) -> Pose:
    """The best pose of points (P, 3) on target (Q, 3), both float32.

    Args:
        points, target: about 10 000 each; time grows with them.
        settings: `EXACT`; `PRUNED` looks at all starts coarsely and follows the best four.
        starts: (S, 3, 3) rotations, `axis_rotations()` by default.
    """
    rotations = (axis_rotations() if starts is None else starts).to(points)
    kept = torch.arange(len(rotations))
    if settings.refined is not None:
        few, few_target = (subsample(cloud, settings.coarse_points, _COARSE_SEED) for cloud in (points, target))
        coarse = _descend(few, few_target, rotations, settings.coarse_steps, settings.learning_rate)
        kept = coarse.losses.argsort(stable=True)[: settings.refined].sort().values
    fine = _descend(points, target, rotations[kept], settings.steps, settings.learning_rate)
    best = int(fine.losses.argmin())
    state = fine.states[best]
    rotation = rotations[kept[best]] @ _rotation_of_6d(state[None, :6])[0]
    return Pose(rotation, state[9:], state[6:9], float(fine.losses[best]), int(kept[best]))


@dataclass(frozen=True)
class _Descents:
    """Where each start stood best: (S, 12) states, six numbers of rotation, t and s, and (S,) losses."""

    states: Tensor
    losses: Tensor


def _descend(points: Tensor, target: Tensor, rotations: Tensor, steps: int, learning_rate: float) -> _Descents:
    """Adam from all starts at once, each on its own."""
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
    """(S,) and (S, 12)."""
    with torch.enable_grad():
        leaf = state.clone().requires_grad_()
        losses = _losses(points, target, leaf, rotations, neighbors)
        # The gradient of the mean over 24 starts, as the official one's: it matters to Adam's epsilon alone.
        (gradient,) = torch.autograd.grad(losses.sum() / 24, leaf)
    return losses.detach(), gradient


def _move(points: Tensor, state: Tensor, rotations: Tensor) -> Tensor:
    """(P, 3) or (S, P, 3), (S, 12), (S, 3, 3) → (S, P, 3)."""
    turned = rotations @ _rotation_of_6d(state[:, :6])
    return (state[:, None, 9:] * points) @ turned + state[:, None, 6:9]


def _losses(points: Tensor, target: Tensor, state: Tensor, rotations: Tensor, neighbors: Neighbors) -> Tensor:
    """(S,) squared chamfer distances of (P, 3), where each state moves them, and (Q, 3): the two means summed."""
    moved = _move(points, state, rotations)
    _, to_target = neighbors.query(moved)
    to_moved = torch.stack([Neighbors(one).query(target)[1] for one in moved])
    # Picked first and then moved: the gradient of picking is a sum whose order a GPU does not fix.
    matched = _move(points[to_moved], state, rotations)
    return _mean_square(moved - target[to_target]) + _mean_square(matched - target)


def _mean_square(difference: Tensor) -> Tensor:
    """(S, P, 3) → (S,)."""
    return (difference**2).sum(dim=-1).mean(dim=-1)


def _rotation_of_6d(numbers: Tensor) -> Tensor:
    """(S, 6) → (S, 3, 3): two rows made orthonormal in turn, the third their cross product (Zhou et al. 2019)."""
    first = torch.nn.functional.normalize(numbers[:, :3], dim=-1)
    second = numbers[:, 3:] - (first * numbers[:, 3:]).sum(dim=-1, keepdim=True) * first
    second = torch.nn.functional.normalize(second, dim=-1)
    return torch.stack([first, second, torch.linalg.cross(first, second)], dim=1)


def _quarter_turns(axis: int, count: int) -> Tensor:
    """(3, 3) without rounding: `count` turns of 90° about an axis."""
    cosine, sine = ((1, 0), (0, 1), (-1, 0), (0, -1))[count % 4]
    a, b = (axis + 1) % 3, (axis + 2) % 3
    matrix = torch.eye(3)
    matrix[a, a] = matrix[b, b] = cosine
    matrix[a, b], matrix[b, a] = -sine, sine
    return matrix

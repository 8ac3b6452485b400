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

from core import ConfigError
from evaluation.nearest import Neighbors


@dataclass(frozen=True)
class AlignmentSettings:
    """How long to look, and from how many starts.

    Args:
        steps, learning_rate: of Adam, the protocol's.
        refined: starts that go all the way; None: all of them.
        coarse_steps: steps after which the starts are told apart; not used if all are refined.
    """

    steps: int = 200
    learning_rate: float = 0.01
    refined: int | None = None
    coarse_steps: int = 20

    def __post_init__(self) -> None:
        if self.steps < 1 or (self.refined is not None and not (self.refined >= 1 and self.coarse_steps >= 1)):
            raise ConfigError(f"an alignment needs at least one step and one start: {self}")
        if self.refined is not None and self.coarse_steps > self.steps:
            raise ConfigError(f"{self.coarse_steps} coarse steps are more than the {self.steps} of a whole descent")


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
        settings: `EXACT`, or `PRUNED`, which drops the starts that look worst after 20 steps.
        starts: (S, 3, 3) rotations, `axis_rotations()` by default.
    """
    rotations = axis_rotations() if starts is None else starts
    descent = _Descent(rotations.to(points), settings.learning_rate)
    neighbors = Neighbors(target)
    coarse = settings.steps if settings.refined is None else settings.coarse_steps
    for step in range(settings.steps):
        if step == coarse and settings.refined is not None:
            descent.keep_best(settings.refined)
        descent.step(points, target, neighbors)
    return descent.best()


class _Descent:
    """Adam from several starts at once, each on its own: state (S, 12) is six numbers of rotation, t and s."""

    def __init__(self, rotations: Tensor, learning_rate: float) -> None:
        self._starts = torch.arange(len(rotations), device=rotations.device)
        self._rotations = rotations
        self._rate = learning_rate
        self._steps = 0
        identity = torch.tensor([1.0, 0, 0, 0, 1, 0] + [0.0] * 3 + [1.0] * 3).to(rotations)
        self._state = identity.repeat(len(rotations), 1)
        self._mean = torch.zeros_like(self._state)
        self._square = torch.zeros_like(self._state)
        self._best_state = self._state.clone()
        self._best_loss = torch.full((len(rotations),), torch.inf).to(rotations)

    def step(self, points: Tensor, target: Tensor, neighbors: Neighbors) -> None:
        """Note where each start stands, then move it."""
        with torch.enable_grad():
            state = self._state.clone().requires_grad_()
            losses = _losses(_move(points, state, self._rotations), target, neighbors)
            # The gradient of the mean over 24 starts, as the official one's: it matters to Adam's epsilon alone.
            (gradient,) = torch.autograd.grad(losses.sum() / 24, state)
        better = losses.detach() < self._best_loss
        self._best_loss = torch.where(better, losses.detach(), self._best_loss)
        self._best_state = torch.where(better[:, None], self._state, self._best_state)
        self._adam(gradient)

    def keep_best(self, count: int) -> None:
        """Forget all but the starts with the least losses so far; the others go on as if nothing happened."""
        kept = self._best_loss.argsort(stable=True)[:count].sort().values
        self._starts, self._rotations, self._state = self._starts[kept], self._rotations[kept], self._state[kept]
        self._mean, self._square = self._mean[kept], self._square[kept]
        self._best_state, self._best_loss = self._best_state[kept], self._best_loss[kept]

    def best(self) -> Pose:
        """Of all starts and steps."""
        index = int(self._best_loss.argmin())
        state = self._best_state[index]
        rotation = self._rotations[index] @ _rotation_of_6d(state[None, :6])[0]
        return Pose(rotation, state[9:], state[6:9], float(self._best_loss[index]), int(self._starts[index]))

    def _adam(self, gradient: Tensor, betas: tuple[float, float] = (0.9, 0.999), epsilon: float = 1e-8) -> None:
        self._steps += 1
        self._mean = self._mean.lerp(gradient, 1 - betas[0])
        self._square = betas[1] * self._square + (1 - betas[1]) * gradient**2
        mean = self._mean / (1 - betas[0] ** self._steps)
        square = self._square / (1 - betas[1] ** self._steps)
        self._state = self._state - self._rate * mean / (square.sqrt() + epsilon)


def _move(points: Tensor, state: Tensor, rotations: Tensor) -> Tensor:
    """(P, 3), (S, 12), (S, 3, 3) → (S, P, 3)."""
    turned = rotations @ _rotation_of_6d(state[:, :6])
    return (state[:, None, 9:] * points) @ turned + state[:, None, 6:9]


def _losses(moved: Tensor, target: Tensor, neighbors: Neighbors) -> Tensor:
    """(S,) squared chamfer distances of (S, P, 3) and (Q, 3): the two means summed."""
    _, to_target = neighbors.query(moved)
    to_moved = torch.stack([Neighbors(one).query(target)[1] for one in moved])
    matched = torch.gather(moved, 1, to_moved[..., None].expand(-1, -1, 3))
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

"""AdamW, TRELLIS.2's adaptive gradient clipping, and the moving average of the weights."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping

import numpy as np
import torch
from torch import Tensor, nn

from helix4d.core import FormatError
from helix4d.train.config import OptimizerConfig
from helix4d.train.sharding import local_part, place_like


def make_optimizer(trained: Mapping[str, nn.Parameter], config: OptimizerConfig) -> torch.optim.AdamW:
    """Create AdamW with weight decay on all trained parameters, as in TRELLIS.2."""
    parameters = list(trained.values())
    return torch.optim.AdamW(
        parameters,
        lr=config.lr,
        betas=(config.betas[0], config.betas[1]),
        weight_decay=config.weight_decay,
        fused=parameters[0].is_cuda,
    )


def learning_rate(config: OptimizerConfig, step: int) -> float:
    """Return the learning rate of step `step`, counted from 0."""
    return config.lr * min(1.0, (step + 1) / (config.warmup + 1))


class AdaptiveClip:
    """Clips gradients to `max_norm` or, once the history is full, to a percentile of it if that is lower."""

    def __init__(self, config: OptimizerConfig, history: Iterable[float] = ()) -> None:
        self._config = config
        self.history: deque[float] = deque(history, maxlen=config.clip_history)

    def threshold(self) -> float:
        """Return the norm above which gradients are clipped."""
        if len(self.history) < self._config.clip_history:
            return self._config.max_norm
        percentile = float(np.percentile(self.history, self._config.clip_percentile))
        return min(self._config.max_norm, percentile)

    def apply(self, parameters: Iterable[nn.Parameter], norm: Tensor) -> float:
        """Clip the gradients, whose total norm is `norm`, and return the threshold. Does not wait for the device."""
        threshold = self.threshold()
        torch.nn.utils.clip_grads_with_norm_(parameters, threshold, norm)
        return threshold

    def record(self, norm: float) -> None:
        """Add the norm of a step to the history."""
        self.history.append(norm)


class MovingAverage:
    """Exponential moving average of the trained tensors, in float32, by name.

    It is initialized with the initial weights, whose share decreases slowly: with a decay of 0.9999, as in TRELLIS.2,
    it is 90 % after 1000 steps and 13.5 % after 20,000. With `ema_warmup`, it is below 1 % after three steps, and the
    average covers about the last ninth of the steps until the decay reaches `ema`.

    Attributes:
        tensors: averages by name.
        start_share: remaining share of the initial weights.
    """

    def __init__(self, trained: Mapping[str, nn.Parameter], config: OptimizerConfig) -> None:
        self._config = config
        self.tensors = {name: p.detach().float().clone() for name, p in trained.items()}
        self.start_share = 1.0

    @torch.no_grad()
    def update(self, trained: Mapping[str, nn.Parameter], step: int) -> None:
        """Update the average with the weights after step `step`, counted from 0."""
        decay = average_decay(self._config, step)
        averages = [local_part(tensor) for tensor in self.tensors.values()]
        latest = [local_part(p.detach()).float() for p in trained.values()]
        torch._foreach_lerp_(averages, latest, 1 - decay)
        self.start_share *= decay


def average_decay(config: OptimizerConfig, step: int) -> float:
    """Return the decay of the moving average in step `step`, counted from 0."""
    return min(config.ema, (1 + step) / (10 + step)) if config.ema_warmup else config.ema


def optimizer_tensors(optimizer: torch.optim.Optimizer, trained: Mapping[str, nn.Parameter]) -> dict[str, Tensor]:
    """Return the optimizer's state by parameter name: `NAME.exp_avg`, `NAME.exp_avg_sq`, `NAME.step`."""
    return {
        f"{name}.{key}": value
        for name, parameter in trained.items()
        for key, value in sorted(optimizer.state[parameter].items())
    }


def restore_optimizer(
    optimizer: torch.optim.Optimizer, trained: Mapping[str, nn.Parameter], tensors: Mapping[str, Tensor]
) -> None:
    """Restore the optimizer's state from the output of `optimizer_tensors`.

    Raises:
        FormatError: if a trained tensor has no state.
    """
    for name, parameter in trained.items():
        state = {}
        for key in ("exp_avg", "exp_avg_sq", "step"):
            if f"{name}.{key}" not in tensors:
                raise FormatError(f"the checkpoint has no {key} for {name}: was it trained with different settings?")
            stored = tensors[f"{name}.{key}"]
            on_device = key != "step" or bool(optimizer.defaults.get("fused"))
            pattern = parameter if key != "step" else local_part(parameter)
            state[key] = place_like(stored.clone(), pattern) if on_device else stored.clone()
        optimizer.state[parameter] = state

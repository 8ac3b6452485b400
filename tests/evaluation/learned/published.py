"""Checkpoints in a published layout, with random numbers in them."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import Tensor, nn

_Network = TypeVar("_Network", bound=nn.Module)


def randomized(network: _Network, seed: int = 0) -> _Network:
    """The same network in evaluation mode; every float tensor drawn, variances positive."""
    random = torch.Generator().manual_seed(seed)
    for name, value in network.state_dict().items():
        if value.is_floating_point():
            inputs = value[0].numel() if value.ndim > 1 else 1
            drawn = torch.randn(value.shape, generator=random) / inputs**0.5
            value.copy_(drawn.abs() + 0.5 if name.endswith("running_var") else drawn)
    return network.eval().requires_grad_(False)


def under(prefix: str, network: nn.Module) -> dict[str, Tensor]:
    """The state of a network below a prefix."""
    return {prefix + name: value for name, value in network.state_dict().items()}

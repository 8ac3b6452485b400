"""LoRA: low-rank updates of the self-attention's matrices, trained instead of the matrices themselves.

A matrix W becomes W + up · down with `down` [rank, in] and `up` [out, rank]. `up` is initialized with zeros, so
training starts from the base network. Merged into W, the update costs nothing in sampling. Source: Hu et al., LoRA
(arXiv 2106.09685), with a scale of 1.
"""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from helix4d.model.networks.flow import FlowTransformer
from helix4d.model.networks.layers import Linear

_LAYERS = ("to_qkv", "to_out")


class LowRankLinear(Linear):
    """A `Linear` whose matrix has a low-rank update. Shares the parameters of the layer that it replaces."""

    def __init__(self, base: nn.Linear, rank: int) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features = base.in_features, base.out_features
        self.weight, self.bias = base.weight, base.bias
        device = base.weight.device
        self.down = nn.Parameter(torch.zeros(rank, base.in_features, device=device))
        self.up = nn.Parameter(torch.zeros(base.out_features, rank, device=device))

    def forward(self, x: Tensor) -> Tensor:
        """Map [..., in] to [..., out]."""
        return super().forward(x) + F.linear(F.linear(x, self.down.to(x.dtype)), self.up.to(x.dtype))

    @torch.no_grad()
    def merged(self) -> Linear:
        """Return a layer with the update added to its matrix, in float32."""
        layer = Linear(self.in_features, self.out_features, self.bias is not None, device="meta")
        layer.weight = nn.Parameter(self.weight.float() + self.up @ self.down)
        layer.bias = self.bias
        return layer


def add_low_rank(network: FlowTransformer, rank: int) -> None:
    """Add low-rank updates of this rank to the matrices of self-attention, initialized with zeros."""
    for block in network.blocks:
        for name in _LAYERS:
            attention = block.self_attn
            setattr(attention, name, LowRankLinear(getattr(attention, name), rank))


@torch.no_grad()
def initialize_low_rank(network: FlowTransformer, source: np.random.Generator) -> None:
    """Draw `down` uniformly from ±1/√in, as PyTorch draws a linear layer; `up` stays zero."""
    for layer in _layers(network):
        bound = 1 / math.sqrt(layer.in_features)
        drawn = source.uniform(-bound, bound, tuple(layer.down.shape))
        layer.down.copy_(torch.from_numpy(drawn))


def merge_low_rank(network: FlowTransformer) -> None:
    """Replace all layers that have an update by plain ones that include it."""
    for block in network.blocks:
        for name in _LAYERS:
            layer = getattr(block.self_attn, name)
            if isinstance(layer, LowRankLinear):
                setattr(block.self_attn, name, layer.merged())


def _layers(network: FlowTransformer) -> list[LowRankLinear]:
    return [module for module in network.modules() if isinstance(module, LowRankLinear)]

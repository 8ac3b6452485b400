"""Random initialization from an explicit generator: TRELLIS.2's `scaled` for the flows, a plain one for the VAEs."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from helix4d.model.networks.convolution.sparse_conv import SubmanifoldConv3d
from helix4d.model.networks.flow import FlowTransformer
from helix4d.model.networks.layers import Conv3d, Linear


@torch.no_grad()
def initialize_flow(network: FlowTransformer, generator: torch.Generator) -> None:
    """Apply TRELLIS.2's `scaled` initialization: modulation and output start at zero, and so does the velocity."""
    width, depth = network.config.model_channels, network.config.num_blocks
    for name, module in network.named_modules():
        if not isinstance(module, Linear):
            continue
        if name == "input_layer":
            deviation = 1 / math.sqrt(module.in_features)
        elif name.startswith("t_embedder"):
            deviation = 0.02
        elif name == "out_layer" or name.startswith("adaLN_modulation"):
            deviation = 0.0
        elif name.endswith(("to_out", "mlp.2")):
            deviation = 1 / math.sqrt(5 * depth * width)
        else:
            deviation = math.sqrt(2 / (5 * width))
        _normal(module.weight, deviation, generator)
        nn.init.zeros_(module.bias)
    for block in network.blocks:
        nn.init.zeros_(block.modulation)  # type: ignore[arg-type]


@torch.no_grad()
def initialize_vae(network: nn.Module, generator: torch.Generator) -> None:
    """Draw weights from N(0, 1/fan_in) and zero the biases. Our own choice, for tests and newly trained VAEs."""
    for module in network.modules():
        if isinstance(module, Linear | Conv3d | SubmanifoldConv3d):
            _normal(module.weight, 1 / math.sqrt(module.weight[0].numel()), generator)


def _normal(weight: Tensor, deviation: float, generator: torch.Generator) -> None:
    # Drawn in float32 on the generator's device, so that values do not depend on the weight's device or type.
    drawn = torch.randn(weight.shape, generator=generator, device=generator.device) * deviation
    weight.copy_(drawn)

"""Checkpoints in a published layout, with random numbers in them."""

from __future__ import annotations

from collections.abc import Mapping
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


def timm_vit(state: Mapping[str, Tensor], layers: int) -> dict[str, Tensor]:
    """The state of transformers' `ViTModel` with timm's names."""
    named = {
        "cls_token": state["embeddings.cls_token"],
        "pos_embed": state["embeddings.position_embeddings"],
    }
    for part in ("weight", "bias"):
        named[f"patch_embed.proj.{part}"] = state[f"embeddings.patch_embeddings.projection.{part}"]
        named[f"norm.{part}"] = state[f"layernorm.{part}"]
    for n in range(layers):
        block = timm_block(
            {k.removeprefix(f"layers.{n}."): v for k, v in state.items() if k.startswith(f"layers.{n}.")}
        )
        named |= {f"blocks.{n}.{name}": value for name, value in block.items()}
    return named


def timm_block(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state of transformers' `ViTLayer` or `BeitLayer` with timm's names."""
    renamed = {"layernorm_before": "norm1", "layernorm_after": "norm2", "attention.o_proj": "attn.proj"}
    renamed |= {"mlp.fc1": "mlp.fc1", "mlp.fc2": "mlp.fc2"}
    named = {f"{new}.{p}": state[f"{old}.{p}"] for old, new in renamed.items() for p in ("weight", "bias")}
    named["attn.qkv.weight"] = torch.cat([state[f"attention.{q}_proj.weight"] for q in "qkv"])
    biases = {q: state[f"attention.{q}_proj.bias"] for q in "qkv" if f"attention.{q}_proj.bias" in state}
    if len(biases) == 3:
        named["attn.qkv.bias"] = torch.cat(list(biases.values()))
    else:
        named |= {f"attn.{q}_bias": value for q, value in biases.items()}
    return named


def under(prefix: str, network: nn.Module) -> dict[str, Tensor]:
    """The state of a network below a prefix."""
    return {prefix + name: value for name, value in network.state_dict().items()}

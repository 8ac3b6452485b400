"""FSDP2 sharding of the trained parameters, their gradients, Adam states and moving averages over the ranks.

Only for full fine-tuning, which does not fit on one GPU. Parameters are gathered block by block in their own type, so a
sharded step computes the same as an unsharded one. Checkpoints contain whole tensors and do not depend on the ranks.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from helix4d.core import ConfigError
from helix4d.model.networks.flow import FlowTransformer
from helix4d.train.config import TrainConfig


def shard(network: FlowTransformer) -> None:
    """Shard the network's parameters over all ranks, in place; gradients become sums over the ranks."""
    for block in network.blocks:
        fully_shard(block)
    fully_shard(network)
    for module in network.modules():
        if isinstance(module, FSDPModule):
            # The loss is divided by a count over all ranks, so gradients are summed, not averaged.
            module.set_gradient_divide_factor(1.0)
            module.set_force_sum_reduction_for_comms(True)


def check_shardable(config: TrainConfig) -> None:
    """Check that the settings allow sharding.

    Raises:
        ConfigError: if some parameters are frozen, or previews are enabled.
    """
    if config.network.trainable != ("*",):
        raise ConfigError(
            f"network.shard requires full fine-tuning, but trainable is {config.network.trainable}: set it to "
            '["*"], or disable sharding; these parameters fit on one GPU'
        )
    if config.run.preview_every:
        raise ConfigError(
            "network.shard does not support previews, which need the whole network on one rank: set run.preview_every "
            "to 0 and sample from a checkpoint"
        )


def gather(tensors: Mapping[str, Tensor], keep: bool) -> dict[str, Tensor]:
    """Gather sharded tensors on the CPU; others are returned unchanged. All ranks must call this function.

    Args:
        tensors: tensors by name, in the same order on all ranks.
        keep: whether to return the tensors on this rank; otherwise the result is empty.
    """
    gathered = {}
    for name, tensor in tensors.items():
        full = tensor.full_tensor().detach() if isinstance(tensor, DTensor) else tensor
        if keep:
            gathered[name] = full.cpu() if isinstance(tensor, DTensor) else full
    return gathered


def place_like(full: Tensor, pattern: Tensor) -> Tensor:
    """Move a whole tensor, identical on all ranks, to the device of `pattern` and shard it in the same way."""
    full = full.to(pattern.device)
    if not isinstance(pattern, DTensor):
        return full
    # Every rank has read the whole tensor, so each takes its part without communication.
    return distribute_tensor(full, pattern.device_mesh, pattern.placements, src_data_rank=None)


def unshard(tensor: Tensor) -> Tensor:
    """Return a sharded tensor as a whole one. All ranks must call this function."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


@torch.no_grad()
def local_part(tensor: Tensor) -> Tensor:
    """Return the part of a tensor that is on this rank, without copying it."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor

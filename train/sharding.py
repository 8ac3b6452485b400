"""FSDP2: every trained number, its gradient, its Adam state and its average live on one rank each, a block at a time.

For full fine-tuning alone, where one GPU cannot hold them. Parameters are gathered in the type that they have, so a
sharded step computes what an unsharded one does. Checkpoints hold whole tensors: they know nothing of ranks.
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
    """Shard the network's parameters over all ranks, in place; its gradients become sums over the ranks."""
    for block in network.blocks:
        fully_shard(block)
    fully_shard(network)
    for module in network.modules():
        if isinstance(module, FSDPModule):
            # The loss is divided by a count over all ranks, so gradients are summed and not averaged.
            module.set_gradient_divide_factor(1.0)
            module.set_force_sum_reduction_for_comms(True)


def check_shardable(config: TrainConfig) -> None:
    """Whether the settings allow sharding.

    Raises:
        ConfigError: if some parameters are frozen, or previews are asked for.
    """
    if config.network.trainable != ("*",):
        raise ConfigError(
            'network.shard is for full fine-tuning, trainable: ["*"]: frozen parameters have a type of their own. '
            f"Here trainable is {list(config.network.trainable)}, which one GPU holds without sharding"
        )
    if config.run.preview_every:
        raise ConfigError(
            "network.shard: previews need the whole network on one rank. Set run.preview_every to 0 and sample from "
            "a checkpoint"
        )


def whole(tensors: Mapping[str, Tensor], keep: bool) -> dict[str, Tensor]:
    """Sharded tensors as whole ones on the CPU, others as they are; all ranks must call it.

    Args:
        tensors: by name, in the same order on all ranks.
        keep: whether this rank wants them; the others get nothing.
    """
    gathered = {}
    for name, tensor in tensors.items():
        full = tensor.full_tensor().detach() if isinstance(tensor, DTensor) else tensor
        if keep:
            gathered[name] = full.cpu() if isinstance(tensor, DTensor) else full
    return gathered


def like(full: Tensor, pattern: Tensor) -> Tensor:
    """A whole tensor, the same on all ranks, on the device of `pattern` and sharded as it is."""
    full = full.to(pattern.device)
    if not isinstance(pattern, DTensor):
        return full
    # Every rank has read the file, so each takes its part and nothing is sent.
    return distribute_tensor(full, pattern.device_mesh, pattern.placements, src_data_rank=None)


def plain(tensor: Tensor) -> Tensor:
    """A sharded number as a plain tensor; all ranks must call it."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


@torch.no_grad()
def local(tensor: Tensor) -> Tensor:
    """The part of a tensor that is on this rank, without a copy."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor

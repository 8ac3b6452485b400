"""Build the network of a run from a checkpoint or from scratch: trained tensors in float32, the others frozen.

As in TRELLIS.2, only the matrices of the blocks are in bfloat16. The time embedder, modulations, normalizations, input
and output layers keep the type of the checkpoint.
"""

from __future__ import annotations

import fnmatch

import torch
from torch import nn

from helix4d.core import ConfigError, generator
from helix4d.model.checkpoint.checkpoint import CheckpointSource, load_network
from helix4d.model.conditioning.images import ImageEncoder
from helix4d.model.networks.attention.choice import adopt, measured
from helix4d.model.networks.config import FlowConfig
from helix4d.model.networks.flow import DenseFlow, FlowTransformer, SparseFlow
from helix4d.model.networks.initialize import initialize_flow
from helix4d.train.config import NetworkConfig, Stage, TrainConfig
from helix4d.train.low_rank import add_low_rank, initialize_low_rank
from helix4d.train.parallel import World

PRECISIONS = {"bfloat16": torch.bfloat16, "float32": torch.float32}
KINDS: dict[Stage, type[FlowTransformer]] = {
    Stage.STRUCTURE: DenseFlow,
    Stage.GEOMETRY: SparseFlow,
    Stage.MATERIAL: SparseFlow,
}


def build_network(config: TrainConfig, device: torch.device) -> FlowTransformer:
    """Build the flow of a run on `device`, with its video settings and parameter types.

    Raises:
        ConfigError: if the checkpoint's network belongs to another stage, or no parameter would be trained.
    """
    network = _from_scratch(config) if config.network.scratch is not None else _from_checkpoint(config)
    network.__dict__["file_types"] = _file_types(network, config)
    set_types(network, config.network)
    if config.network.rank is not None:
        initialize_low_rank(network, generator(config.seed, "low rank"))
    network.to(device)
    if config.network.compile:
        network.compile_blocks()
    return network


def set_types(network: FlowTransformer, config: NetworkConfig) -> None:
    """Set the types of parameters and activations, which parameters are trained, and the checkpointing.

    If low-rank updates are trained, they are added first.
    """
    if config.rank is not None:
        add_low_rank(network, config.rank)
    dtype = PRECISIONS[config.precision]
    trained, matrices = set(trained_names(network, config)), _block_matrices(network)
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(name in trained)
        if name in trained or dtype is torch.float32:
            parameter.data = parameter.data.float()
        elif name in matrices:
            parameter.data = parameter.data.to(dtype)
    network.compute_dtype = dtype
    network.checkpointing = config.checkpointing


def agree_on_attention(network: FlowTransformer, world: World) -> None:
    """Measure the attention backends; all ranks then choose by the sums of their timings. All ranks must call this."""
    work = network.workload(world.device)
    timings = measured(work)
    if timings is not None and world.ranks > 1:
        adopt(work, dict(zip(timings, world.sum(timings.values()), strict=True)))


def trained_names(network: nn.Module, config: NetworkConfig) -> list[str]:
    """Return the names of the parameters that are trained, in the network's order."""
    patterns = ("*.down", "*.up") if config.rank is not None else config.trainable
    names = [n for n, _ in network.named_parameters() if any(fnmatch.fnmatchcase(n, p) for p in patterns)]
    if not names:
        raise ConfigError(f"trainable is {list(patterns)}: no parameter matches")
    return names


def load_image_encoder(config: NetworkConfig, device: torch.device) -> ImageEncoder:
    """Load the frozen image encoder."""
    encoder = ImageEncoder.from_pretrained(config.image_encoder, local_files_only=config.offline)
    return encoder.to(device)


def build_empty(config: TrainConfig) -> FlowTransformer:
    """Build the network for a plan: on the meta device if it is trained from scratch, else from its checkpoint."""
    if config.network.scratch is not None:
        with torch.device("meta"):
            network = KINDS[config.stage](FlowConfig.from_args(config.network.scratch), config.network.video)
    else:
        network = _from_checkpoint(config)
    if config.network.rank is not None:
        add_low_rank(network, config.network.rank)
    return network


def to_file_types(network: FlowTransformer) -> None:
    """Convert a network from `build_network` to the data types of its base checkpoint.

    A network trained from scratch gets the data types of TRELLIS.2's networks: `precision` for the matrices of the
    blocks, float32 elsewhere.
    """
    types: dict[str, torch.dtype] = network.__dict__["file_types"]
    for name, parameter in network.named_parameters():
        parameter.data = parameter.data.to(types[name])


def _file_types(network: FlowTransformer, config: TrainConfig) -> dict[str, torch.dtype]:
    if config.network.scratch is None:
        return {name: parameter.dtype for name, parameter in network.named_parameters()}
    matrices, dtype = _block_matrices(network), PRECISIONS[config.network.precision]
    return {name: dtype if name in matrices else torch.float32 for name, _ in network.named_parameters()}


def _block_matrices(network: FlowTransformer) -> set[str]:
    """Return the names of the weights and biases of the linear layers inside the blocks."""
    return {
        f"blocks.{layer}.{name}"
        for layer, module in network.blocks.named_modules()
        if isinstance(module, nn.Linear)
        for name in ("weight", "bias")
    }


def _from_scratch(config: TrainConfig) -> FlowTransformer:
    network = KINDS[config.stage](FlowConfig.from_args(config.network.scratch or {}), config.network.video)
    seed = int(generator(config.seed, "initialize").integers(2**63))
    initialize_flow(network, torch.Generator().manual_seed(seed))
    return network


def _from_checkpoint(config: TrainConfig) -> FlowTransformer:
    source = CheckpointSource(config.network.checkpoint or "", offline=config.network.offline)
    base = load_network(source, config.network.flow or "")
    kind = KINDS[config.stage]
    if not isinstance(base, kind):
        raise ConfigError(
            f"{config.network.flow} is a {type(base).__name__}, but the {config.stage} stage needs a {kind.__name__}"
        )
    with torch.device("meta"):
        network = kind(base.config, config.network.video)
    network.load_state_dict(base.state_dict(), assign=True)
    network.__dict__["official"] = base.__dict__["official"]
    return network

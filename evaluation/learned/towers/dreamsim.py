"""DreamSim (Fu et al. 2023): cosine distance between embeddings of fine-tuned ViTs, alone or three side by side.

Source: ssundaram21/dreamsim 0.2: model.py, feature_extraction/{extractor,vision_transformer,load_*_as_dino}.py. Every
branch is a ViT in DINO's layout; the fine-tuning is low-rank (LoRA on `qkv`, one PEFT adapter for all branches) and is
added to the weights here, as PEFT's own merge does.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from helix4d.core import ConfigError, FormatError
from helix4d.evaluation.learned.pictures import CLIP_PIXELS, IMAGENET_PIXELS, PixelStatistics
from helix4d.evaluation.learned.towers.transformer import Block, BlockConfig
from helix4d.evaluation.learned.weights import load_named, read_tensors

_ADAPTER = re.compile(
    r"^(?:.*\.)?extractor_list\.(\d+)\.model\.blocks\.(\d+)\.attn\.qkv\.lora_([AB])(?:\.default)?\.weight$"
)


@dataclass(frozen=True)
class BranchConfig:
    """One ViT.

    Args:
        statistics: of its pixels.
        clip: CLIP's tower in DINO's layout: a norm before the blocks, features behind the last norm and `proj`.
            Otherwise DINO: features are the class token behind the last block, before the norm.
        quick_gelu: OpenAI's CLIP.
        image_size: pixels per side.
        patch: pixels per side.
        width: channels.
        layers: blocks.
        heads: of the attention.
        embedding: channels of CLIP's shared space.
    """

    statistics: PixelStatistics
    clip: bool
    quick_gelu: bool = False
    image_size: int = 224
    patch: int = 16
    width: int = 768
    layers: int = 12
    heads: int = 12
    embedding: int = 512


DINO = BranchConfig(IMAGENET_PIXELS, clip=False)
CLIP = BranchConfig(CLIP_PIXELS, clip=True, quick_gelu=True)
OPEN_CLIP = BranchConfig(CLIP_PIXELS, clip=True)
ENSEMBLE = (DINO, CLIP, OPEN_CLIP)


class Branch(nn.Module):
    """(B, 3, S, S) in [0, 1] → (B, C) features."""

    def __init__(self, config: BranchConfig) -> None:
        super().__init__()
        width, eps = config.width, 1e-5 if config.clip else 1e-6
        block = BlockConfig(width, config.heads, 4 * width, eps=eps, quick_gelu=config.quick_gelu)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, (config.image_size // config.patch) ** 2 + 1, width))
        self.patch_embed = nn.Module()
        self.patch_embed.proj = nn.Conv2d(3, width, config.patch, config.patch)
        if config.clip:
            self.pos_drop = nn.LayerNorm(width, eps)  # DreamSim keeps CLIP's first norm under this name
            self.proj = nn.Parameter(torch.zeros(width, config.embedding))
        self.blocks = nn.ModuleList(Block(block) for _ in range(config.layers))
        self.norm = nn.LayerNorm(width, eps)
        self._config = config

    def forward(self, pixels: Tensor) -> Tensor:
        patches = self.patch_embed.proj(self._config.statistics.normalize(pixels))  # type: ignore[operator]
        patches = patches.flatten(2).transpose(1, 2)
        x = torch.cat([self.cls_token.expand(len(patches), -1, -1), patches], dim=1) + self.pos_embed
        if self._config.clip:
            x = self.pos_drop(x)
        for block in self.blocks:
            x = block(x)
        features: Tensor = self.norm(x[:, 0]) @ self.proj if self._config.clip else x[:, 0]
        return features


class DreamSim(nn.Module):
    """Two batches (B, 3, S, S) in [0, 1] → (B,) distances in [0, 2]."""

    def __init__(self, branches: Sequence[Branch]) -> None:
        super().__init__()
        self.extractor_list = nn.ModuleList(branches)

    def embed(self, pixels: Tensor) -> Tensor:
        """(B, C): features of all branches side by side, their mean taken off, length one."""
        features = torch.cat([branch(pixels) for branch in self.extractor_list], dim=-1)
        return nn.functional.normalize(features - features.mean(dim=1, keepdim=True), dim=1)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return 1 - (self.embed(a) * self.embed(b)).sum(dim=-1)


def load_dreamsim(branches: Sequence[Path], adapter: Path, configs: Sequence[BranchConfig] = ENSEMBLE) -> DreamSim:
    """The base ViTs with the fine-tuning of an adapter folder.

    Args:
        branches: checkpoints of the base ViTs, in the order of `configs`.
        adapter: `adapter_model.safetensors` of PEFT; `adapter_config.json` lies beside it.
        configs: what the branches are.

    Raises:
        FormatError: if a file does not fit.
    """
    if len(branches) != len(configs):
        raise ConfigError(f"{len(branches)} checkpoints for {len(configs)} branches")
    scale = _scale(adapter.with_name("adapter_config.json"))
    updates = _updates(read_tensors(adapter), scale, [config.layers for config in configs], adapter.name)
    built = []
    for index, (path, config) in enumerate(zip(branches, configs, strict=True)):
        branch = load_named(partial(Branch, config), read_tensors(path, inside=("state_dict",)), path.name)
        for layer, block in enumerate(branch.blocks):
            qkv = block.get_submodule("attn.qkv")
            weight, change = qkv.get_parameter("weight"), updates[index, layer]
            if change.shape != weight.shape:
                raise FormatError(f"{adapter.name}: changes {tuple(change.shape)} of a layer of {tuple(weight.shape)}")
            qkv.register_parameter("weight", nn.Parameter(weight + change, requires_grad=False))
        built.append(branch)
    return DreamSim(built)


def _scale(path: Path) -> float:
    """alpha / rank of the adapter's configuration; any other way of merging is refused."""
    try:
        config = json.loads(path.read_bytes())
        rank, alpha = config["r"], config["lora_alpha"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise FormatError(f"{path.name}: not the configuration of a PEFT adapter: {error!r}") from error
    unlike = {
        key: config[key] for key in ("fan_in_fan_out", "use_rslora", "use_dora", "enable_lora") if config.get(key)
    }
    if unlike or config.get("bias", "none") != "none" or rank <= 0:
        raise FormatError(
            f"{path.name}: an adapter with {unlike}, bias {config.get('bias')}, rank {rank} cannot be merged"
        )
    return float(alpha) / float(rank)


def _updates(
    tensors: Mapping[str, Tensor], scale: float, layers: Sequence[int], origin: str
) -> dict[tuple[int, int], Tensor]:
    """What is added to `qkv.weight` of each branch and block."""
    halves: dict[tuple[int, int, str], Tensor] = {}
    unknown = []
    for name, value in tensors.items():
        found = _ADAPTER.match(name)
        if found is None:
            unknown.append(name)
        else:
            halves[int(found[1]), int(found[2]), found[3]] = value.float()
    wanted = {(branch, layer, half) for branch, count in enumerate(layers) for layer in range(count) for half in "AB"}
    if unknown or wanted != halves.keys():
        missing, extra = sorted(wanted - halves.keys())[:3], sorted(halves.keys() - wanted)[:3]
        raise FormatError(
            f"{origin}: not DreamSim's adapter of {len(layers)} branches: missing (branch, block, half) {missing}, "
            f"too many {extra}, unknown {unknown[:3]}"
        )
    return {
        (branch, layer): scale * halves[branch, layer, "B"] @ halves[branch, layer, "A"]
        for branch, layer, half in wanted
        if half == "A"
    }

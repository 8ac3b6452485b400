"""DreamSim (Fu et al. 2023): cosine distance between the embeddings of fine-tuned ViTs, one or an ensemble of three.

Source: ssundaram21/dreamsim 0.2: model.py, feature_extraction/{extractor,vision_transformer,load_*_as_dino}.py. Every
branch is a ViT in DINO's layout; the fine-tuning is low-rank (LoRA on `qkv`, one PEFT adapter for all branches) and is
merged into the weights, as PEFT does.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from helix4d.core import ConfigError, FormatError
from helix4d.evaluation.learned.pictures import CLIP_PIXELS, IMAGENET_PIXELS, PixelStatistics
from helix4d.evaluation.learned.towers.transformer import BlockConfig, Vit, VitConfig
from helix4d.evaluation.learned.weights import load_named, read_tensors

_ADAPTER = re.compile(
    r"^(?:.*\.)?extractor_list\.(\d+)\.model\.blocks\.(\d+)\.attn\.qkv\.lora_([AB])(?:\.default)?\.weight$"
)


@dataclass(frozen=True)
class BranchConfig:
    """Settings of one ViT.

    Args:
        statistics: mean and deviation of its pixels.
        clip: whether it is CLIP's tower in DINO's layout: a norm before the blocks, and features after the last norm
            and `proj`. Otherwise it is DINO's: features are the class token after the last block, before the norm.
        sizes: sizes of the ViT; DINO's features have `width` channels, not `embedding`.
    """

    statistics: PixelStatistics
    clip: bool
    sizes: VitConfig


_VIT_B16 = VitConfig(image_size=224, patch=16, width=768, layers=12, heads=12, hidden=3072, embedding=512)
DINO = BranchConfig(IMAGENET_PIXELS, clip=False, sizes=_VIT_B16)
CLIP = BranchConfig(CLIP_PIXELS, clip=True, sizes=replace(_VIT_B16, quick_gelu=True))
OPEN_CLIP = BranchConfig(CLIP_PIXELS, clip=True, sizes=_VIT_B16)
ENSEMBLE = (DINO, CLIP, OPEN_CLIP)


class Branch(Vit):
    """A branch: (B, 3, S, S) in [0, 1] → (B, C) features."""

    def __init__(self, config: BranchConfig) -> None:
        sizes, eps = config.sizes, 1e-5 if config.clip else 1e-6
        block = BlockConfig(sizes.width, sizes.heads, sizes.hidden, eps=eps, quick_gelu=sizes.quick_gelu)
        super().__init__(sizes, block)
        if config.clip:
            self.pos_drop = nn.LayerNorm(sizes.width, eps)  # DreamSim stores CLIP's first norm under this name
            self.proj = nn.Parameter(torch.zeros(sizes.width, sizes.embedding))
        self._config = config

    def forward(self, pixels: Tensor) -> Tensor:
        x = self.embed(self._config.statistics.normalize(pixels))
        if self._config.clip:
            x = self.pos_drop(x)
        for block in self.blocks:
            x = block(x)
        features: Tensor = self.norm(x[:, 0]) @ self.proj if self._config.clip else x[:, 0]
        return features


class DreamSim(nn.Module):
    """A metric: two batches (B, 3, S, S) in [0, 1] → (B,) distances in [0, 2]."""

    def __init__(self, branches: Sequence[Branch]) -> None:
        super().__init__()
        self.extractor_list = nn.ModuleList(branches)

    def embed(self, pixels: Tensor) -> Tensor:
        """(B, 3, S, S) in [0, 1] → (B, C): concatenated features of all branches, centered and of unit length."""
        features = torch.cat([branch(pixels) for branch in self.extractor_list], dim=-1)
        return nn.functional.normalize(features - features.mean(dim=1, keepdim=True), dim=1)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return 1 - (self.embed(a) * self.embed(b)).sum(dim=-1)


def load_dreamsim(branches: Sequence[Path], adapter: Path, configs: Sequence[BranchConfig] = ENSEMBLE) -> DreamSim:
    """Load the base ViTs and merge the fine-tuning of a PEFT adapter into them.

    Args:
        branches: checkpoints of the base ViTs, in the order of `configs`.
        adapter: PEFT's `adapter_model.safetensors`, with `adapter_config.json` beside it.
        configs: settings of the branches.

    Raises:
        ConfigError: if there are more or fewer checkpoints than branches.
        FormatError: if a file does not match.
    """
    if len(branches) != len(configs):
        raise ConfigError(f"{len(branches)} checkpoints for {len(configs)} branches")
    scale = _scale(adapter.with_name("adapter_config.json"))
    updates = _updates(read_tensors(adapter), scale, [config.sizes.layers for config in configs], adapter.name)
    built = []
    for index, (path, config) in enumerate(zip(branches, configs, strict=True)):
        branch = load_named(partial(Branch, config), read_tensors(path), path.name)
        for layer, block in enumerate(branch.blocks):
            qkv = block.get_submodule("attn.qkv")
            weight, change = qkv.get_parameter("weight"), updates[index, layer]
            if change.shape != weight.shape:
                raise FormatError(
                    f"{adapter.name}: an update of shape {tuple(change.shape)} for a weight of {tuple(weight.shape)}"
                )
            qkv.register_parameter("weight", nn.Parameter(weight + change, requires_grad=False))
        built.append(branch)
    return DreamSim(built)


def _scale(path: Path) -> float:
    """alpha / rank of the adapter's configuration; other kinds of adapters are refused."""
    try:
        config = json.loads(path.read_bytes())
        rank, alpha = config["r"], config["lora_alpha"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise FormatError(f"{path.name}: not the configuration of a PEFT adapter ({error!r})") from error
    unsupported = {
        key: config[key] for key in ("fan_in_fan_out", "use_rslora", "use_dora", "enable_lora") if config.get(key)
    }
    if unsupported or config.get("bias", "none") != "none" or rank <= 0:
        raise FormatError(
            f"{path.name}: an adapter with {unsupported}, bias {config.get('bias')}, rank {rank} cannot be merged"
        )
    return float(alpha) / float(rank)


def _updates(
    tensors: Mapping[str, Tensor], scale: float, layers: Sequence[int], origin: str
) -> dict[tuple[int, int], Tensor]:
    """Update of `qkv.weight` for each (branch, block)."""
    halves: dict[tuple[int, int, str], Tensor] = {}
    unknown = []
    for name, value in tensors.items():
        match = _ADAPTER.match(name)
        if match is None:
            unknown.append(name)
        else:
            halves[int(match[1]), int(match[2]), match[3]] = value.float()
    wanted = {(branch, layer, half) for branch, count in enumerate(layers) for layer in range(count) for half in "AB"}
    if unknown or wanted != halves.keys():
        missing, extra = sorted(wanted - halves.keys())[:3], sorted(halves.keys() - wanted)[:3]
        raise FormatError(
            f"{origin}: not a DreamSim adapter of {len(layers)} branches: missing (branch, block, half) {missing}, "
            f"unexpected {extra}, unknown {unknown[:3]}"
        )
    return {
        (branch, layer): scale * halves[branch, layer, "B"] @ halves[branch, layer, "A"]
        for branch, layer, half in wanted
        if half == "A"
    }

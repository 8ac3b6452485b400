"""CLIP's image tower with open_clip's parameter names; checkpoints of transformers are converted.

Source: open_clip's `VisionTransformer` (model_configs/ViT-bigG-14.json) and transformers' CLIP, to which a test
compares the features.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from helix4d.core import FormatError
from helix4d.evaluation.learned.towers.transformer import VitConfig
from helix4d.evaluation.learned.weights import load_named, read_tensors

BIG_G = VitConfig(image_size=224, patch=14, width=1664, layers=48, heads=16, hidden=8192, embedding=1280)
"""open_clip's ViT-bigG-14: 48 blocks of 1664 channels, MLPs int(1664 · 4.9231) = 8192 wide."""


class ClipTower(nn.Module):
    """An image tower: (B, 3, S, S) normalized pixels → (B, embedding) features, not normalized."""

    def __init__(self, config: VitConfig) -> None:
        super().__init__()
        width, tokens = config.width, config.tokens
        self.conv1 = nn.Conv2d(3, width, config.patch, config.patch, bias=False)
        self.class_embedding = nn.Parameter(torch.zeros(width))
        self.positional_embedding = nn.Parameter(torch.zeros(tokens, width))
        self.ln_pre = nn.LayerNorm(width)
        self.transformer = nn.Module()
        self.transformer.resblocks = nn.ModuleList(_Block(config) for _ in range(config.layers))
        self.ln_post = nn.LayerNorm(width)
        self.proj = nn.Parameter(torch.zeros(width, config.embedding))

    def forward(self, pixels: Tensor) -> Tensor:
        patches = self.conv1(pixels).flatten(2).transpose(1, 2)
        first = self.class_embedding.expand(len(patches), 1, -1)
        x = self.ln_pre(torch.cat([first, patches], dim=1) + self.positional_embedding)
        for block in self.transformer.resblocks:  # type: ignore[union-attr]
            x = block(x)
        features: Tensor = self.ln_post(x[:, 0]) @ self.proj
        return features


class _Block(nn.Module):
    def __init__(self, config: VitConfig) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(config.width)
        self.attn = _Attention(config.width, config.heads)
        self.ln_2 = nn.LayerNorm(config.width)
        self.mlp = nn.Module()
        self.mlp.c_fc = nn.Linear(config.width, config.hidden)
        self.mlp.c_proj = nn.Linear(config.hidden, config.width)
        self._quick = config.quick_gelu

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.ln_1(x))
        hidden = self.mlp.c_fc(self.ln_2(x))  # type: ignore[operator]
        hidden = hidden * torch.sigmoid(1.702 * hidden) if self._quick else F.gelu(hidden)
        out: Tensor = x + self.mlp.c_proj(hidden)  # type: ignore[operator]
        return out


class _Attention(nn.Module):
    """Self-attention with the parameters of `nn.MultiheadAttention`."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.in_proj_weight = nn.Parameter(torch.zeros(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)
        self._heads = heads

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, width = x.shape
        together = F.linear(x, self.in_proj_weight, self.in_proj_bias)
        q, k, v = together.view(batch, tokens, 3, self._heads, -1).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(batch, tokens, width)
        out: Tensor = self.out_proj(mixed)
        return out


def load_clip(path: Path, config: VitConfig = BIG_G) -> ClipTower:
    """Load the image tower of a checkpoint of open_clip or transformers; the text tower is not read.

    Raises:
        FormatError: if the file is neither, or does not match `config`.
    """
    build, tensors = partial(ClipTower, config), read_tensors(path)
    if any(name.startswith("vision_model.") for name in tensors):
        return load_named(build, _from_transformers(tensors, config.layers, path.name), path.name)
    return load_named(build, tensors, path.name, prefix="visual.")


def _from_transformers(tensors: Mapping[str, Tensor], layers: int, origin: str) -> dict[str, Tensor]:
    """Rename the tensors of transformers' `CLIPModel` (whose `pre_layrnorm` is spelled so) as in open_clip."""
    renamed = {}
    try:
        for old, new in _TRANSFORMERS.items():
            renamed[new] = tensors[old]
        renamed["proj"] = tensors["visual_projection.weight"].T
        for layer in range(layers):
            before, after = f"vision_model.encoder.layers.{layer}", f"transformer.resblocks.{layer}"
            for part in ("weight", "bias"):
                renamed[f"{after}.attn.in_proj_{part}"] = torch.cat(
                    [tensors[f"{before}.self_attn.{name}_proj.{part}"] for name in "qkv"]
                )
                for old, new in _TRANSFORMERS_BLOCK.items():
                    renamed[f"{after}.{new}.{part}"] = tensors[f"{before}.{old}.{part}"]
    except KeyError as error:
        raise FormatError(f"{origin}: looks like transformers' CLIPModel, but lacks {error}") from error
    taken = {*_TRANSFORMERS, "visual_projection.weight", "vision_model.embeddings.position_ids"}
    blocks = tuple(f"vision_model.encoder.layers.{layer}." for layer in range(layers))
    unknown = [
        name
        for name in tensors
        if name.startswith("vision_model.") and name not in taken and not name.startswith(blocks)
    ]
    return renamed | {name: tensors[name] for name in unknown}  # reported by load_named


_TRANSFORMERS = {
    "vision_model.embeddings.patch_embedding.weight": "conv1.weight",
    "vision_model.embeddings.class_embedding": "class_embedding",
    "vision_model.embeddings.position_embedding.weight": "positional_embedding",
    "vision_model.pre_layrnorm.weight": "ln_pre.weight",
    "vision_model.pre_layrnorm.bias": "ln_pre.bias",
    "vision_model.post_layernorm.weight": "ln_post.weight",
    "vision_model.post_layernorm.bias": "ln_post.bias",
}
_TRANSFORMERS_BLOCK = {
    "self_attn.out_proj": "attn.out_proj",
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
}

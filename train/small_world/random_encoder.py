"""A tiny DINOv3 with random weights, the image encoder of the small world: random features distinguish images."""

from __future__ import annotations

import math
from pathlib import Path

import torch

from helix4d.core import generator


@torch.no_grad()
def write_random_image_encoder(folder: Path, channels: int = 32, layers: int = 2, seed: int = 0) -> None:
    """Save a DINOv3 with patch size 16 that `ImageEncoder.from_pretrained(folder)` can load."""
    from transformers import DINOv3ViTConfig, DINOv3ViTModel

    config = DINOv3ViTConfig(
        patch_size=16,
        hidden_size=channels,
        intermediate_size=2 * channels,
        num_hidden_layers=layers,
        num_attention_heads=max(channels // 16, 1),
        num_register_tokens=4,
    )
    with torch.device("meta"):
        network = DINOv3ViTModel(config)
    network = network.to_empty(device="cpu")
    for name, parameter in sorted(network.named_parameters()):
        drawn = torch.from_numpy(generator(seed, name).standard_normal(tuple(parameter.shape), dtype="float32"))
        if name.endswith("bias") or parameter.ndim == 1:
            parameter.copy_(torch.zeros_like(drawn) if name.endswith("bias") else torch.ones_like(drawn))
        else:
            parameter.copy_(drawn / math.sqrt(max(parameter[0].numel(), 1)))
    # Buffers are derived from the configuration by the constructor and not stored.
    network.save_pretrained(folder)

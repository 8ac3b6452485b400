"""Tiny random networks of a whole pipeline, both base and fine-tuned, in TRELLIS.2's layout."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from helix4d.model.checkpoint.checkpoint import save_network
from helix4d.model.networks.config import FlowConfig
from helix4d.model.networks.flow import DenseFlow, SparseFlow
from helix4d.model.sampling.loading import CASCADE_FLOWS, FLOWS
from tests.train import world


def write_networks(folder: Path) -> Path:
    """Write networks for 32 voxels per side and images of 32 pixels, with those of the cascade at twice of both."""
    world.write_models(folder)
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"model_channels": 32, "cond_channels": 16, "num_blocks": 1, "num_heads": 2}
    flows: dict[str, torch.nn.Module] = {
        FLOWS[0]: DenseFlow(FlowConfig(resolution=2, in_channels=4, out_channels=4, **sizes))
    }
    for names, resolution in ((FLOWS[1:], 2), (CASCADE_FLOWS, 4)):
        geometry, material = names
        flows[geometry] = SparseFlow(FlowConfig(resolution=resolution, in_channels=8, out_channels=8, **sizes))
        flows[material] = SparseFlow(FlowConfig(resolution=resolution, in_channels=16, out_channels=8, **sizes))
    document = json.loads((folder / "pipeline.json").read_text())
    for name, network in flows.items():
        save_network(network, folder, f"ckpts/{name}")
        document["args"]["models"][name] = f"ckpts/{name}"
    for name in ("shape_slat_normalization", "tex_slat_normalization"):
        document["args"][name] = {"mean": [0.1] * 8, "std": [2.0] * 8}
    document["args"]["image_cond_model"] = {"args": {"model_name": str(folder / "image_encoder")}}
    document["args"]["helix4d"] = {"image_size": 32}
    (folder / "pipeline.json").write_text(json.dumps(document))
    return folder

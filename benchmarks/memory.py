"""Peak GPU memory of a training step of the full-size geometry stage, counted on fake tensors without a GPU.

    python benchmarks/memory.py     # the tables of docs/model.md, for frames of 8192 tokens

The code of the training step runs with tensors that have sizes but no data (`helix4d.train.memory`), including the
weights of DINOv3 ViT-L/16. CUDA's context and libraries and fragmentation come on top.
"""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from transformers import DINOv3ViTConfig

from benchmarks.results import Column, Report
from helix4d.model.networks.attention.plan import AttentionBackend
from helix4d.model.networks.config import FlowConfig
from helix4d.model.networks.flow import Checkpointing
from helix4d.train.config import DataConfig, NetworkConfig, Stage, TrainConfig
from helix4d.train.memory import Kind, StepMemory, step_memory

FULL = FlowConfig(resolution=32, in_channels=32, out_channels=32)
ENCODER = DINOv3ViTConfig(
    hidden_size=1024, num_hidden_layers=24, num_attention_heads=16, intermediate_size=4096, num_register_tokens=4
)


def main() -> None:
    """Print the peaks by number of frames, and the kinds of memory at the peak for the middle number of frames."""
    report = Report("memory", __doc__, quick="2, 4 and 8 frames of 1024 tokens")
    report.parser.add_argument("--tokens", type=int, default=8192, help="tokens per frame")
    options = report.parse()
    tokens, counts = (1024, (2, 4, 8)) if options.quick else (options.tokens, (8, 16, 32))
    backends = (AttentionBackend.VARLEN, AttentionBackend.WINDOW)
    columns = (Column(f"{frames} frames, GB", ".1f") for frames in counts)
    peaks = report.table("peaks", Column("checkpointing"), Column("attention"), *columns)
    found: dict[Checkpointing, StepMemory] = {}
    for mode in Checkpointing:
        for backend in backends:
            steps = [measure(mode, frames, tokens, backend) for frames in counts]
            peaks.add(f"`{mode}`", f"`{backend}`", *(step.peak / 1e9 for step in steps))
            if backend is AttentionBackend.VARLEN:
                found[mode] = steps[1]
    columns = (Column(f"`{mode}`", ".1f") for mode in Checkpointing)
    kinds = report.table("kinds", Column(f"GB, {counts[1]} frames"), *columns)
    for kind in Kind:
        kinds.add(str(kind), *(found[mode].kinds[kind] / 1e9 for mode in Checkpointing))
    report.save()


def measure(mode: Checkpointing, frames: int, tokens: int, backend: AttentionBackend) -> StepMemory:
    """Measure a step of one clip."""
    config = TrainConfig(
        name="memory",
        stage=Stage.GEOMETRY,
        data=DataConfig(latents="", images=""),
        network=NetworkConfig(scratch={}, checkpointing=mode),
    )
    return step_memory(config, FULL, [(tokens,) * frames], backend, ENCODER)


if __name__ == "__main__":
    main()

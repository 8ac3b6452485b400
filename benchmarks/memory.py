"""Peak GPU memory of a training step of the full-size geometry stage, counted on fake tensors without a GPU.

    python benchmarks/memory.py     # the tables of docs/model.md, for frames of 8192 tokens

The code of the training step runs with tensors that have sizes but no data (`helix4d.train.memory`), including the
weights of DINOv3 ViT-L/16. CUDA's context and libraries and fragmentation come on top.
"""

from __future__ import annotations

import argparse

from transformers import DINOv3ViTConfig

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
    """Print two Markdown tables: the peaks by number of frames, and the kinds of memory at the peak of 16 frames."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=8192, help="tokens per frame")
    tokens = parser.parse_args().tokens
    backends = (AttentionBackend.VARLEN, AttentionBackend.WINDOW)
    found = {
        (backend, mode, frames): measure(mode, frames, tokens, backend)
        for backend in backends
        for mode in Checkpointing
        for frames in (8, 16, 32)
    }
    print("| checkpointing | attention | 8 frames | 16 frames | 32 frames |\n|---|---|---|---|---|")
    for mode in Checkpointing:
        for backend in backends:
            peaks = [f"{found[backend, mode, frames].peak / 1e9:.1f}" for frames in (8, 16, 32)]
            print(f"| `{mode}` | `{backend}` | {' | '.join(peaks)} |")
    print(f"\n| GB, 16 frames | {' | '.join(f'`{mode}`' for mode in Checkpointing)} |\n|---|---|---|---|")
    for kind in Kind:
        parts = [found[AttentionBackend.VARLEN, mode, 16].kinds[kind] for mode in Checkpointing]
        print(f"| {kind} | {' | '.join(f'{part / 1e9:.1f}' for part in parts)} |")


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

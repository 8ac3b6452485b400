"""Cost of a training step of a full-size Helix4D stage: tokens per second, share of the GPU's bf16 rate, peak memory.

    python benchmarks/training_step.py                         # CUDA: the geometry stage, 16 frames of 8192 tokens
    python benchmarks/training_step.py --quick --device cpu    # a toy network, to check that the code runs

Weights are random (the official initialization, but none is zero), frozen ones in bfloat16, trained ones in float32;
activations are bfloat16 and recomputed block by block.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import torch
import torch.nn.functional as F

from benchmarks.results import Column, Report, Spread
from helix4d.model.networks.attention.plan import AttentionBackend
from helix4d.model.networks.config import FlowConfig, VideoConfig
from helix4d.model.networks.flow import Checkpointing, SparseFlow
from helix4d.model.networks.flow_matching import noisy, velocity
from helix4d.model.networks.frames import FrameLayout, frame_timesteps
from helix4d.model.networks.initialize import initialize_flow
from helix4d.model.networks.sparse import SparseLayout, SparseTensor
from helix4d.train.flops import peak_flops, step_flops

FULL = FlowConfig(resolution=32, in_channels=32, out_channels=32)
TINY = FlowConfig(
    resolution=32, in_channels=32, out_channels=32, model_channels=128, cond_channels=64, num_blocks=2, num_heads=2
)


def main() -> None:
    """Print the figures."""
    report = Report("training_step", __doc__, quick="a toy network and 64 tokens per frame")
    parser = report.parser
    parser.add_argument("--device", default="cuda", choices=["cpu", "cuda"])
    parser.add_argument("--frames", type=int, default=16)
    parser.add_argument("--tokens", type=int)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--backend", default="auto", choices=[str(b) for b in AttentionBackend])
    parser.add_argument("--checkpointing", default="keep_attention", choices=[str(c) for c in Checkpointing])
    parser.add_argument("--compile", action="store_true", help="compile the blocks")
    args = report.parse()
    if args.device == "cuda" and not torch.cuda.is_available():
        parser.error("no CUDA GPU found: check the code with --quick --device cpu")
    device, config = torch.device(args.device), TINY if args.quick else FULL
    tokens = args.tokens or (64 if args.quick else 8192)
    backend, checkpointing = AttentionBackend(args.backend), Checkpointing(args.checkpointing)
    network = build_stage(config, device, backend, checkpointing, args.compile)
    trained = [p for _, p in network.self_attention_parameters()]
    optimizer = torch.optim.AdamW(trained, lr=2e-5, betas=(0.9, 0.95), fused=device.type == "cuda")
    clean, cond = random_batch(config, args.frames, tokens, device)
    layout = FrameLayout((clean.layout.lengths,))
    times = []
    for step in range(args.steps + 2):
        _synchronize(device)
        start = time.perf_counter()
        loss = train_step(network, optimizer, clean, cond, layout, step)
        _synchronize(device)
        times.append(time.perf_counter() - start)
    count = sum(p.numel() for p in trained) / 1e6
    seconds = Spread.of(times[2:])
    flops = step_flops(config, network.video, (clean.layout.lengths,), cond.shape[1], all_trained=False)
    print(f"{args.frames} frames x {tokens} tokens, {count:.1f} M trained, loss {loss:.4f}")
    table = report.table("step", Column("measure"), Column("value", ",.3f"))
    table.add("seconds per step", seconds)
    table.add("tokens per second", f"{layout.tokens / seconds.median:,.0f}")
    table.add("model TFLOP/s", f"{flops / seconds.median / 1e12:.1f}")
    if device.type == "cuda":
        peak = peak_flops(device)
        table.add("peak memory, GiB", f"{torch.cuda.max_memory_allocated() / 2**30:.1f}")
        table.add("share of the bf16 rate", None if peak is None else f"{flops / seconds.median / peak:.0%}")
    report.save()


def build_stage(
    config: FlowConfig, device: torch.device, backend: AttentionBackend, checkpointing: Checkpointing, compiled: bool
) -> SparseFlow:
    with device:
        network = SparseFlow(config, VideoConfig())
    initialize_flow(network, torch.Generator(device).manual_seed(0))
    fill_zeros(network)
    trained = {name for name, _ in network.self_attention_parameters()}
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(name in trained)
        if name not in trained:
            parameter.data = parameter.data.bfloat16()
    network.compute_dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    network.checkpointing = checkpointing
    network.attention_backend = backend
    if compiled:
        network.compile_blocks()
    return network.train()


@torch.no_grad()
def fill_zeros(network: torch.nn.Module) -> None:
    """Give parameters that start at zero small random values.

    With the official initialization the output and all gradients are exactly zero, and GPUs multiply zeros faster.
    """
    for parameter in network.parameters():
        if not parameter.any():
            parameter.normal_(0, 0.02, generator=torch.Generator(parameter.device).manual_seed(0))


def random_batch(
    config: FlowConfig, frames: int, tokens: int, device: torch.device
) -> tuple[SparseTensor, torch.Tensor]:
    generator = torch.Generator(device).manual_seed(1)
    coords = []
    for frame in range(frames):
        cells = torch.randperm(config.resolution**3, generator=generator, device=device)[:tokens].sort().values
        side = config.resolution
        xyz = torch.stack([cells // side**2, cells // side % side, cells % side], dim=1)
        coords.append(F.pad(xyz, (1, 0), value=frame))
    feats = torch.randn(frames * tokens, config.in_channels, generator=generator, device=device)
    images = 1029 if tokens >= 1024 else 21
    cond = torch.randn(frames, images, config.cond_channels, generator=generator, device=device)
    return SparseTensor(feats, SparseLayout(torch.cat(coords).int(), frames)), cond


def train_step(
    network: SparseFlow,
    optimizer: torch.optim.Optimizer,
    clean: SparseTensor,
    cond: torch.Tensor,
    layout: FrameLayout,
    step: int,
) -> float:
    """One step on frame 0 clean, at timestep 0 and without loss, and the others noisy at one timestep."""
    device = clean.feats.device
    generator = torch.Generator(device).manual_seed(step)
    t = torch.rand(1, generator=generator, device=device)
    noise = torch.randn(clean.feats.shape, generator=generator, device=device)
    anchor = (layout.token_frames(device) == 0)[:, None]
    x = clean.replace(torch.where(anchor, clean.feats, noisy(clean.feats, noise, t)))
    predicted = network(x, frame_timesteps(1000 * t, layout), cond, clips=(layout.frames,)).feats
    error = (predicted - velocity(clean.feats, noise)).square().masked_fill(anchor, 0)
    loss = error.sum() / ((~anchor).sum() * error.shape[1])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return float(loss.detach())


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


if __name__ == "__main__":
    main()

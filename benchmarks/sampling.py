"""Time budget of sampling a video: counts every pass of the real sampler, with networks that compute nothing.

    python benchmarks/sampling.py                    # 16 frames of 8192 tokens, as `helix4d sample` runs them
    python benchmarks/sampling.py --steps 6          # fewer steps
    python benchmarks/sampling.py --decode           # also decode, mesh and bake a sample asset; a minute of CPU

Operations are exact. Seconds are arithmetic: operations and bytes divided by an H200's data-sheet rates and the assumed
shares of them. The floor assumes all of the matrix rate and no traffic.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.results import Column, Report
from helix4d.assets import bake, normalize
from helix4d.assets.samples import SAMPLES
from helix4d.model.conditioning.video_input import Video
from helix4d.model.latents.latents import SHAPE_STATISTICS, TEXTURE_STATISTICS
from helix4d.model.networks.attention.plan import AttentionBackend
from helix4d.model.networks.blocks import Block, KeyValue, TokenContext
from helix4d.model.networks.config import BASE, FlowConfig, SparseDecoderConfig, VideoConfig
from helix4d.model.networks.flow import AnchorCache, DenseFlow, SparseFlow
from helix4d.model.networks.sparse import SparseLayout
from helix4d.model.sampling.anchor import Autoencoder
from helix4d.model.sampling.loading import Samplers, Stages
from helix4d.model.sampling.stage_run import Placement
from helix4d.model.sampling.video_pipeline import Helix4DPipeline
from helix4d.train.flops import BF16_PEAK, PassFlops, pass_flops
from helix4d.voxelize import encode_vxz, extract_mesh, voxelize_clip
from helix4d.voxelize.mesh.baking import bake_mesh
from helix4d.voxelize.mesh.cleaning import orient_faces
from helix4d.voxelize.mesh.glb import encode_textures, frame_glb

PEAK = BF16_PEAK["H200"]
BANDWIDTH = 4.8e12
IMAGE_TOKENS = 1029
IMAGE_CHANNELS = 1024
CONFIGS = {
    "structure": FlowConfig(resolution=16, in_channels=8, out_channels=8),
    "geometry": FlowConfig(resolution=32, in_channels=32, out_channels=32),
    "material": FlowConfig(resolution=32, in_channels=64, out_channels=32),
}


@dataclass(frozen=True)
class Rates:
    """Assumed shares of the data-sheet rates."""

    matrices: float
    attention: float
    traffic: float

    def seconds(self, flops: PassFlops, block_bytes: float) -> float:
        """Return the time of a pass whose blocks move `block_bytes` besides what matrices and attention read."""
        matrices = flops.self_attention_matrices + flops.other_matrices + flops.image_matrices
        computed = matrices / self.matrices + flops.attention / self.attention
        return computed / PEAK + block_bytes / (self.traffic * BANDWIDTH)


@dataclass(frozen=True)
class Call:
    """One call of a network."""

    stage: str
    kind: str
    tokens: int
    flops: PassFlops


def main() -> None:
    """Print the tables."""
    report = Report("sampling", __doc__, quick="2 frames of 512 tokens")
    parser = report.parser
    parser.add_argument("--frames", type=int, default=16)
    parser.add_argument("--tokens", type=int, default=8192, help="tokens per frame in the second and third stage")
    parser.add_argument("--steps", type=int, help="steps of all stages, by default TRELLIS.2's 12")
    parser.add_argument("--sequential", action="store_true", help="both guidance passes one after the other")
    parser.add_argument("--matrices", type=float, default=0.70, help="share of the bf16 rate in matrix products")
    parser.add_argument("--attention", type=float, default=0.40, help="share of the bf16 rate in attention")
    parser.add_argument("--traffic", type=float, default=0.75, help="share of the memory bandwidth")
    parser.add_argument("--decode", action="store_true", help="also count the decoders and time the work on the CPU")
    args = report.parse()
    frames, tokens = (2, 512) if args.quick else (args.frames, args.tokens)
    rates = Rates(args.matrices, args.attention, args.traffic)
    samplers = Samplers().changed(steps=args.steps)
    calls = count_calls(frames, tokens, samplers, batched=not args.sequential)
    per_token = block_bytes_per_token(CONFIGS["geometry"])
    print(f"{frames} frames x {tokens} tokens; bf16 {PEAK / 1e12:.0f} TFLOP/s, {BANDWIDTH / 1e12} TB/s; {rates}")
    print(f"a block moves {per_token / 1e3:.0f} KB per token besides matrices and attention\n")
    add_calls(report, calls, rates, per_token)
    count_images(report, frames + 1)  # frame 0 twice: for the base and for the video stages
    if args.decode:
        time_decoding(report, tokens, frames, rates)
    report.save()


def count_calls(frames: int, tokens: int, samplers: Samplers, batched: bool) -> list[Call]:
    """Run `Helix4DPipeline` with counting networks in place of the six flows; return their calls in order."""
    calls: list[Call] = []
    base, video = (
        Stages(
            _counting(DenseFlow, prefix + "structure", settings, calls),
            _counting(SparseFlow, prefix + "geometry", settings, calls),
            _counting(SparseFlow, prefix + "material", settings, calls),
        )
        for prefix, settings in (("anchor ", BASE), ("", VideoConfig()))
    )
    stand_in: Any = nn.Identity()  # the decoders of stages 2 and 3 are not reached
    occupancy: Any = _Occupancy(tokens)
    vae = Autoencoder(occupancy, stand_in, stand_in, None, SHAPE_STATISTICS, TEXTURE_STATISTICS)
    ones: Any = _Ones()
    pipeline = Helix4DPipeline(base, video, vae, ones, placement=Placement(batched_guidance=batched))
    picture = Image.new("RGBA", (64, 64), "red")
    clip = Video((picture,) * frames, tuple(range(frames)), frames, False)
    pipeline.latents(clip, samplers=samplers)
    return calls


def _counting(kind: type[Any], stage: str, video: VideoConfig, calls: list[Call]) -> Any:
    """Return a full-size flow without weights whose trunk records its calls and returns zeros."""

    class Counting(kind):  # type: ignore[misc]
        def to(self, *_args: Any, **_kwargs: Any) -> Any:
            return self

        def forward_tokens(
            self,
            tokens: Tensor,
            context: TokenContext,
            timesteps: Tensor,
            cond: Tensor,
            anchor: AnchorCache | None = None,
            collect: list[KeyValue] | None = None,
        ) -> Tensor:
            self._check(tokens, context.self_plan.queries, timesteps, cond, anchor)
            conditional = (cond[:, 0, 0] != 0).tolist()
            passes = "both" if len(set(conditional)) == 2 else "conditional" if conditional[0] else "unconditional"
            kind = f"{'anchor cache' if collect is not None else 'step'}, {passes}"
            flops = pass_flops(self.config, context.self_plan, cond.shape[1])
            calls.append(Call(stage, kind, len(tokens), flops))
            if collect is not None:
                empty = torch.zeros(()).expand(len(tokens), self.config.num_heads, self.config.head_channels)
                collect.extend(KeyValue(empty, empty) for _ in range(self.config.num_blocks))
            return tokens.new_zeros(len(tokens), self.config.out_channels)

    with torch.device("meta"):
        return Counting(CONFIGS[stage.split()[-1]], video)


class _Ones(nn.Module):
    """Stands in for the image encoder."""

    def forward(self, images: Tensor) -> Tensor:
        return torch.ones(len(images), IMAGE_TOKENS, IMAGE_CHANNELS)


class _Occupancy(nn.Module):
    """Stands in for the structure decoder: a fixed number of tokens on the 32^3 grid."""

    def __init__(self, tokens: int) -> None:
        super().__init__()
        self.tokens = tokens

    def forward(self, latent: Tensor) -> Tensor:
        cells = -torch.ones(len(latent), 32**3)
        cells[:, : self.tokens] = 1
        grid = cells.view(len(latent), 1, 32, 32, 32)
        return grid.repeat_interleave(2, 2).repeat_interleave(2, 3).repeat_interleave(2, 4)


class _Traffic(TorchDispatchMode):
    """Adds up the bytes that operators read and write, except matrix products, attention and views."""

    skipped = ("mm", "addmm", "bmm", "_varlen_attn")

    def __init__(self, parameters: set[int]) -> None:
        super().__init__()
        self.total = 0
        self._parameters = parameters

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        views = any(r.alias_info is not None and not r.alias_info.is_write for r in func._schema.returns)
        read = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor) and id(x) not in self._parameters]
        if read and not views and func.overloadpacket.__name__ not in self.skipped:
            written = [x for x in tree_leaves(out) if isinstance(x, Tensor)]
            self.total += sum(x.numel() * x.element_size() for x in (*read, *written))
        return out


@torch.no_grad()
def block_bytes_per_token(config: FlowConfig, frames: int = 16, tokens: int = 1024) -> float:
    """Bytes per token that a block moves besides matrix products and attention, run in bfloat16 on the meta device."""
    with torch.device("meta"):
        network = SparseFlow(replace(config, num_blocks=1), VideoConfig()).bfloat16()
        network.attention_backend = AttentionBackend.VARLEN
        layout = SparseLayout(torch.zeros(frames * tokens, 4, dtype=torch.int32), frames)
        layout.__dict__["lengths"] = (tokens,) * frames
        context = network.context(layout, IMAGE_TOKENS, (frames,))
        x = torch.zeros(frames * tokens, config.model_channels, dtype=torch.bfloat16)
        shared = torch.zeros(frames, 6 * config.model_channels)
        cond = torch.zeros(frames * IMAGE_TOKENS, config.cond_channels, dtype=torch.bfloat16)
        block: Block = network.blocks[0]  # type: ignore[assignment]
        with _Traffic({id(p) for p in block.parameters()}) as traffic:
            block(x, shared, cond, context)
    return traffic.total / len(x)


def add_calls(report: Report, calls: list[Call], rates: Rates, per_token: float) -> None:
    """Print a row per stage and kind of call."""
    columns = (Column("calls", "d"), Column("tokens", ","), Column("PFLOP", ".3f"), Column("attention", ".0%"))
    columns += (Column("s", ".2f"), Column("floor, s", ".2f"))
    table = report.table("calls", Column("stage"), Column("call"), *columns)
    totals = [0.0, 0.0, 0.0]
    for stage, kind in dict.fromkeys((call.stage, call.kind) for call in calls):
        same = [call for call in calls if (call.stage, call.kind) == (stage, kind)]
        flops = sum(call.flops.total for call in same)
        share = sum(call.flops.attention for call in same) / flops
        blocks = CONFIGS[stage.split()[-1]].num_blocks
        seconds = sum(rates.seconds(call.flops, blocks * call.tokens * per_token) for call in same)
        floor = flops / PEAK
        totals = [a + b for a, b in zip(totals, (flops, seconds, floor), strict=True)]
        table.add(stage, kind, len(same), same[0].tokens, flops / 1e15, share, seconds, floor)
    table.add("all", "", len(calls), None, totals[0] / 1e15, None, totals[1], totals[2])


def count_images(report: Report, images: int) -> None:
    """Report the operations of DINOv3 ViT-L/16 at 512 pixels, counted by torch."""
    from transformers import DINOv3ViTConfig, DINOv3ViTModel

    config = DINOv3ViTConfig(
        hidden_size=1024,
        num_hidden_layers=24,
        num_attention_heads=16,
        intermediate_size=4096,
        num_register_tokens=4,
        image_size=512,
    )
    with torch.device("meta"):
        encoder = DINOv3ViTModel(config)
        with FlopCounterMode(display=False) as counter:
            encoder(torch.zeros(images, 3, 512, 512))
    flops = counter.get_total_flops()
    report.value("dinov3_tflop", flops / 1e12, ".1f")
    report.value("dinov3_s", flops / 67e12, ".2f")  # at the float32 rate of 67 TFLOP/s


def time_decoding(report: Report, tokens: int, frames: int, rates: Rates) -> None:
    """Count the decoders and time the CPU's part on one frame of a sample asset, and scale both to `tokens`."""
    ovoxel = sample_ovoxel()
    layout = SparseLayout(torch.from_numpy(np.pad(ovoxel.coords, ((0, 0), (1, 0))).astype(np.int32)), 1)
    levels = [layout]
    for _ in range(4):
        levels.insert(0, levels[0].coarse[0])
    scale = tokens / len(levels[0])
    shape, texture = (decoder_flops(SparseDecoderConfig(out_channels=n), levels) for n in (7, 6))
    flops = (shape + texture) * scale
    print(f"\na frame of {len(levels[0])} tokens, {len(ovoxel)} voxels, scaled by {scale:.2f} to {tokens} tokens:")
    print(f"decoders: {flops / 1e12:.1f} TFLOP a frame; all frames {frames * flops / (rates.matrices * PEAK):.1f} s")
    vertices, faces = extract_mesh(ovoxel)
    work: dict[str, Callable[[], Any]] = {
        "extract the mesh": lambda: extract_mesh(ovoxel),
        "orient its faces": lambda: orient_faces(vertices, faces),
        "encode the O-Voxel": lambda: encode_vxz(ovoxel),
        "unwrap and bake 1024^2": lambda: bake_mesh(vertices, faces, ovoxel, 1024),
    }
    mesh = bake_mesh(vertices, faces, ovoxel, 1024)
    work["encode the GLB"] = lambda: frame_glb(encode_textures(mesh), "frame")
    columns = (Column("CPU s per frame", ".2f"), Column("all frames", ".1f"))
    table = report.table("decoding", Column("work on the CPU"), *columns)
    for name, call in work.items():
        seconds = _cpu_seconds(call) * scale
        table.add(name, seconds, frames * seconds)


def sample_ovoxel() -> Any:
    """Return frame 0 of a sample asset at 512^3."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "butterfly.glb"
        path.write_bytes(SAMPLES["butterfly"]())
        clip, _ = normalize(bake(path, frames=1))
    return voxelize_clip(clip, 512)[0]


def decoder_flops(config: SparseDecoderConfig, levels: list[SparseLayout]) -> float:
    """Count the operations of a decoder's convolutions and MLPs on its levels, coarse first."""
    pairs = [len(layout) + 2 * sum(len(pair.target) for pair in layout.pairs) for layout in levels]
    total = 0.0
    for level, (width, count) in enumerate(zip(config.model_channels, config.num_blocks, strict=True)):
        total += count * 2.0 * (pairs[level] * width**2 + len(levels[level]) * 8 * width**2)
        if level + 1 < len(levels):
            finer = config.model_channels[level + 1]
            total += 2.0 * (pairs[level] * width * 8 * finer + pairs[level + 1] * finer**2)
    return total


def _cpu_seconds(call: Callable[[], Any]) -> float:
    call()  # compile the kernels
    start = time.process_time()
    call()
    return time.process_time() - start


if __name__ == "__main__":
    main()

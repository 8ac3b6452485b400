"""Measures how fast the reader feeds a rank, in clips, tokens and bytes per second, against a full-size stage's demand.

    python benchmarks/loader.py                       # 16 frames of 8192 tokens, images of 512², lossless WebP
    python benchmarks/loader.py --tokens 256 --image-size 64 --clips 4

Writes synthetic latent and image shards of the given size, reads them back through the trainer's own loader, and
prints one line per number of threads. The images are smooth shapes on a transparent background, like rendered ones.
"""

from __future__ import annotations

import hashlib
import io
import json
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import numpy as np
import torch
from PIL import Image

from benchmarks.results import Column, Report, Spread
from helix4d.core import generator
from helix4d.curation.shards.writer import Sample, write_part, write_shard
from helix4d.model.latents.encode import ClipLatents
from helix4d.model.networks.config import FlowConfig, VideoConfig
from helix4d.train.config import DataConfig, NetworkConfig, Stage, TrainConfig
from helix4d.train.data.dataset import ClipReader
from helix4d.train.data.loader import Loader
from helix4d.train.data.schedule import Schedule
from helix4d.train.flops import BF16_PEAK, step_flops
from helix4d.train.latents.latents import to_members

GRID, CHANNELS, VIEWS = 32, 32, 2


@dataclass(frozen=True)
class Sizes:
    """Tokens per frame, frames and pixels per side of a clip, clips on disk, and clips read per measurement."""

    tokens: int
    frames: int
    image_size: int
    clips: int
    steps: int


def main() -> None:
    """Print the figures."""
    report = Report("loader", __doc__, quick="256 tokens per frame, images of 64 pixels, one round")
    parser = report.parser
    parser.add_argument("--tokens", type=int, default=8192, help="tokens per frame")
    parser.add_argument("--frames", type=int, default=16)
    parser.add_argument("--image-size", type=int, default=512)
    parser.add_argument("--clips", type=int, default=2)
    parser.add_argument("--steps", type=int, default=6, help="clips read per measurement")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--mfu", type=float, default=0.4, help="assumed utilization of the GPU, for the demand")
    parser.add_argument("--rounds", type=int, default=3, help="measurements per number of threads")
    args = report.parse()
    torch.set_num_threads(1)
    sizes = Sizes(args.tokens, args.frames, args.image_size, args.clips, args.steps)
    if args.quick:
        sizes = Sizes(256, args.frames, 64, args.clips, args.steps)
    needed = demand(sizes, args.mfu)
    print(f"demand: {needed:.4f} clips/s on an H100 at {args.mfu:.0%} of its peak")
    with tempfile.TemporaryDirectory() as folder:
        read_bytes = write_world(Path(folder), sizes)
        titles = (("clips/s", ".3f"), ("tokens/s", ",.0f"), ("MB/s read", ".1f"), ("times the demand", ".1f"))
        columns = [Column(*title) for title in titles] + [Column("CPU seconds per clip", ".2f")]
        table = report.table("rates", Column("threads"), *columns)
        for workers in args.workers:
            found = [measure(Path(folder), sizes, workers) for _ in range(1 if args.quick else args.rounds)]
            rates, cpu_s = zip(*found, strict=True)
            scales = (1.0, sizes.tokens * sizes.frames, read_bytes / 1e6, 1 / needed)
            table.add(workers, *(Spread.of(rates, scale) for scale in scales), Spread.of(cpu_s))
    report.value("mb_per_clip", read_bytes / 1e6, ".1f")
    report.save()


def demand(sizes: Sizes, mfu: float) -> float:
    """Clips per second that an H100 trains on at this utilization, in the geometry stage at full size."""
    lengths = ((sizes.tokens,) * sizes.frames,)
    config = FlowConfig(resolution=GRID, in_channels=32, out_channels=32)
    return BF16_PEAK["H100"] * mfu / step_flops(config, VideoConfig(), lengths, 1029, False)


def measure(folder: Path, sizes: Sizes, workers: int) -> tuple[float, float]:
    """Return clips per second through the loader, and CPU seconds per clip."""
    data = DataConfig(
        latents=str(folder / "latents"), images=str(folder / "shards"), image_size=sizes.image_size, workers=workers
    )
    network = NetworkConfig(scratch={})
    config = TrainConfig(name="loader", stage=Stage.GEOMETRY, data=data, network=network, batch=1)
    reader = ClipReader(data, config.stage)
    with Loader(reader, Schedule(reader.costs(GRID), 0), config, 0, 1) as loader:
        steps = loader.steps(0, 0)
        for _ in range(data.ahead + 1):
            next(steps)  # clips that were read ahead do not count
        start, cpu = time.perf_counter(), time.process_time()
        for _ in range(sizes.steps):
            next(steps)
        return sizes.steps / (time.perf_counter() - start), (time.process_time() - cpu) / sizes.steps


def write_world(folder: Path, sizes: Sizes) -> int:
    """Write shards of synthetic clips; returns the bytes that the geometry stage reads per clip."""
    draw = generator("loader")
    images = [picture(sizes.image_size, frame) for frame in range(sizes.frames)]
    length = sizes.tokens * sizes.frames
    read_bytes = sum(map(len, images))
    parts: dict[str, list[Path]] = {"latents": [], "shards": []}
    for number in range(sizes.clips):
        key = f"{number:016x}_0"
        latents = ClipLatents(
            structure=torch.zeros(sizes.frames, 8, 16, 16, 16),
            lengths=(sizes.tokens,) * sizes.frames,
            coords=torch.from_numpy(draw.integers(0, GRID, (length, 3), dtype=np.int32)),
            shape=torch.from_numpy(draw.standard_normal((length, CHANNELS), dtype=np.float32)),
            texture=torch.zeros(length, CHANNELS),
        )
        tokens = [sizes.tokens] * sizes.frames
        clip = {"asset": key, "content_sha256": key, "clip": {"name": None, "index": 0}, "voxels": [], "tokens": tokens}
        described = {"clip.json": json.dumps(clip).encode()}
        members = to_members(latents, torch.float16)
        if not number:
            read_bytes += len(members["shape.safetensors"])
        views = {
            f"view_{view:02d}_frame_{frame:02d}.webp": image
            for view in range(VIEWS)
            for frame, image in enumerate(images)
        }
        for name, content in (("latents", members), ("shards", views)):
            parts[name].append(folder / f"{name}-{key}.part")
            write_part(parts[name][-1], [Sample(key, {**described, **content})])
    tar, digest = "train/helix4d-000000.tar", hashlib.sha256(b"synthetic").hexdigest()
    settings = {"resolution": 16 * GRID, "views": VIEWS, "image_size": sizes.image_size}
    facts = {"split": "train", "config": settings, "config_sha256": digest, "tools": {}, "gaps": []}
    shards = write_shard(folder / "shards" / tar, parts["shards"], facts)
    source = {"shard": tar, "sha256": shards["sha256"], "config": settings}
    write_shard(folder / "latents" / tar, parts["latents"], {**facts, "source": source})
    (folder / "latents/index.json").write_text(json.dumps({"version": 1, "shards": [tar]}))
    return read_bytes


def picture(size: int, frame: int) -> bytes:
    """A shaded, textured disk that moves with the frame, as lossless WebP."""
    y, x = np.mgrid[:size, :size] / size - 0.5
    x = x - 0.01 * frame
    inside = x**2 + y**2 < 0.12
    shade = np.sqrt(np.clip(0.12 - x**2 - y**2, 0, None)) * 2.5
    texture = 0.8 + 0.2 * np.sin(40 * x) * np.sin(40 * y)
    grain = generator("picture", frame).normal(0, 0.01, (size, size))
    value = np.clip(shade * texture + grain, 0, 1)
    rgb = np.stack([value, 0.7 * value, 0.4 * value], axis=-1) * inside[..., None]
    rgba = (np.concatenate([rgb, inside[..., None]], axis=-1) * 255).astype(np.uint8)
    stream = io.BytesIO()
    Image.fromarray(rgba, "RGBA").save(stream, "WEBP", lossless=True, exact=True, quality=50, method=2)
    return stream.getvalue()


if __name__ == "__main__":
    main()

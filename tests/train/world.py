"""The small world of the tests: curation shards without Blender, tiny random networks, tiny configurations."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from helix4d.assets import Clip, bake_clips, normalize
from helix4d.assets.samples import SAMPLES
from helix4d.core import canonical_json
from helix4d.core.typed import build
from helix4d.curation.config import SampleConfig
from helix4d.curation.shards.members import SAMPLE
from helix4d.curation.shards.reader import ShardReader
from helix4d.curation.shards.writer import Sample, write_part, write_shard
from helix4d.model.checkpoint.checkpoint import Pipeline
from helix4d.model.networks.config import (
    DenseDecoderConfig,
    DenseEncoderConfig,
    SparseDecoderConfig,
    SparseEncoderConfig,
)
from helix4d.model.networks.initialize import initialize_vae
from helix4d.model.vae.dense_vae import DenseDecoder, DenseEncoder
from helix4d.model.vae.sc_vae import SparseDecoder, SparseEncoder
from helix4d.render import Lights, RenderSettings, orbit_camera
from helix4d.train.config import TrainConfig
from helix4d.train.small_world.random_encoder import write_random_image_encoder
from helix4d.voxelize import OVoxel, encode_vxz, voxelize_clip

RESOLUTION = 64
FRAMES = 3
VIEWS = 2
IMAGE_SIZE = 32
CHANNELS = (8, 8, 16, 16, 16)
BLOCKS = (0, 0, 1, 1, 1)
LATENT = 8


def write_shards(
    folder: Path,
    names: list[str],
    per_shard: int = 2,
    empty_frame: bool = False,
    split: str = "train",
    first: int = 0,
    rendered: bool = False,
    stills: int = 0,
) -> Path:
    """Write curation shards of sample assets, numbered from `first`, in one split; images are splats or renderings.

    The first `stills` samples have one frame.
    """
    config = SampleConfig(
        resolution=RESOLUTION, frames=FRAMES, views=VIEWS, image_size=IMAGE_SIZE, vxz_compression="none"
    )
    samples = [
        _sample(folder, name, number, config, empty_frame, rendered, 1 if number < first + stills else FRAMES)
        for number, name in enumerate(names, first)
    ]
    for shard, start in enumerate(range(0, len(samples), per_shard)):
        parts = []
        for sample in samples[start : start + per_shard]:
            parts.append(folder / f"{sample.key}.part")
            write_part(parts[-1], [sample])
        facts = {
            "split": split,
            "config": config.to_json(),
            "config_sha256": config.sha256(),
            "tools": {},
            "gaps": [],
        }
        write_shard(folder / split / f"helix4d-{shard:06d}.tar", parts, {**facts, "tools": {}, "gaps": []})
    return folder


def _sample(
    folder: Path, name: str, number: int, config: SampleConfig, empty_frame: bool, rendered: bool, frames: int
) -> Sample:
    key = f"{number:016x}_0"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.glb"
    path.write_bytes(SAMPLES[name]())
    clip, _ = normalize(bake_clips(path, frames=frames, clip="most-moving")[0])
    ovoxels = voxelize_clip(clip, RESOLUTION)
    if empty_frame and number == 0:
        ovoxels[-1] = OVoxel.empty(RESOLUTION)
    members = {f"frame_{f:02d}.vxz": encode_vxz(o, config.vxz_compression) for f, o in enumerate(ovoxels)}
    for view in range(VIEWS):
        for f, ovoxel in enumerate(ovoxels):
            members[f"view_{view:02d}_frame_{f:02d}.webp"] = render(clip, view, f) if rendered else splat(ovoxel, view)
    tokens = [len(np.unique(o.coords // 16, axis=0)) for o in ovoxels]
    members["clip.json"] = canonical_json(
        {
            "version": SAMPLE.version,
            "key": key,
            "asset": path.name,
            "content_sha256": f"{number:064x}",
            "clip": {"name": "", "index": 0},
            "frames": frames,
            "views": VIEWS,
            "resolution": RESOLUTION,
            "image_size": IMAGE_SIZE,
            "voxels": [len(o) for o in ovoxels],
            "tokens": tokens,
            "config_sha256": config.sha256(),
        }
    )
    return Sample(key, members)


def splat(ovoxel: OVoxel, view: int) -> bytes:
    """Draw an orthographic image along axis `view`, as lossless WebP."""
    rgba = np.zeros((IMAGE_SIZE, IMAGE_SIZE, 4), np.uint8)
    rows, columns = np.delete(ovoxel.coords, view % 3, axis=1).T * IMAGE_SIZE // ovoxel.resolution
    rgba[rows, columns, :3] = ovoxel.base_color
    rgba[rows, columns, 3] = 255
    stream = io.BytesIO()
    Image.fromarray(rgba, "RGBA").save(stream, "WEBP", lossless=True, exact=True)
    return stream.getvalue()


def render(clip: Clip, view: int, frame: int) -> bytes:
    """Render with Blender from one of two sides, as lossless WebP."""
    from helix4d.render.cycles.engine import render_views

    camera = orbit_camera(-60.0 + 90 * view, 20.0, IMAGE_SIZE, fov_deg=40.0, radius=2.6)
    settings = RenderSettings(image_size=IMAGE_SIZE, samples=4, denoise=False, device="cpu")
    (image,) = render_views(clip, [camera], [Lights((), 1.5)], settings, [frame])
    stream = io.BytesIO()
    Image.fromarray(image.rgba, "RGBA").save(stream, "WEBP", lossless=True, exact=True)
    return stream.getvalue()


def write_models(folder: Path, seed: int = 0) -> Path:
    """Write VAEs with random weights in TRELLIS.2's layout."""
    sparse: dict[str, Any] = {"latent_channels": LATENT}
    networks: dict[str, torch.nn.Module] = {
        "sparse_structure_encoder": DenseEncoder(
            DenseEncoderConfig(latent_channels=4, num_res_blocks=1, channels=(8, 8, 16), num_res_blocks_middle=1)
        ),
        "sparse_structure_decoder": DenseDecoder(
            DenseDecoderConfig(latent_channels=4, num_res_blocks=1, channels=(16, 8, 8), num_res_blocks_middle=1)
        ),
    }
    for name, channels, predicts in (("shape_slat", 7, True), ("tex_slat", 6, False)):
        networks[f"{name}_encoder"] = SparseEncoder(
            SparseEncoderConfig(model_channels=CHANNELS, num_blocks=BLOCKS, **sparse)
        )
        networks[f"{name}_decoder"] = SparseDecoder(
            SparseDecoderConfig(
                out_channels=channels,
                model_channels=CHANNELS[::-1],
                num_blocks=BLOCKS[::-1],
                pred_subdiv=predicts,
                **sparse,
            )
        )
    generator = torch.Generator().manual_seed(seed)
    for network in networks.values():
        initialize_vae(network, generator)
    Pipeline(networks, {}).save_pretrained(folder)
    write_random_image_encoder(folder / "image_encoder", channels=16, layers=1)
    return folder


def train_values(stage: str, latents: Path, shards: Path, models: Path, output: Path) -> dict[str, Any]:
    """Return the settings of a tiny run, as in a YAML file."""
    channels = {"structure": (4, 4), "geometry": (LATENT, LATENT), "material": (2 * LATENT, LATENT)}[stage]
    return {
        "name": stage,
        "stage": stage,
        "steps": 8,
        "batch": 2,
        "data": {
            "latents": str(latents),
            "images": str(shards),
            "statistics": "computed",
            "image_size": IMAGE_SIZE,
            "workers": 2,
        },
        "network": {
            "scratch": {
                "resolution": 2 if stage == "structure" else RESOLUTION // 16,
                "in_channels": channels[0],
                "out_channels": channels[1],
                "model_channels": 32,
                "cond_channels": 16,
                "num_blocks": 2,
                "num_heads": 2,
                "mlp_ratio": 2,
            },
            "image_encoder": str(models / "image_encoder"),
            "trainable": ["*"],
            "video": {"training_frames": FRAMES},
            "precision": "float32",
            "checkpointing": "none",
        },
        "optimizer": {"lr": 1e-3, "ema": 0.9, "clip_history": 4},
        "run": {"output": str(output), "log_every": 1, "save_every": 2, "device": "cpu"},
    }


def train_config(stage: str, *folders: Path, **changes: Any) -> TrainConfig:
    """Return the settings as a `TrainConfig`, with changes at the top level; other arguments as above."""
    return build(TrainConfig, {**train_values(stage, *folders), **changes}, "test")


def keys(shards: Path) -> list[str]:
    """Return the keys of the clips in curation shards, sorted."""
    return sorted(key for tar in shards.rglob("*.tar") for key in ShardReader(tar).keys())  # noqa: SIM118

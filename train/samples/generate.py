"""Generate colored meshes of all frames of a clip from its first frame and one view, with three trained stages."""

from __future__ import annotations

import io
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from helix4d.core import ConfigError, write_bytes
from helix4d.model.checkpoint.checkpoint import Pipeline
from helix4d.model.device import choose_device
from helix4d.model.latents.decode import GeneratedFrame, decode_frame
from helix4d.model.latents.latents import tokens_from_occupancy
from helix4d.model.sampling.sampler import SamplerConfig, Solver
from helix4d.model.vae.sc_vae import SparseDecoder
from helix4d.train.config import Stage, TrainConfig
from helix4d.train.data.dataset import ClipReader, Latent
from helix4d.train.export import load_trained, read_run
from helix4d.train.latents.latents import SHAPE, TEXTURE
from helix4d.train.network import load_image_encoder
from helix4d.train.samples.sampling import sample_video

_PREVIEW_PIXELS = 192
_PREVIEW_MS = 120


@dataclass(frozen=True)
class GenerateConfig:
    """Generate frames 1 to T - 1 of a clip from its first frame and one view's images, with three trained stages."""

    structure: Path
    """Run folder of stage 1."""
    geometry: Path
    """Run folder of stage 2."""
    material: Path
    """Run folder of stage 3."""
    models: str
    """Folder with the decoders, in TRELLIS.2's layout."""
    output: Path
    """Output folder for frame_00.ply ... and preview.webp."""
    key: str | None = None
    """Key of the clip; by default the first clip of the split."""
    split: str = "train"
    """Split of the clip: train, val or test."""
    view: int = 0
    """View whose images form the video."""
    guidance: float = 1.0
    """Guidance strength of all stages; the small world's networks are too small for TRELLIS.2's 7.5."""
    steps: int = 12
    """Steps per stage."""
    solver: Solver = Solver.EULER
    """euler, as TRELLIS.2, or multistep, which is more accurate with the same steps."""
    seed: int = 0
    """Seed of the noise; the same seed produces the same meshes."""


@dataclass(frozen=True)
class ColoredMesh:
    """A mesh: vertices float32 (V, 3) in [-0.5, 0.5], colors uint8 (V, 3), faces int32 (F, 3)."""

    vertices: np.ndarray
    colors: np.ndarray
    faces: np.ndarray

    @classmethod
    def of(cls, frame: GeneratedFrame) -> ColoredMesh:
        """Return the surface of a decoded frame, with its voxels' base colors at the vertices."""
        return cls(frame.vertices, frame.ovoxel.base_color, frame.faces)


def generate(config: GenerateConfig) -> list[ColoredMesh]:
    """Sample the three stages in order, and write the meshes and the preview.

    Raises:
        ConfigError: if the clip does not exist, or a run belongs to another stage.
    """
    meshes = sample_meshes(config)
    for frame, mesh in enumerate(meshes):
        write_bytes(config.output / f"frame_{frame:02d}.ply", ply(mesh))
    write_bytes(config.output / "preview.webp", animate([picture(mesh) for mesh in meshes]))
    return meshes


@torch.no_grad()
def sample_meshes(config: GenerateConfig) -> list[ColoredMesh]:
    """Sample one mesh per frame; frame 0 is decoded from the clip's own latents."""
    device = choose_device("auto")
    runs = {stage: read_run(getattr(config, stage.value)) for stage in Stage}
    readers = {stage: _reader(stage, run, config.split) for stage, run in runs.items()}
    keys = [entry.key for entry in readers[Stage.STRUCTURE].entries]
    if config.key is not None and config.key not in keys:
        raise ConfigError(f"no clip {config.key} in the {config.split} split, which has {', '.join(keys[:8])}")
    number = 0 if config.key is None else keys.index(config.key)
    views = readers[Stage.STRUCTURE].entries[number].views
    if not 0 <= config.view < views:
        raise ConfigError(f"view is {config.view}: clip {keys[number]} has views 0 to {views - 1}")
    encoder = load_image_encoder(runs[Stage.STRUCTURE].network, device)
    cond = encoder(readers[Stage.STRUCTURE].images(number, config.view).to(device))

    def run_stage(stage: Stage, given: Latent) -> Tensor:
        rescale = 5.0 if stage is Stage.STRUCTURE else 3.0
        sampler = SamplerConfig(
            steps=config.steps,
            guidance=config.guidance,
            guidance_rescale=0.0,
            rescale_t=rescale,
            solver=config.solver,
        )
        network = load_trained(runs[stage], device)
        first_frame = runs[stage].network.first_frame
        return sample_video(network, given, cond, sampler, config.seed, first_frame).cpu()

    names = ("sparse_structure_decoder", "shape_slat_decoder", "tex_slat_decoder")
    decoders = Pipeline.from_pretrained(config.models, names, torch.float32).networks
    structure_decoder, shape_decoder, texture_decoder = (decoders[name] for name in names)
    if not isinstance(shape_decoder, SparseDecoder) or not isinstance(texture_decoder, SparseDecoder):
        raise ConfigError(f"{config.models}: {names[1]} and {names[2]} are not sparse decoders")

    # Stage 1: tokens of each frame. Those of frame 0 are known.
    grids = run_stage(Stage.STRUCTURE, readers[Stage.STRUCTURE].latent(number))
    logits = torch.cat([structure_decoder(grid) for grid in grids.split(1)])
    tokens = tokens_from_occupancy(logits, readers[Stage.GEOMETRY].token_grid)
    truth = readers[Stage.GEOMETRY].latent(number)
    if truth.coords is None:
        raise ConfigError("the geometry run's latents have no voxels: is it a run of that stage?")
    first = truth.lengths[0]
    lengths = (first, *tokens.lengths[1:])
    coords = torch.cat([truth.coords[:first], tokens.coords[tokens.coords[:, 0] > 0, 1:]])

    # Stages 2 and 3: geometry and material on these tokens.
    shape = run_stage(Stage.GEOMETRY, Latent(_first_then_zeros(truth.clean, first, len(coords)), lengths, coords))
    texture_truth = readers[Stage.MATERIAL].latent(number).clean
    given = Latent(_first_then_zeros(texture_truth, first, len(coords)), lengths, coords, side=shape)
    texture = run_stage(Stage.MATERIAL, given)

    shape = readers[Stage.MATERIAL].statistics[SHAPE].denormalize(shape)
    texture = readers[Stage.MATERIAL].statistics[TEXTURE].denormalize(texture)
    pieces = zip(shape.split(list(lengths)), texture.split(list(lengths)), coords.split(list(lengths)), strict=True)
    grid = readers[Stage.GEOMETRY].token_grid
    return [ColoredMesh.of(decode_frame(shape_decoder, texture_decoder, *piece, grid)) for piece in pieces]


def ply(mesh: ColoredMesh) -> bytes:
    """Encode the mesh as a binary PLY file."""
    header = (
        f"ply\nformat binary_little_endian 1.0\nelement vertex {len(mesh.vertices)}\n"
        "property float x\nproperty float y\nproperty float z\n"
        "property uchar red\nproperty uchar green\nproperty uchar blue\n"
        f"element face {len(mesh.faces)}\nproperty list uchar int vertex_indices\nend_header\n"
    )
    vertices = np.zeros(len(mesh.vertices), [("position", "<f4", 3), ("color", "u1", 3)])
    vertices["position"], vertices["color"] = mesh.vertices, mesh.colors
    faces = np.zeros(len(mesh.faces), [("count", "u1"), ("corners", "<i4", 3)])
    faces["count"], faces["corners"] = 3, mesh.faces
    return header.encode() + vertices.tobytes() + faces.tobytes()


def picture(mesh: ColoredMesh, pixels: int = _PREVIEW_PIXELS) -> np.ndarray:
    """Draw the vertices as seen along +y, nearest on top, on white: uint8 (P, P, 3)."""
    image = np.full((pixels, pixels, 3), 255, np.uint8)
    used = np.unique(mesh.faces)
    order = used[np.argsort(-mesh.vertices[used, 1], kind="stable")]
    places = ((mesh.vertices[order][:, [0, 2]] + 0.5) * (pixels - 1)).round().astype(int).clip(0, pixels - 1)
    image[pixels - 1 - places[:, 1], places[:, 0]] = mesh.colors[order]
    return image


def animate(frames: list[np.ndarray]) -> bytes:
    """Encode images (P, P, 3) as an animated lossless WebP."""
    images = [Image.fromarray(frame) for frame in frames]
    stream = io.BytesIO()
    images[0].save(stream, "WEBP", save_all=True, append_images=images[1:], duration=_PREVIEW_MS, loop=0, lossless=True)
    return stream.getvalue()


def _reader(stage: Stage, run: TrainConfig, split: str) -> ClipReader:
    if run.stage is not stage:
        raise ConfigError(f"{run.folder}: expected a run of the {stage} stage, but it is one of the {run.stage} stage")
    return ClipReader(replace(run.data, split=split), stage)


def _first_then_zeros(clean: Tensor, first: int, tokens: int) -> Tensor:
    """Pad frame 0 of `clean` [L, C] with zeros to [tokens, C]."""
    return torch.cat([clean[:first], clean.new_zeros(tokens - first, clean.shape[1])])

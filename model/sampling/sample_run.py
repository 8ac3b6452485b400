"""What `helix4d sample` does: a video in, a folder of meshes, O-Voxels, a playable clip and a turntable out.

`run.json` is written last: a folder that has it is whole.
"""

from __future__ import annotations

import logging
import platform
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from helix4d import __version__
from helix4d.core import ConfigError, sha256_file, write_bytes, write_json
from helix4d.model.conditioning.video_input import Video, read_video, rembg_matting
from helix4d.model.device import choose_device
from helix4d.model.latents.decode import GeneratedFrame
from helix4d.model.sampling.video_pipeline import Helix4DPipeline, Progress
from helix4d.render import preset
from helix4d.render.pages.turntable import animation, turntable
from helix4d.voxelize import encode_vxz
from helix4d.voxelize.mesh.baked_clip import baked_clip
from helix4d.voxelize.mesh.baking import BakedMesh, bake_mesh
from helix4d.voxelize.mesh.cleaning import fill_holes, remove_small_components
from helix4d.voxelize.mesh.glb import clip_glb, frame_glb

log = logging.getLogger("helix4d.model")


@dataclass(frozen=True, kw_only=True)
class SampleRun:
    """Turn a video into one textured mesh a frame.

    The frozen base makes the first frame, the fine-tuned stages the others. The same call gives the same files."""

    video: Path
    """A video file, an animated WebP or GIF, or a folder of images. Alpha is used where there is any."""
    output: Path
    """Folder for frame_00.glb, frame_00.vxz ..., clip.glb, turntable.webp, input.webp and run.json."""
    model: str
    """Folder or hub repository that helix4d export wrote: the three fine-tuned stages."""
    base: str | None = None
    """Folder or hub repository of TRELLIS.2; by default the one that the model names."""
    frames: int | None = 16
    """Frames taken from the video, evenly; None takes all."""
    fps: float = 8.0
    """Of the clip and the turntable."""
    matting: str | None = "isnet-general-use"
    """Model of rembg for videos without alpha; None refuses them."""
    seed: int = 0
    """Names the noise: the same seed gives the same meshes."""
    guidance: float | None = None
    """Of all stages; by default the base's own."""
    steps: int | None = None
    """Of all stages; by default the base's own."""
    anchor_fit: bool = False
    """Shrink the first frame to the room that the clip needs, for objects that grow."""
    fill_holes: float = 0.0
    """Close holes whose rim is at most this long; the cube's side is 1. 0.03 is TRELLIS.2's habit, 0 closes none."""
    min_component: float = 0.0
    """Remove pieces with less than this share of a frame's faces, such as 0.001."""
    texture_size: int = 1024
    """Pixels per side of the baked textures; 2048 suits meshes of a million faces."""
    turntable: bool = True
    """Render turntable.webp with Blender."""
    turntable_size: int = 384
    """Pixels per side."""
    low_vram: bool = False
    """Keep networks in main memory except while they are used."""
    compile: bool = False
    """torch.compile the blocks of the fine-tuned stages."""
    device: str = "auto"
    """cuda, cpu, or auto: cuda where there is one."""
    offline: bool = False
    """Read the hub's local cache only."""

    def __post_init__(self) -> None:
        if not self.fps > 0:
            raise ConfigError(f"fps is {self.fps}: it must be positive")
        if self.texture_size < 1 or self.turntable_size < 1:
            raise ConfigError(f"sizes are {self.texture_size} and {self.turntable_size} pixels: at least one is needed")


def run_sample(config: SampleRun, progress: Progress) -> dict[str, Any]:
    """Write the folder; returns the contents of `run.json`.

    Raises:
        ConfigError: if the video, the checkpoints or the settings are wrong, or memory does not suffice.
        FormatError: if a file is damaged.
    """
    start = time.perf_counter()
    choose_device(config.device)  # better refused here than after the video is matted
    matting = None if config.matting is None else _late_matting(config.matting)
    video = read_video(config.video, config.frames, matting)
    log.info("%s: frames %s of %d", config.video, list(video.indices), video.source_frames)
    pipeline = Helix4DPipeline.from_pretrained(
        config.model,
        config.base,
        device=config.device,
        low_vram=config.low_vram,
        compile_blocks=config.compile,
        anchor_fit=config.anchor_fit,
        offline=config.offline,
    )
    timings = {"load": time.perf_counter() - start}
    (config.output / "run.json").unlink(missing_ok=True)
    write_bytes(config.output / "input.webp", animation(video.frames, config.fps))

    meshes: list[BakedMesh | None] = []
    figures = []
    baking = 0.0
    samplers = pipeline.samplers.changed(guidance=config.guidance, steps=config.steps)
    for number, frame in enumerate(pipeline(video, config.seed, samplers, progress)):
        began = time.perf_counter()
        meshes.append(_write_frame(frame, number, config))
        baking += time.perf_counter() - began
        figures.append({"voxels": len(frame.ovoxel), "faces": len(frame.faces)})
    timings |= pipeline.timings
    timings["decode"] -= baking  # frames are written while the decoder waits
    timings["bake"] = baking

    if any(mesh is not None for mesh in meshes):
        write_bytes(config.output / "clip.glb", clip_glb(meshes, config.fps))
        if config.turntable:
            began = time.perf_counter()
            look = preset("train", image_size=config.turntable_size, device="cpu" if config.device == "cpu" else "auto")
            clip = baked_clip(meshes, config.fps)
            pictures = turntable(clip, look, lambda done, frames: progress("turntable", done, frames))
            write_bytes(config.output / "turntable.webp", animation(pictures, config.fps))
            timings["turntable"] = time.perf_counter() - began
    facts = {
        "settings": {k: str(v) if isinstance(v, Path) else v for k, v in asdict(config).items()},
        "samplers": asdict(samplers),
        "video": _describe(config.video, video),
        "frames": figures,
        "seconds": {stage: round(seconds, 3) for stage, seconds in timings.items()},
        "peak_memory_bytes": _peak(pipeline.device),
        "versions": {"helix4d": __version__, "torch": torch.__version__, "python": platform.python_version()},
        "device": str(pipeline.device),
    }
    write_json(config.output / "run.json", facts)
    return facts


def _write_frame(frame: GeneratedFrame, number: int, config: SampleRun) -> BakedMesh | None:
    """A frame's O-Voxel and, if it has a surface, its textured mesh."""
    name = f"frame_{number:02d}"
    write_bytes(config.output / f"{name}.vxz", encode_vxz(frame.ovoxel))
    vertices, faces = fill_holes(
        frame.vertices, remove_small_components(frame.faces, config.min_component), config.fill_holes
    )
    if not len(faces):
        log.warning("%s has no surface", name)
        (config.output / f"{name}.glb").unlink(missing_ok=True)
        return None
    mesh = bake_mesh(vertices, faces, frame.ovoxel, config.texture_size)
    write_bytes(config.output / f"{name}.glb", frame_glb(mesh, name))
    return mesh


def _late_matting(name: str) -> Any:
    """The model of that name, loaded when the first frame needs it."""
    found: list[Any] = []

    def matting(image: Image.Image) -> Any:
        if not found:
            found.append(rembg_matting(name))
        return found[0](image)

    return matting


def _describe(path: Path, video: Video) -> dict[str, Any]:
    return {
        "sha256": sha256_file(path) if path.is_file() else None,
        "frames": list(video.indices),
        "source_frames": video.source_frames,
        "size": list(video.frames[0].size),
        "matted": video.matted,
    }


def _peak(device: torch.device) -> int | None:
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None

"""`helix4d sample`: turn a video into a folder of meshes, O-Voxels, an animated clip and a turntable.

`run.json` is written last, so a folder that contains it is complete.
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
from helix4d.model.sampling.sampler import Solver
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
    """Generate one textured mesh per frame of a video.

    The frozen base generates the first frame, the fine-tuned stages the others. Identical settings produce identical
    files."""

    video: Path
    """Video file, animated WebP or GIF, or folder of images. Alpha is used if present."""
    output: Path
    """Output folder for frame_00.glb, frame_00.vxz ..., clip.glb, turntable.webp, input.webp and run.json."""
    model: str
    """Folder or hub repository with the three fine-tuned stages, as written by helix4d export."""
    base: str | None = None
    """Folder or hub repository with TRELLIS.2; by default the one recorded in the model."""
    frames: int | None = 16
    """Number of frames to use; None uses all."""
    start: float = 0.0
    """Time of the first frame, in seconds since the start of the video."""
    fps: float | None = None
    """Frames per second to take from the video from start on, and to play the results at. By default the frames are
    spread evenly between start and the end of the video, and the results play at 8 frames per second."""
    matting: str | None = "isnet-general-use"
    """rembg model that removes the background of videos without alpha; with None such videos are rejected."""
    seed: int = 0
    """Seed of the noise; the same seed produces the same meshes."""
    guidance: float | None = None
    """Guidance strength of all stages; by default the base's settings."""
    steps: int | None = None
    """Sampling steps of all stages; by default the base's settings."""
    solver: Solver = Solver.EULER
    """euler, as TRELLIS.2, or multistep, which is more accurate with the same steps."""
    anchor_fit: bool = False
    """Shrink the first frame to make room for objects that grow."""
    fill_holes: float = 0.0
    """Close holes whose boundary is at most this long (the cube's side is 1). TRELLIS.2 uses 0.03; 0 closes none."""
    min_component: float = 0.0
    """Remove components with less than this fraction of a frame's faces, such as 0.001."""
    texture_size: int = 1024
    """Pixels per side of the baked textures; use 2048 for meshes with about a million faces."""
    turntable: bool = True
    """Render turntable.webp with Blender."""
    turntable_size: int = 384
    """Pixels per side of the turntable."""
    low_vram: bool = False
    """Keep networks in main memory except while they are in use."""
    compile: bool = False
    """Compile the blocks of the fine-tuned stages with torch.compile."""
    cuda_graphs: bool = False
    """Launch each pass of a network at once, on a GPU: saves time where a frame has few tokens."""
    device: str = "auto"
    """cuda, cpu, or auto (cuda if available)."""
    offline: bool = False
    """Read only the local hub cache."""

    def __post_init__(self) -> None:
        if self.fps is not None and not self.fps > 0:
            raise ConfigError(f"fps is {self.fps}: must be positive")
        if self.texture_size < 1 or self.turntable_size < 1:
            raise ConfigError(
                f"texture_size is {self.texture_size} and turntable_size {self.turntable_size}: both must be at least 1"
            )

    @property
    def playback_fps(self) -> float:
        """Frames per second of the clip and the turntable."""
        return 8.0 if self.fps is None else self.fps


def run_sample(config: SampleRun, progress: Progress) -> dict[str, Any]:
    """Write the output folder and return the contents of `run.json`.

    Raises:
        ConfigError: if the video, the checkpoints or the settings are invalid, or the device runs out of memory.
        FormatError: if a file is damaged.
    """
    start = time.perf_counter()
    choose_device(config.device)  # fail before the video is matted
    matting = None if config.matting is None else _late_matting(config.matting)
    video = read_video(config.video, config.frames, matting, start_s=config.start, fps=config.fps)
    log.info("%s: using frames %s of %d", config.video, list(video.indices), video.source_frames)
    pipeline = Helix4DPipeline.from_pretrained(
        config.model,
        config.base,
        device=config.device,
        low_vram=config.low_vram,
        compile_blocks=config.compile,
        cuda_graphs=config.cuda_graphs,
        anchor_fit=config.anchor_fit,
        offline=config.offline,
    )
    timings = {"load": time.perf_counter() - start}
    (config.output / "run.json").unlink(missing_ok=True)
    write_bytes(config.output / "input.webp", animation(video.frames, config.playback_fps))

    meshes: list[BakedMesh | None] = []
    figures = []
    baking = 0.0
    samplers = pipeline.samplers.changed(guidance=config.guidance, steps=config.steps, solver=config.solver)
    for number, frame in enumerate(pipeline(video, config.seed, samplers, progress)):
        began = time.perf_counter()
        meshes.append(_write_frame(frame, number, config))
        baking += time.perf_counter() - began
        figures.append({"voxels": len(frame.ovoxel), "faces": len(frame.faces)})
    timings |= pipeline.timings
    timings["decode"] -= baking  # the decoder is suspended while frames are written
    timings["bake"] = baking

    if any(mesh is not None for mesh in meshes):
        write_bytes(config.output / "clip.glb", clip_glb(meshes, config.playback_fps))
        if config.turntable:
            began = time.perf_counter()
            look = preset("train", image_size=config.turntable_size, device="cpu" if config.device == "cpu" else "auto")
            clip = baked_clip(meshes, config.playback_fps)
            pictures = turntable(clip, look, lambda done, frames: progress("turntable", done, frames))
            write_bytes(config.output / "turntable.webp", animation(pictures, config.playback_fps))
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
    """Write a frame's O-Voxel and, if it has a surface, its textured mesh."""
    name = f"frame_{number:02d}"
    write_bytes(config.output / f"{name}.vxz", encode_vxz(frame.ovoxel))
    vertices, faces = fill_holes(
        frame.vertices, remove_small_components(frame.faces, config.min_component), config.fill_holes
    )
    if not len(faces):
        log.warning("%s: no surface, so no mesh is written", name)
        (config.output / f"{name}.glb").unlink(missing_ok=True)
        return None
    mesh = bake_mesh(vertices, faces, frame.ovoxel, config.texture_size)
    write_bytes(config.output / f"{name}.glb", frame_glb(mesh, name))
    return mesh


def _late_matting(name: str) -> Any:
    """Return a matting function that loads its model on first use."""
    loaded: list[Any] = []

    def matting(image: Image.Image) -> Any:
        if not loaded:
            loaded.append(rembg_matting(name))
        return loaded[0](image)

    return matting


def _describe(path: Path, video: Video) -> dict[str, Any]:
    return {
        "sha256": sha256_file(path) if path.is_file() else None,
        "frames": list(video.indices),
        "times_s": [round(time, 6) for time in video.times_s],
        "source_frames": video.source_frames,
        "size": list(video.frames[0].size),
        "matted": video.matted,
    }


def _peak(device: torch.device) -> int | None:
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None

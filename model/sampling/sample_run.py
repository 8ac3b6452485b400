"""`helix4d sample`: turn a video into a folder of meshes, O-Voxels, an animated clip and a turntable.

`run.json` is written last, so a folder that contains it is complete.
"""

from __future__ import annotations

import logging
import platform
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from helix4d import __version__
from helix4d.core import ConfigError, Helix4DError, sha256_file, write_bytes, write_json
from helix4d.model.conditioning.video_input import Video, read_video, rembg_matting
from helix4d.model.device import choose_device
from helix4d.model.sampling.anchor import AnchorKind
from helix4d.model.sampling.frame_pool import FramePool
from helix4d.model.sampling.sampler import Solver
from helix4d.model.sampling.stage_run import Progress
from helix4d.model.sampling.video_pipeline import AnchorOptions, Helix4DPipeline, VideoLatents
from helix4d.render import preset
from helix4d.render.pages.turntable import animation, turntable
from helix4d.voxelize import encode_vxz
from helix4d.voxelize.mesh.baked_clip import baked_clip
from helix4d.voxelize.mesh.baking import BakedMesh
from helix4d.voxelize.mesh.export import CLIP_FILES, ExportSettings, clip_files, require_packages, textured_mesh

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
    anchor: AnchorKind = AnchorKind.BASE
    """How the base generates the first frame: at 512, or by TRELLIS.2's cascade, which is finer and takes longer."""
    anchor_mesh: Path | None = None
    """Textured mesh to use as the first frame instead, such as a GLB; it is fitted into the unit cube."""
    anchor_fit: bool = False
    """Shrink the first frame to make room for objects that grow."""
    export: ExportSettings = field(default_factory=ExportSettings)
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
        if self.turntable_size < 1:
            raise ConfigError(f"turntable_size is {self.turntable_size}: must be at least 1")
        self.anchor_options()  # refuse contradictions before the video is read

    @property
    def playback_fps(self) -> float:
        """Frames per second of the clip and the turntable."""
        return 8.0 if self.fps is None else self.fps

    def anchor_options(self) -> AnchorOptions:
        """Where the first frame comes from."""
        return AnchorOptions(self.anchor, self.anchor_mesh, self.anchor_fit)


def run_sample(config: SampleRun, progress: Progress) -> dict[str, Any]:
    """Write the output folder and return the contents of `run.json`.

    A frame that cannot be decoded or meshed is left out; its entry in `run.json` then has an `error`. Other processes
    mesh the frames, and import the calling script: it must call this below `if __name__ == "__main__"`.

    Raises:
        ConfigError: if the video, the checkpoints or the settings are invalid, the device runs out of memory, or no
            frame succeeds.
        FormatError: if a file is damaged.
        SetupError: if a package is missing.
    """
    start = time.perf_counter()
    choose_device(config.device)  # fail before the video is matted
    require_packages(config.export)
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
        anchor=config.anchor_options(),
        offline=config.offline,
    )
    load_s = time.perf_counter() - start
    (config.output / "run.json").unlink(missing_ok=True)
    write_bytes(config.output / "input.webp", animation(video.frames, config.playback_fps))

    samplers = pipeline.samplers.changed(guidance=config.guidance, steps=config.steps, solver=config.solver)
    latents = pipeline.latents(video, config.seed, samplers, progress)
    began = time.perf_counter()
    meshes, figures = _mesh_frames(pipeline, latents, config, progress)
    # Frames are meshed while others are decoded: only what the decoder did not take is waiting for meshes.
    timings = {"load": load_s, **pipeline.timings}
    timings["mesh"] = time.perf_counter() - began - timings["decode"]
    began = time.perf_counter()
    written = _write_clip(meshes, config, progress)
    timings["write"] = time.perf_counter() - began
    if config.turntable and written:
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
        "files": written,
        "playback_fps": config.playback_fps,
        "seconds": {stage: round(seconds, 3) for stage, seconds in timings.items()},
        "peak_memory_bytes": _peak(pipeline.placement.device),
        "versions": {"helix4d": __version__, "torch": torch.__version__, "python": platform.python_version()},
        "device": str(pipeline.placement.device),
    }
    write_json(config.output / "run.json", facts)
    return facts


def _mesh_frames(
    pipeline: Helix4DPipeline, latents: VideoLatents, config: SampleRun, progress: Progress
) -> tuple[list[BakedMesh | None], list[dict[str, Any]]]:
    """Decode and mesh all frames, and write their O-Voxels: the meshes, and the figures of `run.json`."""
    count = len(latents)
    meshes: list[BakedMesh | None] = [None] * count
    figures: list[dict[str, Any]] = [{"voxels": 0, "faces": 0} for _ in range(count)]
    errors: dict[int, BaseException] = {}

    def decoded() -> Iterator[tuple[int, tuple[Any, ...]]]:
        for number, frame in enumerate(pipeline.decode(latents, progress)):
            path = config.output / f"frame_{number:02d}.vxz"
            if isinstance(frame, Helix4DError):
                errors[number] = frame
                path.unlink(missing_ok=True)
                continue
            figures[number] = {"voxels": len(frame.ovoxel), "faces": 0, "decoded_faces": len(frame.faces)}
            write_bytes(path, encode_vxz(frame.ovoxel))
            yield number, (frame.vertices, frame.faces, frame.ovoxel, config.export)

    for done, (number, result) in enumerate(FramePool(textured_mesh).results(decoded()), 1):
        if isinstance(result, BaseException):
            errors[number] = result
        elif result is None:
            log.warning("frame %d: no surface, so no mesh is written", number)
        else:
            meshes[number] = result
            figures[number]["faces"] = len(result.faces)
        progress("mesh", done, count)
    for number, error in sorted(errors.items()):
        log.error("frame %d failed: %s", number, error)
        figures[number]["error"] = str(error)
    if len(errors) == count:
        raise ConfigError(f"no frame could be decoded and meshed. Frame 0: {errors[0]}") from errors[0]
    return meshes, figures


def _write_clip(meshes: Sequence[BakedMesh | None], config: SampleRun, progress: Progress) -> list[str]:
    """Write the files of the clip, remove those of an earlier run, and return the names of those written."""
    names = [f"frame_{number:02d}.glb" for number in range(len(meshes))]
    for name in (*names, *CLIP_FILES, "turntable.webp"):
        (config.output / name).unlink(missing_ok=True)
    written = []
    for name, data in clip_files(meshes, config.playback_fps, config.export):
        write_bytes(config.output / name, data)
        written.append(name)
        progress("write", len(written), max(len(written), sum(mesh is not None for mesh in meshes) + 1))
    return written


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

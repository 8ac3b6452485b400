"""`helix4d preview`: an asset's clip, played while the camera goes around it."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from helix4d.core import ConfigError, Helix4DError, setup_logging
from helix4d.render import EngineName, PresetName


@dataclass(frozen=True)
class Preview:
    """Render an asset's animation as an animated WebP, normalized as curation does it."""

    asset: Annotated[Path, tyro.conf.Positional]
    """A .glb, or any other file that `helix4d curate` takes."""
    output: Path | None = None
    """The WebP; by default the asset's name in the current folder."""
    frames: int = 16
    """Frames sampled evenly over the animation."""
    clip: str = "most-moving"
    """Which animation of the file: most-moving, longest, first, or a name."""
    image_size: int = 384
    """Pixels per side."""
    fps: float = 8.0
    """Frames per second."""
    preset: PresetName = "draft"
    """How long Cycles works on an image: draft, train or reference (docs/rendering.md)."""
    engine: EngineName = "cycles"
    """cycles; raster: seconds instead of minutes; blenderproc: cycles through BlenderProc (docs/rendering.md)."""
    hdri: Path | None = None
    """Folder with equirectangular .hdr and .exr files, one of which lights the clip instead of white all around."""
    seed: int = 0
    """Draws that file and its turn, with the asset's name."""


def run(arguments: list[str]) -> int:
    """Run the command; returns the exit status."""
    args = tyro.cli(Preview, prog="helix4d preview", args=arguments)
    setup_logging()
    try:
        output = _preview(args)
    except Helix4DError as error:
        logging.getLogger("helix4d.render").error("%s", error)
        return 2
    print(output)
    return 0


def _preview(args: Preview) -> Path:
    from helix4d.assets import bake, normalize
    from helix4d.core import write_bytes
    from helix4d.render import orbit_camera, preset
    from helix4d.render.pages.turntable import animation, turntable
    from helix4d.render.scene.environment import find_maps, sample_map_lights

    if args.frames < 1 or not args.fps > 0:
        raise ConfigError(f"--frames {args.frames}, --fps {args.fps:g}: at least 1 frame and more than 0 are needed")
    if args.clip == "all":
        raise ConfigError("--clip all: a preview shows one clip; name it, or leave it to most-moving")
    if not args.asset.exists():
        raise ConfigError(f"{args.asset}: no such file")
    settings = preset(args.preset, image_size=args.image_size)
    clip, _ = normalize(bake(args.asset, frames=args.frames, clip=args.clip))
    output = args.output or Path(f"{args.asset.stem}.webp")
    light: dict[str, Any] = {}
    if args.hdri is not None:
        front = orbit_camera(-90.0, 0.0, args.image_size)
        (lights,), maps = sample_map_lights(args.seed, args.asset.stem, [front], args.hdri, find_maps(args.hdri))
        light = {"lights": lights, "maps": maps}
    write_bytes(output, animation(turntable(clip, settings, engine=args.engine, **light), args.fps))
    return output

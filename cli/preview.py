"""`helix4d preview`: renders an asset's animation as a turntable."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from helix4d.core import ConfigError
from helix4d.render import EngineName, PresetName


@dataclass(frozen=True)
class Preview:
    """Render an asset's animation as an animated WebP, with the camera circling the object.

    The object is normalized exactly as `helix4d curate` normalizes it. Example:

        helix4d preview samples/butterfly.glb
    """

    asset: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="ASSET")]
    """A .glb, or any other file that `helix4d curate` reads."""
    output: Annotated[
        Path | None, tyro.conf.arg(metavar="FILE", help_behavior_hint="(default: ASSET's name with .webp, here)")
    ] = None
    """WebP file to write."""
    frames: int = 16
    """Frames sampled evenly over the animation."""
    clip: str = "most-moving"
    """Animation to show: most-moving, longest, first, or its name."""
    image_size: int = 384
    """Pixels per side."""
    fps: float = 8.0
    """Playback rate in frames per second."""
    preset: PresetName = "draft"
    """Quality of the Cycles renderer: draft is the fastest, reference the cleanest (docs/rendering.md)."""
    engine: EngineName = "cycles"
    """Renderer: cycles (path tracing), raster (seconds instead of minutes), or blenderproc (docs/rendering.md)."""
    hdri: Annotated[Path | None, tyro.conf.arg(metavar="DIR", help_behavior_hint="(default: uniform white)")] = None
    """Light the object with one of the equirectangular .hdr or .exr maps in this folder."""
    seed: int = 0
    """Seed that, with the asset's name, selects the environment map and its rotation."""


def run(arguments: list[str]) -> int:
    """Run the command; returns the exit status."""
    args = tyro.cli(Preview, prog="helix4d preview", args=arguments)
    print(_preview(args))
    return 0


def _preview(args: Preview) -> Path:
    from helix4d.assets import bake, normalize
    from helix4d.core import write_bytes
    from helix4d.render import orbit_camera, preset
    from helix4d.render.pages.turntable import animation, turntable
    from helix4d.render.scene.environment import find_maps, sample_map_lights

    if args.frames < 1 or not args.fps > 0:
        raise ConfigError(f"--frames {args.frames}, --fps {args.fps:g}: frames must be at least 1, fps greater than 0")
    if args.clip == "all":
        raise ConfigError("--clip all: a preview shows one clip: pass its name, or most-moving, longest or first")
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

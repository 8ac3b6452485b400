"""`helix4d export`: writes a run's network as a checkpoint, or the samples of a dataset in another tool's layout."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from helix4d.core import ConfigError
from helix4d.curation.layouts.actionbench import export_actionbench
from helix4d.curation.layouts.glb import export_glb
from helix4d.curation.layouts.meshes import export_meshes
from helix4d.curation.layouts.multiview import export_multiview
from helix4d.curation.layouts.nerf import export_nerf
from helix4d.curation.layouts.samples import Exported
from helix4d.curation.layouts.trellis2 import export_trellis2
from helix4d.curation.places.folder import place_of
from helix4d.curation.report.words import counted


@dataclass(frozen=True)
class Export:
    """Export a trained stage as a checkpoint in TRELLIS.2's layout, for `helix4d sample`.

    The network's 4D settings go into its configuration file. Export all three stages into the same folder:

        helix4d export --run runs/structure --output model

    With `--layout`, the command exports a dataset instead: `helix4d export --layout actionbench --help`.
    """

    run: Annotated[str, tyro.conf.arg(metavar="DIR")]
    """Folder or URL of the training run, such as runs/structure."""
    output: Annotated[Path, tyro.conf.arg(metavar="DIR")]
    """Folder for pipeline.json and ckpts/. Other stages in it are kept."""
    raw: bool = False
    """Export the trained weights instead of their exponential moving average."""
    step: Annotated[int | None, tyro.conf.arg(metavar="N", help_behavior_hint="(default: the last one)")] = None
    """Training step of the checkpoint to export."""


@dataclass(frozen=True)
class ExportData:
    """Write the samples of a dataset in the layout of another tool, using only its shards.

    actionbench: data/KEY/surfaces.npy, the tracked points with normals, and the frames of a video as PNG, which
    ActionBench's evaluation and `helix4d evaluate --bench actionbench` read. Requires shards that were curated with
    --tracks and views.
    glb: KEY/clip.glb, the animation as textured meshes, and KEY/frame_FF.glb per frame; `helix4d export-sample` writes
    a single sample and has more options.
    meshes: KEY.npz, the surface of every frame and the tracked points as arrays.
    multiview: KEY/view_VV/FF.png, a folder of images per view, with cameras.json.
    nerf: KEY/frame_FF/transforms.json with the images of all views, for instant-ngp and nerfstudio.
    trellis2: TRELLIS.2's training folders, an object per frame, with latents if --latents is given.

    Resumable: rerun the command and it continues where it stopped.

        helix4d curate --source assets --output shards --tracks 8192 --fixed-views front
        helix4d export shards --layout actionbench --output bench
    """

    source: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="SHARDS")]
    """Folder or URL written by `helix4d curate`."""
    layout: Literal["actionbench", "glb", "meshes", "multiview", "nerf", "trellis2"]
    """Layout to write."""
    output: Annotated[Path, tyro.conf.arg(metavar="DIR")]
    """Folder for the files."""
    split: Literal["train", "val", "test"] = "test"
    """Split to export."""
    latents: Annotated[str | None, tyro.conf.arg(metavar="LATENTS", help_behavior_hint="(optional)")] = None
    """Folder or URL written by `helix4d encode` from these shards; for --layout trellis2."""


def run(arguments: list[str]) -> int:
    """Run the command; returns the exit status."""
    if any(argument.partition("=")[0] == "--layout" for argument in arguments):
        return _export_data(tyro.cli(ExportData, prog="helix4d export", args=arguments))
    from helix4d.train.export import export_run

    args = tyro.cli(Export, prog="helix4d export", args=arguments)
    name = export_run(place_of(args.run), args.output, ema=not args.raw, step=args.step)
    print(f"{args.output}: ckpts/{name}")
    return 0


def _export_data(args: ExportData) -> int:
    written = 0
    for sample in _exported(args):
        if sample.left_out:
            print(f"{sample.key} left out: {sample.left_out}")
        else:
            written += 1
            print(f"{sample.key} written")
    print(f"{args.output}: {counted(written, 'sample')} in the layout {args.layout}")
    return 0


def _exported(args: ExportData) -> Iterator[Exported]:
    source = place_of(args.source)
    if args.layout == "trellis2":
        latents = None if args.latents is None else place_of(args.latents)
        return export_trellis2(source, args.output, args.split, latents)
    if args.latents is not None:
        raise ConfigError(f"--latents: the layout {args.layout} has no latents: remove it, or use --layout trellis2")
    layouts = {
        "actionbench": export_actionbench,
        "glb": export_glb,
        "meshes": export_meshes,
        "multiview": export_multiview,
        "nerf": export_nerf,
    }
    return layouts[args.layout](source, args.output, args.split)

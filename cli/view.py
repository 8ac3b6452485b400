"""`helix4d view`: writes a page that shows a generated clip or a shard's sample in 3D, and opens it."""

from __future__ import annotations

import webbrowser
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from helix4d.core import ConfigError
from helix4d.curation.report.sample_viewer import MOST_VOXELS, write_sample_viewer


@dataclass(frozen=True)
class View:
    """Write a page that shows a sample in 3D, and open it in the browser.

    For a sample of a shard, the page shows its O-Voxels and their meshes, from any side or through the stored cameras,
    beside the rendered images. For a folder written by `helix4d sample`, it shows the generated meshes. The page is a
    single file that works offline. Examples:

        helix4d view shards/train/helix4d-000000.tar 3d0c3b59afe1d35a_0
        helix4d view generated
    """

    path: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="PATH")]
    """Path or URL of a shard's .tar file, or a folder written by `helix4d sample`."""
    key: Annotated[
        str | None, tyro.conf.Positional, tyro.conf.arg(metavar="[KEY]", help_behavior_hint="(required for a shard)")
    ] = None
    """Key of the sample in the shard."""
    page: Annotated[
        Path | None,
        tyro.conf.arg(
            metavar="FILE",
            help_behavior_hint="(default: KEY.html beside the shard, or in the current folder for a URL)",
        ),
    ] = None
    """HTML file for a shard's sample. For a folder it is always view.html in that folder."""
    voxels: int = MOST_VOXELS
    """Maximum number of voxels over all frames of a shard's sample; a larger one is shown at a lower resolution."""
    open: bool = True
    """Open the page in the browser."""


def run(arguments: list[str]) -> int:
    """Run the command; returns the exit status."""
    args = tyro.cli(View, prog="helix4d view", args=arguments)
    path = _write(args)
    print(path)
    if args.open:
        webbrowser.open(path.resolve().as_uri())
    return 0


def _write(args: View) -> Path:
    if args.path.endswith(".tar"):
        return write_sample_viewer(args.path, args.key or "", args.page, args.voxels)
    if args.key is not None or args.page is not None:
        raise ConfigError(f"{args.path}: KEY and --page apply only to a shard's .tar file")
    from helix4d.model.sampling.viewer import write_viewer  # imports torch, which a shard's sample does not need

    return write_viewer(Path(args.path))

"""`helix4d view`: a sample, generated or of a shard, as a page that plays, turns and takes apart what was made."""

from __future__ import annotations

import logging
import webbrowser
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from helix4d.core import ConfigError, Helix4DError, setup_logging
from helix4d.curation.report.sample_viewer import MOST_VOXELS, write_sample_viewer


@dataclass(frozen=True)
class View:
    """Write a page that shows a sample in 3D, and open it: the folder that helix4d sample wrote, or one of a shard.

    Of a folder it shows the meshes, in view.html there. Of a shard and a key it shows the O-Voxels and their meshes,
    from any side or from the stored cameras, beside the rendered images.

    The page holds everything: it works offline and can be sent to others."""

    path: Annotated[str, tyro.conf.Positional]
    """What helix4d sample wrote, or a shard's .tar, a path or a URL; of a far one only what is shown is moved."""
    key: Annotated[str | None, tyro.conf.Positional] = None
    """A sample's key in the shard."""
    page: Path | None = None
    """Where the page of a shard's sample goes. Default: beside the shard (here for a URL), named after the key."""
    voxels: int = MOST_VOXELS
    """Voxels shown of all frames of a shard's sample, at most; where there are more, blocks of them become one."""
    open: bool = True
    """Open the page in the browser."""


def run(arguments: list[str]) -> int:
    """Run the command; returns the exit status."""
    setup_logging()
    args = tyro.cli(View, prog="helix4d view", args=arguments)
    try:
        path = _write(args)
    except Helix4DError as error:
        logging.getLogger("helix4d.model").error("%s", error)
        return 2
    print(path)
    if args.open:
        webbrowser.open(path.resolve().as_uri())
    return 0


def _write(args: View) -> Path:
    if args.path.endswith(".tar"):
        return write_sample_viewer(args.path, args.key or "", args.page, args.voxels)
    if args.key is not None or args.page is not None:
        raise ConfigError(f"{args.path}: a key and --page go with a shard's .tar")
    from helix4d.model.sampling.viewer import write_viewer  # imports torch, which the data half does without

    return write_viewer(Path(args.path))

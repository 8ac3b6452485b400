"""`helix4d view`: a sample's folder as a page that plays, turns and takes apart what was made."""

from __future__ import annotations

import logging
import webbrowser
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from core import Helix4DError, setup_logging


@dataclass(frozen=True)
class View:
    """Write view.html into a folder of helix4d sample and open it.

    The page holds everything: it works offline and can be sent to others."""

    folder: Annotated[Path, tyro.conf.Positional]
    """What helix4d sample wrote."""
    open: bool = True
    """Open the page in the browser."""


def run(arguments: list[str]) -> int:
    """Run the command; returns the exit status."""
    from model.viewer import write_viewer

    setup_logging()
    args = tyro.cli(View, prog="helix4d view", args=arguments)
    try:
        path = write_viewer(args.folder)
    except Helix4DError as error:
        logging.getLogger("model").error("%s", error)
        return 2
    print(path)
    if args.open:
        webbrowser.open(path.resolve().as_uri())
    return 0

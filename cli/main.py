"""`helix4d COMMAND ...`: finds the command's file and hands it the arguments."""

from __future__ import annotations

import importlib
import io
import sys

from core.version import VERSION

COMMANDS = {
    "bench": "stills to the videos of Helix4DBench: bench build, bench verify",
    "curate": "assets in, WebDataset shards out",
    "encode": "shards in, latent shards out",
    "evaluate": "predictions in, a table of metrics out",
    "export": "a run's network in TRELLIS.2's layout",
    "filter": "what quality thresholds would keep",
    "generate": "meshes of a clip from three trained stages",
    "inspect": "what a shard or a sample holds, with a contact sheet",
    "preview": "an asset's animation as a turntable",
    "report": "an output as a page that plays, and its data card",
    "sample": "a video in, a textured mesh a frame out",
    "samples": "write the sample assets",
    "study": "experiments of the paper: study rope, study ablations",
    "train": "latent shards in, a fine-tuned stage out",
    "vae": "train the small world's VAEs",
    "verify": "check every file of an output, and say what rewrites the broken ones",
    "view": "a sample as a page that plays it",
}


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # names of files may be no text at all
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_help())
        return 0
    if arguments[0] == "--version":
        print(f"helix4d {VERSION}")
        return 0
    command, *rest = arguments
    if command not in COMMANDS:
        print(f"helix4d: no command {command!r}\n\n{_help()}", file=sys.stderr)
        return 2
    # Only the chosen command's imports are paid for.
    status: int = importlib.import_module(f"cli.{command}").run(rest)
    return status


def _help() -> str:
    lines = [f"  {name:10} {sentence}" for name, sentence in COMMANDS.items()]
    return "\n".join(["usage: helix4d COMMAND [--help] ...", "", *lines])

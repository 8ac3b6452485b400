"""`helix4d COMMAND ...`: finds the command's file and hands it the arguments.

What goes wrong outside our own code and is the user's to mend (a package that is not installed, a folder that cannot
be written) becomes one sentence here; every other unexpected exception keeps its traceback.
"""

from __future__ import annotations

import difflib
import importlib
import io
import os
import sys

from helix4d import __version__

GROUPS = {
    "Data: animated 3D assets to shards": {
        "samples": "write thirteen small animated GLBs to try everything with",
        "curate": "assets in, WebDataset shards out",
        "filter": "what quality thresholds would keep",
        "inspect": "what a shard or a sample holds, with a contact sheet",
        "view": "a sample in 3D, as a page for the browser",
        "preview": "an asset's animation as a turntable",
        "report": "an output as a page that plays, and its data card",
        "verify": "check every file of an output, and say what rewrites the broken ones",
        "discard": "take what is broken out of an output at a URL",
    },
    "Model: shards to a video-to-4D generator (needs the extra model)": {
        "encode": "shards in, latent shards out",
        "train": "latent shards in, a fine-tuned stage out",
        "export": "a run's network in TRELLIS.2's layout",
        "sample": "a video in, a textured mesh a frame out",
        "generate": "meshes of a training clip from three trained stages",
        "vae": "train the small world's VAEs, for a first look without a GPU",
        "study": "experiments of the paper: study rope, study ablations",
    },
    "Benchmark (needs the extras bench, or model and evaluation)": {
        "bench": "stills to the videos of Helix4DBench: bench build, bench verify",
        "evaluate": "predictions in, a table of metrics out",
    },
}
COMMANDS = {name: sentence for group in GROUPS.values() for name, sentence in group.items()}
# `view` needs torch's package for generated meshes alone.
EXTRAS = dict.fromkeys(("encode", "train", "export", "sample", "generate", "vae", "study", "view"), "model")
EXTRAS |= {"bench": "bench", "evaluate": "model,evaluation"}


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # names of files may be no text at all
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_help())
        return 0
    if arguments[0] == "--version":
        print(f"helix4d {__version__}")
        return 0
    command, *rest = arguments
    if command not in COMMANDS:
        near = difflib.get_close_matches(command, COMMANDS, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        print(f"helix4d: no command {command!r}; {hint}`helix4d --help` lists them", file=sys.stderr)
        return 2
    try:
        # Only the chosen command's imports are paid for.
        status: int = importlib.import_module(f"helix4d.cli.{command}").run(rest)
    except ModuleNotFoundError as error:
        if command not in EXTRAS or error.name is None or error.name.startswith("helix4d"):
            raise
        extra = EXTRAS[command]
        print(
            f"helix4d {command}: the package {error.name.partition('.')[0]!r} is not installed; this command needs "
            f"more than the data half. In the checkout: {sys.executable} -m pip install -c constraints.txt "
            f"-e '.[{extra}]'",
            file=sys.stderr,
        )
        return 2
    except OSError as error:
        if error.filename is None or error.strerror is None:  # not about a file: nothing that an option names
            raise
        print(f"helix4d {command}: {os.fspath(error.filename)}: {error.strerror}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"helix4d {command}: interrupted", file=sys.stderr)
        return 130
    return status


def _help() -> str:
    lines = ["usage: helix4d COMMAND [--help] ...", ""]
    for title, commands in GROUPS.items():
        lines += [title, *(f"  {name:10} {sentence}" for name, sentence in commands.items()), ""]
    lines += ["A first run, a few minutes:", "  helix4d samples --output samples"]
    lines += ["  helix4d curate --source samples --output shards --resolution 128 --views 2 --image-size 128 --limit 4"]
    return "\n".join([*lines, "", "`helix4d COMMAND --help` explains a command, README.md and docs/ the rest."])

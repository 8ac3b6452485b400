"""`helix4d COMMAND ...`: imports the command's module and passes it the arguments.

Errors that the user can fix (one of ours, a missing package, a folder without write permission) are printed as one line
here; every other exception keeps its traceback.
"""

from __future__ import annotations

import difflib
import importlib
import io
import os
import sys

from helix4d import __version__
from helix4d.core import Helix4DError, setup_logging
from helix4d.core.extras import EXTRA_OF, missing_package
from helix4d.core.redaction import redact
from helix4d.core.terminal import printable

GROUPS = {
    "Data: turn animated 3D assets into shards (curate, filter and preview need the extra 'curate')": {
        "samples": "write thirteen small animated GLB files to experiment with",
        "curate": "turn animated 3D assets into WebDataset shards",
        "filter": "show which clips a set of quality thresholds would keep",
        "inspect": "list the contents of a shard or sample, with a contact sheet",
        "view": "show a sample in 3D in the browser",
        "preview": "render an asset's animation as a turntable",
        "report": "write the report page and data card of a dataset",
        "verify": "check every file of a dataset and print repair commands",
        "export-sample": "write a sample as an animated, textured GLB",
        "select": "select samples by the index, for encode and train",
        "publish": "upload a dataset to the model hub",
        "discard": "remove broken files from a dataset at a URL",
    },
    "Model: train a video-to-4D generator (needs the extra 'model')": {
        "encode": "encode shards to latent shards",
        "train": "fine-tune one stage on latent shards",
        "export": "export a trained stage as a TRELLIS.2 checkpoint, or shards in another layout",
        "sample": "turn a video into one textured mesh per frame",
        "generate": "generate the meshes of a training clip with three trained stages",
        "vae": "train tiny VAEs, to try the whole model without a GPU",
        "study": "repeat experiments of the paper: study rope, study ablations",
    },
    "Benchmark (needs the extra 'bench', or 'model' and 'evaluation')": {
        "bench": "build the videos of Helix4DBench: bench build, bench verify",
        "evaluate": "score predictions and write a table of metrics",
    },
}
COMMANDS = {name: sentence for group in GROUPS.values() for name, sentence in group.items()}
# `view` needs torch only for generated meshes.
EXTRAS = dict.fromkeys(("encode", "train", "export", "sample", "generate", "vae", "study", "view"), "model")
EXTRAS |= dict.fromkeys(("curate", "filter", "preview"), "curate")
EXTRAS |= {"bench": "bench", "evaluate": "model,evaluation"}


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # file names need not be valid text
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_help())
        return 0
    if arguments[0] == "--version":
        print(f"helix4d {__version__}")
        return 0
    command, *rest = arguments
    if command not in COMMANDS:
        near = difflib.get_close_matches(command, COMMANDS, n=1)
        hint = f"Did you mean {near[0]!r}? " if near else ""
        print(f"helix4d: unknown command {command!r}. {hint}`helix4d --help` lists all commands.", file=sys.stderr)
        return 2
    setup_logging()
    try:
        # Import only the chosen command, which keeps the others' dependencies unloaded.
        status: int = importlib.import_module(f"helix4d.cli.{command.replace('-', '_')}").run(rest)
    except ModuleNotFoundError as error:
        module = "" if error.name is None else error.name.partition(".")[0]
        if module not in EXTRA_OF:  # a bug in helix4d, not a missing package
            raise
        extras = EXTRAS.get(command, "")
        named = extras if EXTRA_OF[module] in ("", *extras.split(",")) else None
        print(missing_package(f"helix4d {command}", module, extras=named), file=sys.stderr)
        return 2
    except Helix4DError as error:
        print(printable(redact(f"helix4d {command}: {error}")), file=sys.stderr)
        return 2
    except OSError as error:
        if error.filename is None or error.strerror is None:  # not about a file, so not the user's to fix
            raise
        print(printable(f"helix4d {command}: {os.fspath(error.filename)}: {error.strerror}"), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"helix4d {command}: interrupted", file=sys.stderr)
        return 130
    return status


def _help() -> str:
    lines = ["usage: helix4d COMMAND [--help] ...", ""]
    for title, commands in GROUPS.items():
        lines += [title, *(f"  {name:10} {sentence}" for name, sentence in commands.items()), ""]
    lines += ["A first run (a few minutes):", "  helix4d samples --output samples"]
    lines += ["  helix4d curate --source samples --output shards --resolution 128 --views 2 --image-size 128 --limit 4"]
    lines += ["", "Run `helix4d COMMAND --help` for the options of a command. See README.md and docs/ for the guides."]
    return "\n".join(lines)

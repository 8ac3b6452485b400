"""`helix4d study`: `rope`, how many low rotary bands a checkpoint can spare (Fig. 4 and Table A1 of the paper), and
`ablations`, its Tables 3 and 4 from runs that are launched here."""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import tyro

from helix4d.core import ConfigError, Helix4DError, setup_logging, write_json

_USAGE = """usage: helix4d study {rope,ablations} [--help] ...

  rope       how many low rotary bands a checkpoint can spare: truncates them, generates, prints how far outputs move
  ablations  trains every variant of attention, rotary and first frame with every seed, prints the paper's tables"""


@dataclass(frozen=True, kw_only=True)
class StudyRope:
    """Truncate the low rotary bands of a TRELLIS.2 checkpoint and print how far its outputs move."""

    checkpoint: str
    """A folder or hub repository in TRELLIS.2's layout."""
    images: Path
    """A folder of RGBA images, one object each."""
    objects: int = 32
    """How many of them, in order of name."""
    shares: tuple[float, ...] = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
    """The shares of pairs to keep."""
    structure_only: bool = False
    """Stop after stage 1 and compare token centers instead of surface points."""
    encoder: str | None = None
    """The image encoder; by default the one that pipeline.json names."""
    image_size: int = 512
    """Pixels a side of the encoded images."""
    seed: int = 0
    """Names the noise."""
    device: str = "cpu"
    """cpu, cuda, or auto: cuda where there is one."""
    output: Path | None = None
    """A JSON file for the table."""


@dataclass(frozen=True, kw_only=True)
class StudyAblations:
    """Train every variant of attention pattern, rotary and first frame with every seed, and print their table.

    Interrupted, it goes on where it was: finished runs are not repeated."""

    config: Path
    """YAML file of a structure or geometry run, such as configs/tiny/geometry.yaml: what the variants change."""
    output: Path
    """Folder for the runs, ablations.json and ablations.md."""
    set: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """Changes, such as --set data.latents=DIR --set run.preview_models=DIR (the decoders)."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Each variant is trained once with each."""
    split: str = "val"
    """Whose clips are measured; train measures on clips that were trained on, and the table says so."""
    clips: int = 8
    """How many of them at most, in order of key."""


def run(arguments: list[str]) -> int:
    """Run the command; returns the exit status."""
    if not arguments or arguments[0] not in ("rope", "ablations"):
        wants_help = bool(arguments) and arguments[0] in ("-h", "--help")
        print(_USAGE, file=sys.stdout if wants_help else sys.stderr)
        return 0 if wants_help else 2
    name = arguments[0]
    try:
        if name == "rope":
            _study_rope(tyro.cli(StudyRope, prog="helix4d study rope", args=arguments[1:]))
        else:
            _study_ablations(tyro.cli(StudyAblations, prog="helix4d study ablations", args=arguments[1:]))
    except Helix4DError as error:
        print(f"helix4d study {name}: {error}", file=sys.stderr)
        return 2
    return 0


def _study_ablations(args: StudyAblations) -> None:
    from helix4d.train.config import read_config
    from helix4d.train.study.ablations import study_ablations

    setup_logging()
    config = read_config(args.config, args.set)
    print(study_ablations(config, args.seeds, args.output, args.split, args.clips), end="")


def _study_rope(args: StudyRope) -> None:
    import torch
    from PIL import Image

    from helix4d.model.checkpoint.checkpoint import Pipeline, image_encoder_name
    from helix4d.model.conditioning.images import DEFAULT_ENCODER, SAMPLING_ALPHA, ImageEncoder, prepare_frames
    from helix4d.model.device import choose_device, torso_types
    from helix4d.model.studies.rope_study import StudyNetworks, format_table, study_rope

    place = choose_device(args.device)
    if not args.images.is_dir():
        raise ConfigError(f"{args.images}: no such folder")
    files = sorted(p for p in args.images.iterdir() if p.suffix.lower() in {".png", ".webp"})[: args.objects]
    if not files:
        raise ConfigError(f"{args.images}: no .png or .webp in it")
    names = ["sparse_structure_flow_model", "sparse_structure_decoder"]
    names += [] if args.structure_only else ["shape_slat_flow_model_512", "shape_slat_decoder"]
    compute, vae = torso_types(place)
    pipeline = Pipeline.from_pretrained(args.checkpoint, names, compute_dtype=compute, vae_dtype=vae)
    for network in pipeline.networks.values():
        network.to(place)
    name = args.encoder or image_encoder_name(pipeline.args, args.checkpoint) or DEFAULT_ENCODER
    encoder = ImageEncoder.from_pretrained(name).to(place)
    pictures = [prepare_frames([Image.open(f)], args.image_size, SAMPLING_ALPHA) for f in files]
    cond = encoder(torch.cat(pictures).to(place))
    networks = StudyNetworks.from_pipeline(pipeline)
    rows = study_rope(networks, cond, args.shares, args.seed, lambda line: print(line, file=sys.stderr))
    print(format_table(rows, networks.structure_flow.config.head_channels))
    if args.output is not None:
        write_json(args.output, [asdict(row) for row in rows])

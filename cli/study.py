"""`helix4d study rope` measures how many low rotary bands a checkpoint can spare (Fig. 4 and Table A1 of the paper);
`helix4d study ablations` trains the variants of its Tables 3 and 4."""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import tyro

from helix4d.core import ConfigError, write_json

_USAGE = """usage: helix4d study {rope,ablations} [--help] ...

  rope       truncate the low rotary bands of a checkpoint and print how far its outputs move
  ablations  train every variant of attention, rotary embedding and first frame, and print the paper's tables"""


@dataclass(frozen=True, kw_only=True)
class StudyRope:
    """Truncate the low rotary bands of a TRELLIS.2 checkpoint and print how far its outputs move.

    Every object is generated with the full rotary embedding and with each of --shares; the table reports the distance
    between the two (Fig. 4 and Table A1 of the paper).
    """

    checkpoint: str
    """Folder or Hugging Face repository in TRELLIS.2's layout."""
    images: Path
    """Folder of RGBA images (.png or .webp) with one object each."""
    objects: int = 32
    """Maximum number of images to use, in order of name."""
    shares: tuple[float, ...] = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
    """Shares of the rotary pairs to keep, from 0 to 1."""
    structure_only: bool = False
    """Stop after stage 1 and compare token centers instead of surface points."""
    encoder: Annotated[
        str | None, tyro.conf.arg(metavar="NAME", help_behavior_hint="(default: the one named in pipeline.json)")
    ] = None
    """Image encoder: folder or Hugging Face repository."""
    image_size: int = 512
    """Pixels per side of the encoded images."""
    seed: int = 0
    """Seed of the sampling noise."""
    device: str = "cpu"
    """cpu, cuda, or auto, which uses a GPU if there is one."""
    output: Annotated[Path | None, tyro.conf.arg(metavar="FILE", help_behavior_hint="(optional)")] = None
    """JSON file for the table."""


@dataclass(frozen=True, kw_only=True)
class StudyAblations:
    """Train every variant of attention pattern, rotary embedding and first frame, and print their table.

    Each variant is trained once per seed. Resumable: rerun the command after an interruption, and finished runs are
    not repeated.
    """

    config: Path
    """Base configuration of the variants: YAML file of a structure or geometry run, e.g. configs/tiny/geometry.yaml."""
    output: Path
    """Folder for the runs, ablations.json and ablations.md."""
    set: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """Override a value of the configuration, e.g. --set data.latents=DIR --set run.preview_models=DIR (decoders)."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Training seeds."""
    split: str = "val"
    """Split to evaluate on: val, test, or train (the clips that were trained on, which the table points out)."""
    clips: int = 8
    """Maximum number of clips to evaluate, in order of key."""


def run(arguments: list[str]) -> int:
    """Run the command; returns the exit status."""
    if not arguments or arguments[0] not in ("rope", "ablations"):
        wants_help = bool(arguments) and arguments[0] in ("-h", "--help")
        print(_USAGE, file=sys.stdout if wants_help else sys.stderr)
        return 0 if wants_help else 2
    name, *rest = arguments
    if name == "rope":
        _study_rope(tyro.cli(StudyRope, prog="helix4d study rope", args=rest))
    else:
        _study_ablations(tyro.cli(StudyAblations, prog="helix4d study ablations", args=rest))
    return 0


def _study_ablations(args: StudyAblations) -> None:
    from helix4d.train.config import read_config
    from helix4d.train.study.ablations import study_ablations

    config = read_config(args.config, args.set)
    print(study_ablations(config, args.seeds, args.output, args.split, args.clips), end="")


def _study_rope(args: StudyRope) -> None:
    import torch
    from PIL import Image

    from helix4d.model.checkpoint.checkpoint import Pipeline, image_encoder_name
    from helix4d.model.conditioning.images import DEFAULT_ENCODER, ImageEncoder, prepare_frames
    from helix4d.model.device import choose_device, torso_types
    from helix4d.model.studies.rope_study import StudyNetworks, format_table, study_rope

    place = choose_device(args.device)
    if not args.images.is_dir():
        raise ConfigError(f"{args.images}: no such folder")
    files = sorted(p for p in args.images.iterdir() if p.suffix.lower() in {".png", ".webp"})[: args.objects]
    if not files:
        raise ConfigError(f"{args.images}: contains no .png or .webp images")
    names = ["sparse_structure_flow_model", "sparse_structure_decoder"]
    names += [] if args.structure_only else ["shape_slat_flow_model_512", "shape_slat_decoder"]
    compute, vae = torso_types(place)
    pipeline = Pipeline.from_pretrained(args.checkpoint, names, compute_dtype=compute, vae_dtype=vae)
    for network in pipeline.networks.values():
        network.to(place)
    name = args.encoder or image_encoder_name(pipeline.args, args.checkpoint) or DEFAULT_ENCODER
    encoder = ImageEncoder.from_pretrained(name).to(place)
    pictures = [prepare_frames([Image.open(f)], args.image_size) for f in files]
    cond = encoder(torch.cat(pictures).to(place))
    networks = StudyNetworks.from_pipeline(pipeline)
    rows = study_rope(networks, cond, args.shares, args.seed, lambda line: print(line, file=sys.stderr))
    print(format_table(rows, networks.structure_flow.config.head_channels))
    if args.output is not None:
        write_json(args.output, [asdict(row) for row in rows])

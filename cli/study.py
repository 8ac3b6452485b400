"""`helix4d study rope`: how many low rotary bands a checkpoint can spare (Fig. 4 and Table A1 of the paper)."""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from core import ConfigError, write_json


@dataclass(frozen=True, kw_only=True)
class StudyRope:
    """Truncate the low rotary bands of a TRELLIS.2 checkpoint and print how far its outputs move.

    Attributes:
        checkpoint: a folder or hub repository in TRELLIS.2's layout.
        images: a folder of RGBA images, one object each.
        objects: how many of them, in order of name.
        shares: the shares of pairs to keep.
        structure_only: stop after stage 1 and compare token centers instead of surface points.
        encoder: the image encoder; by default the one that pipeline.json names.
        image_size: pixels a side of the encoded images.
        seed: names the noise.
        device: where to run.
        output: a JSON file for the table.
    """

    checkpoint: str
    images: Path
    objects: int = 32
    shares: tuple[float, ...] = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
    structure_only: bool = False
    encoder: str | None = None
    image_size: int = 512
    seed: int = 0
    device: str = "cpu"
    output: Path | None = None


def run(args: StudyRope) -> int:
    """Run the study and print its table."""
    import torch
    from PIL import Image

    from model.checkpoint import Pipeline
    from model.conditioning import DEFAULT_ENCODER, SAMPLING_ALPHA, ImageEncoder, prepare_frames
    from model.rope_study import StudyNetworks, format_table, study_rope

    files = sorted(p for p in args.images.iterdir() if p.suffix.lower() in {".png", ".webp"})[: args.objects]
    if not files:
        raise ConfigError(f"{args.images}: no .png or .webp in it")
    names = ["sparse_structure_flow_model", "sparse_structure_decoder"]
    names += [] if args.structure_only else ["shape_slat_flow_model_512", "shape_slat_decoder"]
    half = torch.device(args.device).type == "cuda"
    compute_dtype = torch.bfloat16 if half else torch.float32
    pipeline = Pipeline.from_pretrained(args.checkpoint, names, compute_dtype=compute_dtype)
    for network in pipeline.networks.values():
        network.to(args.device)
    named = pipeline.args.get("image_cond_model", {}).get("args", {}).get("model_name", DEFAULT_ENCODER)
    encoder = ImageEncoder.from_pretrained(args.encoder or named).to(args.device)
    pictures = [prepare_frames([Image.open(f)], args.image_size, SAMPLING_ALPHA) for f in files]
    cond = encoder(torch.cat(pictures).to(args.device))
    networks = StudyNetworks.from_pipeline(pipeline)
    rows = study_rope(networks, cond, args.shares, args.seed, lambda line: print(line, file=sys.stderr))
    print(format_table(rows, networks.structure_flow.config.head_channels))
    if args.output is not None:
        write_json(args.output, [asdict(row) for row in rows])
    return 0


def main(arguments: list[str] | None = None) -> int:
    """`python -m cli.study --checkpoint ... --images ...`."""
    import tyro

    return run(tyro.cli(StudyRope, args=arguments))


if __name__ == "__main__":
    sys.exit(main())

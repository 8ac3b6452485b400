"""`helix4d generate`: meshes of a clip from three trained stages."""

from __future__ import annotations

import logging

import tyro

from helix4d.core import Helix4DError, setup_logging


def run(arguments: list[str]) -> int:
    """Run the command; returns the exit status."""
    from helix4d.train.samples.generate import GenerateConfig, generate

    setup_logging()
    config = tyro.cli(GenerateConfig, prog="helix4d generate", args=arguments)
    try:
        meshes = generate(config)
    except Helix4DError as error:
        logging.getLogger("helix4d.train").error("%s", error)
        return 2
    print(f"{config.output}: {len(meshes)} frames, {sum(len(m.faces) for m in meshes)} triangles")
    return 0

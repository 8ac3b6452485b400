"""`helix4d generate`: generates the meshes of a training clip with three trained stages."""

from __future__ import annotations

import tyro


def run(arguments: list[str]) -> int:
    """Run the command; returns the exit status."""
    from helix4d.train.samples.generate import GenerateConfig, generate

    config = tyro.cli(tyro.conf.EnumChoicesFromValues[GenerateConfig], prog="helix4d generate", args=arguments)
    meshes = generate(config)
    print(f"{config.output}: {len(meshes)} frames, {sum(len(m.faces) for m in meshes)} triangles")
    return 0

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from helix4d.core import ConfigError
from helix4d.train.config import Stage
from helix4d.train.loop import train
from helix4d.train.samples.generate import ColoredMesh, GenerateConfig, generate, ply
from tests.packages import needs
from tests.train import world


@needs("trimesh")
def test_a_mesh_file_can_be_read_by_other_software() -> None:
    import trimesh

    vertices = np.array([[0, 0, 0], [0.5, 0, 0], [0, 0.25, -0.5]], np.float32)
    colors = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255]], np.uint8)
    data = ply(ColoredMesh(vertices, colors, np.array([[0, 2, 1]], np.int32)))
    read = trimesh.load(io.BytesIO(data), file_type="ply", process=False)
    assert np.array_equal(read.vertices, vertices)
    assert np.array_equal(read.faces, [[0, 2, 1]])
    assert np.array_equal(read.visual.vertex_colors[:, :3], colors)


def test_three_stages_generate_one_mesh_per_frame(latents: Path, shards: Path, models: Path, tmp_path: Path) -> None:
    runs = {}
    for stage in Stage:
        config = world.train_config(stage.value, latents, shards, models, tmp_path, steps=1)
        train(config)
        runs[stage.value] = config.folder
    config = GenerateConfig(**runs, models=str(models), output=tmp_path / "out", key="0" * 16 + "_0", steps=2)
    # Random stages generate arbitrary tokens; those of the first frame are the clip's own.
    meshes = generate(config)
    assert len(meshes) == world.FRAMES
    assert sorted(p.name for p in (tmp_path / "out").glob("*.ply")) == [f"frame_{f:02d}.ply" for f in range(3)]
    assert Image.open(tmp_path / "out/preview.webp").size == (192, 192)
    with pytest.raises(ConfigError, match="no clip nothing"):
        generate(GenerateConfig(**runs, models=str(models), output=tmp_path / "other", key="nothing"))
    with pytest.raises(ConfigError, match=r"view is 77: clip 0000000000000000_0 has views 0 to"):
        generate(GenerateConfig(**runs, models=str(models), output=tmp_path / "other", view=77))

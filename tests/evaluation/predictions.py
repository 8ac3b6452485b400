"""Synthetic benches and predictions: folders laid out as by the benches and the methods."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from helix4d.assets.gltf.writer import GlbBuilder, Mesh, Part
from helix4d.evaluation import Surface, sample_tracked


def write_glb(path: Path, surface: Surface, color: tuple[float, float, float] = (0.8, 0.3, 0.2)) -> None:
    """Encode the surface with unchanged coordinates, so that the file has the axes of the surface."""
    builder = GlbBuilder("tests", {"title": "still"})
    vertices = surface.vertices.astype(np.float64)
    normals = np.tile([0.0, 0.0, 1.0], (len(vertices), 1))
    still = Mesh(vertices, normals, np.zeros((len(vertices), 2)), surface.faces.astype(np.int64))
    mesh = builder.mesh("still", [Part(still, builder.material("red", color))])
    builder.node("still", mesh=mesh)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(builder.build())


def write_stills(folder: Path, surfaces: Sequence[Surface], name: str = "mesh_{}.glb") -> None:
    for number, surface in enumerate(surfaces):
        write_glb(folder / name.format(number), surface)


def write_actionbench_item(folder: Path, surfaces: Sequence[Surface], points: int = 4000) -> None:
    """Write `surfaces.npy` and one image per frame, as in ActionBench."""
    truth = sample_tracked(surfaces, points, seed=7).numpy()
    write_truth(folder, truth)


def write_truth(folder: Path, truth: np.ndarray) -> None:
    """Write points (T, Q, 3) as an item of ActionBench."""
    (folder / "imgs").mkdir(parents=True)
    np.save(folder / "surfaces.npy", np.concatenate([truth, np.zeros_like(truth)], axis=2).astype(np.float32))
    for frame in range(len(truth)):
        pixels = np.zeros((8, 8, 4), np.uint8)
        pixels[2:6, 2:6] = (40 * frame, 100, 200, 255)
        Image.fromarray(pixels, "RGBA").save(folder / "imgs" / f"{frame:02d}.png")


def write_run_file(folder: Path, faces: Sequence[int]) -> None:
    (folder / "run.json").write_text(json.dumps({"frames": [{"faces": count} for count in faces]}))

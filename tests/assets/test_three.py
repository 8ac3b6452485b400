"""Random animated GLBs are baked to where three.js puts their vertices."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.assets.random_glb import random_glb
from tests.assets.three import TOLERANCE, baked, distance, evaluated_by_three
from tests.data.frozen import group, load
from tests.data.record_three import SEEDS, summary

RECORDED = load("three")


@pytest.mark.parametrize("seed", SEEDS)
def test_recorded(seed: int, tmp_path: Path) -> None:
    """Boxes of each frame, and five triangles, with their fronts, are where three.js has them."""
    path = tmp_path / "random.glb"
    path.write_bytes(random_glb(seed).data)
    animations = baked(path)
    assert len(animations) == len({key.split(".")[1] for key in RECORDED if key.startswith(f"{seed}.")})
    for number, animation in enumerate(animations):
        found, expected = summary(animation), group(RECORDED, f"{seed}.{number}")
        boxes = expected["boxes"]
        diagonal = np.linalg.norm(boxes[:, 1].max(axis=0) - boxes[:, 0].min(axis=0))
        np.testing.assert_array_equal(found["count"], expected["count"])
        np.testing.assert_allclose(found["times"], expected["times"], atol=1e-6)
        for name in ("boxes", "centroids"):
            np.testing.assert_allclose(found[name], expected[name], rtol=0, atol=TOLERANCE * diagonal)
        signs = np.where(expected["wound"] | ((found["normals"] * expected["normals"]).sum(axis=-1) > 0), 1, -1)
        normals = expected["normals"] * signs[..., None]
        np.testing.assert_allclose(found["normals"], normals, rtol=0, atol=TOLERANCE * diagonal**2)


def test_recorded_files_have_all_features() -> None:
    """So that a change of the generator does not make the comparison empty."""
    files = [_json(random_glb(seed).data) for seed in SEEDS]
    texts = [json.dumps(file) for file in files]
    primitives = [primitive for file in files for mesh in file["meshes"] for primitive in mesh["primitives"]]
    for feature in (
        *("matrix", "skin", "JOINTS_1", "targets", "weights", "sparse", "byteStride", "normalized"),
        *("STEP", "LINEAR", "CUBICSPLINE", "EXT_meshopt_compression", "EXT_mesh_gpu_instancing"),
    ):
        assert sum(f'"{feature}"' in text for text in texts) >= 4, feature
    assert {primitive["mode"] for primitive in primitives} == {4, 5, 6}
    assert any("indices" not in primitive for primitive in primitives)
    assert any(min(node.get("scale", [1])) < 0 for file in files for node in file["nodes"])
    accessors = [file["accessors"] for file in files for mesh in file["meshes"] for _ in mesh["primitives"]]
    positions = [primitive["attributes"]["POSITION"] for primitive in primitives]
    types = {rows[number]["componentType"] for rows, number in zip(accessors, positions, strict=True)}
    assert types == {5120, 5121, 5122, 5123, 5126}


@pytest.mark.acceptance
def test_two_hundred_files(tmp_path: Path) -> None:
    """Every corner of every triangle in 16 frames of all animations, and which side of a triangle is its front."""
    worst = {}
    for seed, expected in evaluated_by_three(tmp_path, range(200)).items():
        found = baked(tmp_path / f"{seed}.glb")
        assert [animation.corners.shape for animation in found] == [animation.corners.shape for animation in expected]
        for ours, theirs in zip(found, expected, strict=True):
            np.testing.assert_allclose(ours.times, theirs.times, atol=1e-6)
            worst[seed] = max(distance(ours, theirs), worst.get(seed, 0.0))
    print(f"\n200 files: largest distance {max(worst.values()):.1e} of the diagonal")
    assert len(worst) == 200
    assert {seed: found for seed, found in worst.items() if not found < TOLERANCE} == {}


def _json(data: bytes) -> dict[str, Any]:
    length = struct.unpack("<I", data[12:16])[0]
    return json.loads(data[20 : 20 + length])

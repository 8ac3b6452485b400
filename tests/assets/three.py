"""Corners of the triangles of random GLBs, by this project and by three.js."""

from __future__ import annotations

import itertools
import json
import math
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from helix4d.assets import bake_clips
from tests.assets.random_glb import random_glb
from tests.browser import npm_install

FRAMES = 16
TOLERANCE = 1e-4
"""Largest distance of a vertex from its place by three.js, in diagonals of the box around all frames."""
_TURNS = {(0, 1, 2), (1, 2, 0), (2, 0, 1)}
_PACKAGE = "three@0.187.0"
_SCRIPT = Path(__file__).with_name("evaluate_in_three.mjs")


@dataclass(frozen=True)
class Animation:
    """Triangles of an animation at T times.

    Attributes:
        times: (T,) seconds.
        corners: (T, F, 3, 3) in glTF's axes, in the order of nodes level by level, primitives and instances.
        wound: (F,) bool, whether the order of the corners says where the front is.
    """

    times: np.ndarray
    corners: np.ndarray
    wound: np.ndarray


def baked(path: Path) -> list[Animation]:
    """All animations of a file, baked by this project."""
    animations = []
    for clip in bake_clips(path, frames=FRAMES, clip="all"):
        corners = np.stack([frame.triangles() for frame in clip.frames]).astype(np.float64)
        animations.append(Animation(clip.times, corners[..., [0, 2, 1]] * [1, 1, -1], np.ones(corners.shape[1], bool)))
    return animations


def evaluated_by_three(folder: Path, seeds: Sequence[int]) -> dict[int, list[Animation]]:
    """All animations of the random files of some seeds, evaluated by three.js.

    The files are written to the folder as SEED.glb, and three.js is installed there; skips the test if npm cannot.
    """
    npm_install(folder, _PACKAGE)
    script = shutil.copy(_SCRIPT, folder)
    files = {seed: random_glb(seed) for seed in seeds}
    jobs = []
    for seed, file in files.items():
        path = folder / f"{seed}.glb"
        path.write_bytes(file.data)
        times = [np.linspace(*span, FRAMES).tolist() for span in file.spans]
        jobs.append({"glb": str(path), "times": times, "output": str(path.with_suffix(".bin"))})
    job = folder / "job.json"
    job.write_text(json.dumps(jobs))
    done = subprocess.run(["node", script, str(job)], capture_output=True, text=True, timeout=1800, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return {
        seed: [
            Animation(np.array(times), *_sorted(*evaluated, file.order))
            for times, evaluated in zip(entry["times"], _read(Path(entry["output"])), strict=True)
        ]
        for (seed, file), entry in zip(files.items(), jobs, strict=True)
    }


def _read(path: Path) -> Iterator[tuple[list[dict[str, Any]], list[np.ndarray]]]:
    """For each animation, what the script says about its P primitives, and their corners (T, instances, F, 3, 3)."""
    line, _, data = path.read_bytes().partition(b"\n")
    values = np.frombuffer(data, "<f4").astype(np.float64)
    start = 0
    for entries in json.loads(line):
        corners = []
        for entry in entries:
            shape = FRAMES, entry["instances"], entry["triangles"], 3, 3
            corners.append(values[start : start + math.prod(shape)].reshape(shape))
            start += math.prod(shape)
        yield entries, corners
    assert start == len(values)


def _sorted(
    entries: list[dict[str, Any]], corners: list[np.ndarray], order: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """`Animation.corners` and `wound`: where a transform mirrors triangles, three.js turns the front around."""
    parts, wound = [], []
    ranks = [(order.index(entry["node"]), entry["primitive"]) for entry in entries]
    for number in sorted(range(len(entries)), key=ranks.__getitem__):
        entry, part = entries[number], corners[number].copy()
        if not entry["skinned"]:
            mirrored = np.array(entry["mirrored"])
            part[mirrored] = part[mirrored][:, :, [0, 2, 1]]
        parts.append(part.reshape(FRAMES, -1, 3, 3))
        wound.append(np.full(parts[-1].shape[1], not entry["skinned"]))
    return np.concatenate(parts, axis=1), np.concatenate(wound)


def distance(found: Animation, expected: Animation) -> float:
    """Largest distance of corners, in diagonals of the expected box; triangles may begin at any of their corners."""
    points = expected.corners.reshape(-1, 3)
    diagonal = np.linalg.norm(points.max(axis=0) - points.min(axis=0))
    distances = []
    for order in itertools.permutations(range(3)):
        distances.append(np.linalg.norm(found.corners - expected.corners[:, :, order], axis=-1).max(axis=-1))
        if order not in _TURNS:
            distances[-1][:, expected.wound] = np.inf
    return float(np.min(distances, axis=0).max() / diagonal)

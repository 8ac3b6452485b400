"""GPU and CPU agree: on numba's CUDA simulator, and on a real GPU where available."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numba import cuda

from helix4d.voxelize import dual_grid
from helix4d.voxelize.convert import gpu_check
from tests.voxelize.meshes import icosphere

_REPOSITORY = Path(__file__).resolve().parents[2]
_SIMULATED = """
import numpy as np
from helix4d.voxelize import GeometryError, dual_grid
from helix4d.voxelize.convert import gpu, gpu_check
from tests.voxelize.meshes import icosphere, quad

gpu._FULL = 1
gpu._THREADS = 8
print("soup:", gpu_check._difference())
for vertices, faces in (quad(height=0.0, size=0.75), icosphere(0)):
    cpu, gpu_ = (dual_grid(vertices, faces, 8, device=device) for device in ("cpu", "gpu"))
    none = np.zeros((0, 6), np.uint8)
    both = [(grid.coords, grid.dual_vertices, grid.intersected, none) for grid in (cpu, gpu_)]
    print("mesh:", gpu_check.difference_of(*both), len(gpu_.coords) > 0)
print("empty:", len(dual_grid(vertices, faces[:0], 8, device="gpu").coords))
try:
    dual_grid(vertices + 1, faces, 8, device="gpu")
except GeometryError as error:
    print("outside:", str(error)[:6])
"""


def test_the_simulated_gpu_agrees_with_the_cpu() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _SIMULATED],
        cwd=_REPOSITORY,
        env={**os.environ, "NUMBA_ENABLE_CUDASIM": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n")[:-1] == ["soup: ", "mesh:  True", "mesh:  True", "empty: 0", "outside: face 0"]


@pytest.mark.gpu
@pytest.mark.skipif(not cuda.is_available(), reason="no CUDA device and toolkit on this machine")
@pytest.mark.parametrize("resolution", [64, 512])
def test_a_gpu_agrees_with_the_cpu(resolution: int) -> None:
    assert gpu_check.gpu_works()
    vertices, faces = icosphere(5)
    cpu, found = (dual_grid(vertices, faces, resolution, device=device) for device in ("cpu", "gpu"))
    none = np.zeros((0, 6), np.uint8)
    expected = (cpu.coords, cpu.dual_vertices, cpu.intersected, none)
    assert not gpu_check.difference_of(expected, (found.coords, found.dual_vertices, found.intersected, none))
    again = dual_grid(vertices, faces, resolution, device="gpu")
    np.testing.assert_array_equal(again.dual_vertices, found.dual_vertices)


def test_a_gpu_that_fails_or_disagrees_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda, "is_available", lambda: True)

    def broken() -> str:
        raise OSError("no libNVVM")

    for check in (broken, lambda: "other voxels"):
        gpu_check.gpu_works.cache_clear()
        monkeypatch.setattr(gpu_check, "_difference", check)
        assert not gpu_check.gpu_works()
    monkeypatch.undo()
    gpu_check.gpu_works.cache_clear()

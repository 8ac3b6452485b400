"""GPU and CPU agree, on numba's CUDA simulator and on a real GPU where available; a GPU that fails is never silent."""

from __future__ import annotations

import ctypes
import logging
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from helix4d.voxelize import GpuError, dual_grid, voxelize_clip
from helix4d.voxelize.convert import gpu_check
from helix4d.voxelize.kernels import cuda_target
from tests.voxelize.compile_gpu_kernels import SIGNATURES, find_ptxas
from tests.voxelize.meshes import icosphere, quad
from tests.voxelize.test_frames import make_clip

_REPOSITORY = Path(__file__).resolve().parents[2]


def run(module: str, **environment: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-m", module],
        cwd=_REPOSITORY,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_the_simulated_gpu_agrees_with_the_cpu() -> None:
    assert run("tests.voxelize.simulate_gpu", NUMBA_ENABLE_CUDASIM="1") == [
        "soup: ",
        "mesh:  True",
        "corners on planes of a grid whose scale is rounded:  248",
        "no faces: 0",
        "clip: ['', '', '', '', ''] [True, True, True, False, True]",
        "in reverse, equal bit by bit: True",
        "emission: ['', ''] [51, 193]",
        "outside: face 0 has corners [",
        "afterwards: True",
        "uploads beyond shared data and vertices: 0",
    ]


@pytest.mark.skipif(
    find_spec("numba_cuda") is None or find_ptxas() is None,
    reason="needs numba-cuda with NVVM and NVRTC, and ptxas (nvidia-cuda-nvcc)",
)
def test_every_cuda_kernel_compiles_for_sm_80_and_sm_90() -> None:
    _, *rows = run("tests.voxelize.compile_gpu_kernels")
    table = {(name, architecture): [int(n) for n in numbers] for name, architecture, *numbers in map(str.split, rows)}
    names = {kernel.py_func.__name__ for kernel in SIGNATURES}
    assert set(table) == {(name, architecture) for name in names for architecture in ("80", "90")}
    for registers, local, spilled, _ in table.values():
        assert 0 < registers <= 255
        assert local <= 512
        assert spilled <= 64


@pytest.mark.gpu
@pytest.mark.skipif(bool(gpu_check._missing_device()), reason=gpu_check._missing_device())
@pytest.mark.parametrize("resolution", [64, 512])
def test_a_gpu_agrees_with_the_cpu(resolution: int) -> None:
    vertices, faces = icosphere(5)
    cpu, found, again = (dual_grid(vertices, faces, resolution, device=device) for device in ("cpu", "gpu", "gpu"))  # type: ignore[arg-type]
    arrays = [(grid.coords, grid.dual_vertices, grid.intersected) for grid in (cpu, found, again)]
    assert not gpu_check.difference_of(*arrays[:2])
    for first, second in zip(*arrays[1:], strict=True):
        np.testing.assert_array_equal(first, second)


@pytest.fixture
def _fresh() -> Iterator[None]:
    for function in (gpu_check.gpu_problem, gpu_check._log_once):
        function.cache_clear()
    yield
    for function in (gpu_check.gpu_problem, gpu_check._log_once):
        function.cache_clear()


@pytest.mark.usefixtures("_fresh")
@pytest.mark.parametrize(
    ("cause", "reason", "level"),
    [
        ("no driver", "there is no NVIDIA driver", logging.INFO),
        ("no numba-cuda", "numba-cuda is not installed: install the extra gpu-cu12 or gpu-cu13", logging.WARNING),
        ("no NVVM", "the kernels failed to compile or run: OSError: no libNVVM", logging.WARNING),
        ("wrong voxels", "it disagrees with the CPU: different voxels", logging.WARNING),
    ],
)
def test_a_gpu_that_cannot_be_used_is_reported(
    cause: str, reason: str, level: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def difference() -> str:
        if cause == "no NVVM":
            raise OSError("no libNVVM\nsearched in 20 places")
        return "different voxels"

    monkeypatch.setattr(gpu_check, "SIMULATED", False)
    missing = "there is no NVIDIA driver" if cause == "no driver" else ""
    monkeypatch.setattr(gpu_check, "_missing_device", lambda: missing)
    monkeypatch.setattr(gpu_check, "find_spec", lambda name: None if cause == "no numba-cuda" else name)
    monkeypatch.setattr(gpu_check, "_difference", difference)
    vertices, faces = quad()
    with pytest.raises(GpuError, match=re.escape(f"cannot voxelize on a GPU: {reason}")):
        dual_grid(vertices, faces, 8, device="gpu")
    caplog.set_level(logging.INFO, logger=gpu_check.__name__)
    for _ in range(2):
        assert len(dual_grid(vertices, faces, 8).coords)
    ((_, logged, message),) = caplog.record_tuples
    assert logged == level
    assert message == f"voxelizing on the CPU: {reason}"


@pytest.mark.usefixtures("_fresh")
def test_a_clip_is_not_converted_on_another_device_than_requested(monkeypatch: pytest.MonkeyPatch) -> None:
    from helix4d.assets import Material

    clip = make_clip(Material())
    monkeypatch.setattr(gpu_check, "_missing_device", lambda: "the NVIDIA driver finds no device")
    with pytest.raises(GpuError, match="finds no device"):
        voxelize_clip(clip, 8, device="gpu")
    with pytest.raises(ValueError, match="device 'cuda': must be auto, cpu or gpu"):
        voxelize_clip(clip, 8, device="cuda")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("code", "devices", "reason"),
    [
        (0, 1, ""),
        (0, 0, "finds no device"),
        (100, 0, "finds no device, or CUDA_VISIBLE_DEVICES hides it"),
        (803, 0, "failed to start: CUDA error 803"),
    ],
)
def test_the_driver_says_whether_there_is_a_device(
    code: int, devices: int, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Driver:
        def cuInit(self, flags: int) -> int:  # noqa: N802
            return code

        def cuDeviceGetCount(self, count: ctypes._CArgObject) -> int:  # noqa: N802
            ctypes.cast(count, ctypes.POINTER(ctypes.c_int))[0] = devices
            return 0

    monkeypatch.setattr(ctypes, "CDLL", lambda name: Driver())
    found = gpu_check._missing_device()
    assert reason in found
    assert bool(found) == bool(reason)


def test_numba_cuda_is_imported_without_the_function_that_numpy_removed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delattr(np, "row_stack", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "array_operations_imported.py").write_text("import numpy\nfound = numpy.row_stack\n")
    (tmp_path / "array_operations_broken.py").write_text("import numpy\nnumpy.no_such_function\n")
    cuda_target._import_array_operations("array_operations_imported")
    assert not hasattr(np, "row_stack")
    with pytest.raises(AttributeError, match="no_such_function"):
        cuda_target._import_array_operations("array_operations_broken")
    assert not hasattr(np, "row_stack")
    with pytest.raises(NotImplementedError, match=r"removed in numpy 2\.5"):
        sys.modules["array_operations_imported"].found(())


def test_importing_the_package_does_not_load_cuda() -> None:
    command = "import sys, helix4d.voxelize; print(sorted({'numba.cuda', 'numba_cuda'} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", command], cwd=_REPOSITORY, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"

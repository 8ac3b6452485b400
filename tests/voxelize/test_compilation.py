"""Kernels are compiled once, whichever process starts first."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from helix4d.core import ConfigError
from helix4d.voxelize import warm_up
from helix4d.voxelize.kernels import compilation

_SCRIPT = "from helix4d.voxelize import warm_up; print(warm_up())"
_REPOSITORY = Path(__file__).resolve().parents[2]


def start(cache: Path) -> subprocess.Popen[str]:
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(cache)}
    command = [sys.executable, "-c", _SCRIPT]
    return subprocess.Popen(command, cwd=_REPOSITORY, env=environment, stdout=subprocess.PIPE, text=True)


def compiled(process: subprocess.Popen[str]) -> int:
    out, _ = process.communicate(timeout=600)
    assert process.returncode == 0
    return int(out)


def test_processes_that_start_together_compile_once(tmp_path: Path) -> None:
    together = [start(tmp_path), start(tmp_path)]
    counts = sorted(compiled(process) for process in together)
    assert counts == [0, len(compilation._KERNELS)]
    indices = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.nbi")}
    assert len(indices) == len(compilation._KERNELS)
    assert compiled(start(tmp_path)) == 0
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.nbi")} == indices


def test_there_is_one_specialization_of_each_kernel() -> None:
    warm_up()
    for dispatcher, arguments in compilation._KERNELS:
        assert dispatcher.signatures[-1] == arguments
        assert not dispatcher._can_compile


def test_other_sources_leave_no_stale_code(tmp_path: Path) -> None:
    for name in ("solve_kernels.emit_voxels-1.py311.nbi", "voxelize-0.stamp", "their_functions.f-1.py311.nbi"):
        (tmp_path / name).touch()
    compilation._clear(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["their_functions.f-1.py311.nbi"]


def test_without_a_writable_folder_kernels_still_compile(monkeypatch: pytest.MonkeyPatch) -> None:
    original = compilation.njit

    def refusing(**options: object) -> object:
        if options.get("cache"):
            raise RuntimeError("cannot cache function: no locator available")
        return original(**options)

    monkeypatch.setattr(compilation, "njit", refusing)
    monkeypatch.setattr(compilation, "_KERNELS", [])

    @compilation.kernel(compilation.i8)
    def doubled(x):
        return 2 * x

    assert doubled(np.int64(4)) == 8
    assert compilation._cache_folder() is None


def test_compiled_code_of_other_users_is_not_loaded(tmp_path: Path) -> None:
    """Numba unpickles and runs what it finds in its cache."""
    own = tmp_path / "own"
    own.mkdir(mode=0o755)
    compilation._refuse_foreign(own)
    (tmp_path / "link").symlink_to(own)
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    for name in ("link", "open"):
        with pytest.raises(ConfigError, match=f"{name}: not used for compiled kernels.*set NUMBA_CACHE_DIR"):
            compilation._refuse_foreign(tmp_path / name)
    if os.geteuid() == 0:
        os.chown(own, 12345, 12345)
        with pytest.raises(ConfigError, match="other users may have written to it"):
            compilation._refuse_foreign(own)


def test_a_shared_cache_is_refused_before_anything_is_loaded(tmp_path: Path) -> None:
    script = """
import os, pathlib
from helix4d.voxelize.kernels import compilation
folder = compilation._cache_folder()
folder.chmod(0o777)
compilation._load = lambda: print("loaded")
compilation.warm_up()
"""
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    command = [sys.executable, "-c", "import helix4d.voxelize\n" + script]
    done = subprocess.run(command, cwd=_REPOSITORY, env=environment, capture_output=True, text=True, check=False)
    assert "SetupError" in done.stderr
    assert "loaded" not in done.stdout

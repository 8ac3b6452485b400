"""Triton kernels on a CPU: scripts that run them in Triton's interpreter or compile them for a GPU.

Triton decides at import whether it interprets kernels, so tests run such a script in a separate process.
A script that interprets kernels calls `patch_scalars` first.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]

needs_triton = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None, reason="triton is not installed (extra 'dev', on Linux)"
)


def run_interpreted(module: str, *arguments: str) -> str:
    """Run a script of the tests, such as `tests.model.interpret_window_attention`, with Triton's interpreter.

    Returns:
        What it prints.
    """
    return run_script(module, *arguments, TRITON_INTERPRET="1")


def run_script(module: str, *arguments: str, **variables: str) -> str:
    """Run a script of the tests in a separate process, with additional environment variables; returns its output."""
    environment = {**os.environ, **variables, "PYTHONPATH": os.pathsep.join([str(REPOSITORY), *sys.path])}
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        env=environment,
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=800,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def patch_scalars() -> None:
    """Let interpreted kernels use loaded values as loop bounds and conditions.

    The interpreter holds scalars in arrays of one element and converts those with `int`, which numpy 2.4 deprecates
    and numpy 2.5 refuses for arrays that have an axis.
    """
    import triton.runtime.interpreter as interpreter

    plain = interpreter._LangPatchScope.set_attr

    def set_attr(scope: Any, owner: Any, name: str, value: Any) -> None:
        plain(scope, owner, name, (lambda self: int(self.handle.data.item())) if name == "__index__" else value)

    interpreter._LangPatchScope.set_attr = set_attr

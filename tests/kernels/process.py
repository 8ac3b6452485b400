"""Run checks of kernels in a process of their own, because Triton's interpreter is chosen at import."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
needs_triton = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="Triton is not installed")


def interpret(module: str) -> str:
    """Run a module in Triton's interpreter, on the CPU, and return what it prints."""
    return run(module, {"TRITON_INTERPRET": "1"})


def run(module: str, variables: dict[str, str], *arguments: str) -> str:
    """Run a module with environment variables and return what it prints."""
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

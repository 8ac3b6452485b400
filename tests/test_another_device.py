"""Runs all `check_another_device.py` files in a separate process, as torch cannot unregister a device type."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

_TESTS = Path(__file__).parent


@pytest.mark.slow
def test_no_tensor_is_left_on_the_cpu() -> None:
    checks = sorted(_TESTS.rglob("check_another_device.py"))
    assert len(checks) == 4
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *map(str, checks)],
        cwd=_TESTS.parent,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-8000:]
    assert " passed" in done.stdout
    assert "skipped" not in done.stdout

"""`make docs` builds the API reference without a warning."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.package_tree import PACKAGES, REPOSITORY


@pytest.mark.slow
def test_api_reference_is_built_without_warnings(tmp_path: Path) -> None:
    pytest.importorskip("pdoc", reason="the extra docs is not installed")
    command = [sys.executable, "-m", "tests.api_reference", tmp_path / "links", tmp_path / "api"]
    result = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    pages = {path.relative_to(tmp_path / "api").as_posix() for path in (tmp_path / "api").rglob("*.html")}
    assert {"helix4d.html", *(f"helix4d/{package}.html" for package in PACKAGES)} <= pages
    assert "decode_vxz" in (tmp_path / "api" / "helix4d" / "voxelize.html").read_text()

"""Python environments that see this environment's dependencies, but not its editable helix4d."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import venv
from pathlib import Path


def make_environment(folder: Path) -> Path:
    """An environment with the dependencies alone; returns its python.

    Python does not run the `.pth` files of a folder that a `.pth` file names, so an editable install stays behind.
    """
    venv.create(folder, with_pip=False, symlinks=True)
    python = folder / "bin" / "python"
    (site_packages(python) / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return python


def site_packages(python: Path) -> Path:
    """The environment's folder of installed packages."""
    return next((python.parent.parent / "lib").glob("python*/site-packages"))


def install(python: Path, wheel: Path) -> None:
    """Install a wheel into the environment, without its dependencies."""
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "--python", python]
    subprocess.run([*pip, "install", "--no-deps", "--no-index", wheel], check=True)

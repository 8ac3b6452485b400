"""Other Python environments: with this one's dependencies but not its editable helix4d, and of other Pythons."""

from __future__ import annotations

import shutil
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


def find_python(version: str) -> Path | None:
    """An interpreter such as "3.12", on the path or among pyenv's; None if there is none that runs."""
    name = f"python{version}"
    found = [Path(path) for path in [shutil.which(name)] if path is not None]
    found += sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/{name}"))
    for python in found:  # pyenv's shims exist for versions that are not chosen, and then fail
        if subprocess.run([python, "-c", ""], capture_output=True, check=False).returncode == 0:
            return python
    return None


def make_environment_of(base: Path, folder: Path, requirements: list[str]) -> Path:
    """An environment of another Python, with packages from the index; returns its python."""
    subprocess.run([base, "-m", "venv", folder], check=True)
    python = folder / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "--quiet", *requirements], check=True)
    return python


def site_packages(python: Path) -> Path:
    """The environment's folder of installed packages."""
    return next((python.parent.parent / "lib").glob("python*/site-packages"))


def install(python: Path, wheel: Path) -> None:
    """Install a wheel into the environment, without its dependencies."""
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "--python", python]
    subprocess.run([*pip, "install", "--no-deps", "--no-index", wheel], check=True)

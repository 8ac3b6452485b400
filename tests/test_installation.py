"""Only one name is installed, and nothing in a user's folder can shadow it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from helix4d import __version__
from helix4d.assets.samples import SAMPLES
from tests.curation.runs import arguments
from tests.environments import install, make_environment, site_packages
from tests.package_tree import PACKAGES, REPOSITORY

SNIPPET = re.compile(r"## Read the shards.*?```python\n(.*?)```", re.DOTALL)


@pytest.fixture
def foreign(tmp_path: Path) -> Path:
    """A user's folder with packages and plain folders that are called like ours, and one asset in `assets/`."""
    folder = tmp_path / "foreign"
    for name in PACKAGES:
        (folder / name).mkdir(parents=True)
    for name in ("core", "render", "model", "train", "cli"):
        (folder / name / "__init__.py").write_text("raise ImportError('somebody else's package')\n")
    (folder / "assets" / "butterfly.glb").write_bytes(SAMPLES["butterfly"]())
    return folder


def test_a_users_folders_do_not_shadow_ours(foreign: Path) -> None:
    helix4d = [Path(sys.executable).parent / "helix4d"]
    _run([*helix4d, "curate", *arguments("assets", "shards")], foreign)
    _check_output(foreign / "shards")

    script = [sys.executable, REPOSITORY / "curation" / "pipeline.py"]
    _run([*script, *arguments("assets", "from_script")], foreign)
    _check_output(foreign / "from_script")

    assert _run([sys.executable, "-m", "helix4d", "--version"], foreign) == f"helix4d {__version__}\n"

    found = SNIPPET.search((REPOSITORY / "README.md").read_text(encoding="utf-8"))
    assert found is not None, "README.md no longer shows how to read the shards"
    (tar,) = (foreign / "shards").glob("*/*.tar")
    snippet = re.sub(r'"[^"]*\.tar"', repr(str(tar)), found[1])
    _run([sys.executable, "-c", snippet + "\nprint(len(ovoxel.coords))"], foreign)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The python of an environment into which a wheel of this checkout was installed."""
    folder = tmp_path_factory.mktemp("wheel")
    # A copy: setuptools leaves build/ behind, and would pack what an earlier build left there.
    source = folder / "source"
    shutil.copytree(REPOSITORY, source, ignore=shutil.ignore_patterns(".*", "build", "demo_output", "*.egg-info"))
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", folder, source], check=True)
    (wheel,) = folder.glob("*.whl")
    python = make_environment(folder / "environment")
    install(python, wheel)
    return python


def test_a_wheel_installs_one_package_and_nothing_beside_it(installed: Path) -> None:
    names = {path.name for path in site_packages(installed).iterdir()} - {"dependencies.pth"}
    assert names == {"helix4d", f"helix4d-{__version__}.dist-info"}
    package = site_packages(installed) / "helix4d"
    source = {path.relative_to(REPOSITORY) for name in PACKAGES for path in (REPOSITORY / name).rglob("*.py")}
    assert {path.relative_to(package) for path in package.rglob("*.py")} == source | {
        Path("__init__.py"),
        Path("__main__.py"),
        Path("shards.py"),
    }


def test_a_wheel_curates(installed: Path, foreign: Path) -> None:
    helix4d = installed.parent / "helix4d"
    _run([helix4d, "curate", *arguments("assets", "shards")], foreign)
    _check_output(foreign / "shards")
    origin = _run([installed, "-c", "import helix4d.render; print(helix4d.render.__file__)"], foreign)
    assert Path(origin.strip()).is_relative_to(site_packages(installed))
    script = site_packages(installed) / "helix4d" / "curation" / "pipeline.py"
    assert "--source" in _run([installed, script, "--help"], foreign)


def _check_output(output: Path) -> None:
    assert len(list(output.glob("*/*.tar"))) == 1


def _run(command: list[object], folder: Path) -> str:
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "RAY_ADDRESS")}
    done = subprocess.run(
        [str(part) for part in command], cwd=folder, env=environment, text=True, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout

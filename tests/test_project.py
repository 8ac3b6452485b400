"""What is written down in several places is the same in all of them: versions, pins, and what CI runs."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path

import pytest

from helix4d import __version__
from helix4d.core.extras import EXTRA_OF
from tests.package_tree import REPOSITORY


def _text(name: str) -> str:
    return (REPOSITORY / name).read_text(encoding="utf-8")


def test_version_is_the_same_everywhere() -> None:
    assert f"\nversion: {__version__}\n" in _text("CITATION.cff")
    (date,) = re.findall(r"^date-released: (\S+)$", _text("CITATION.cff"), re.MULTILINE)
    assert f"\n## [{__version__}] - {date}\n" in _text("CHANGELOG.md")


def test_pre_commit_runs_the_pinned_ruff() -> None:
    (revision,) = re.findall(r"rev: v(\S+)", _text(".pre-commit-config.yaml"))
    assert f"\nruff=={revision}\n" in _text("constraints.txt")


def test_ci_runs_the_script_with_pinned_actions() -> None:
    workflow = _text(".github/workflows/ci.yml")
    actions = re.findall(r"uses: (\S+)", workflow)
    assert actions
    assert [action for action in actions if not re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}", action)] == []
    assert "run: .ci/run\n" in workflow
    assert 'python-version: "3.11"' in workflow


def test_ci_runs_every_python_that_the_package_supports() -> None:
    declared = re.findall(r"Programming Language :: Python :: (3\.\d+)", _text("pyproject.toml"))
    assert declared == re.findall(r'"(3\.\d+)"', _text(".github/workflows/ci.yml"))


def test_every_package_with_an_extra_is_declared_there() -> None:
    """The extra that the message about a missing package names includes that package."""
    project = tomllib.loads(_text("pyproject.toml"))["project"]
    declared = {"": project["dependencies"], **project["optional-dependencies"]}
    modules = {"cv2": "opencv-python-headless", "git": "GitPython", "PIL": "pillow", "png": "pypng", "yaml": "PyYAML"}
    modules |= {
        "pxr": "usd-core",
        "skimage": "scikit-image",
        "sklearn": "scikit-learn",
        "huggingface_hub": "huggingface-hub",
    }
    for module, extra in EXTRA_OF.items():
        if module == "imageio":  # comes with scikit-image
            continue
        name = modules.get(module, module)
        assert any(re.match(rf"{name}\b", requirement) for requirement in declared[extra]), (module, extra)


def test_every_dependency_is_pinned() -> None:
    pinned = {line.partition("==")[0].lower().replace("_", "-") for line in _text("constraints.txt").splitlines()}
    declared = set(re.findall(r'"([A-Za-z][\w-]*)(?:\[\w+\])?[<>=]=?[^"]*"', _text("pyproject.toml")))
    named = {name.lower().replace("_", "-") for name in declared} - {"setuptools", "python"}
    # The GPU extras need a machine with a GPU, for which the pinned environment is not meant.
    assert sorted(named - pinned - {"numba-cuda"}) == []


@pytest.mark.parametrize("name", ["CONTRIBUTING.md", "CHANGELOG.md"])
def test_links_lead_somewhere(name: str) -> None:
    links = [link for link in re.findall(r"\]\(([^)\s]+)\)", _text(name)) if "://" not in link]
    assert links
    assert [link for link in links if not (REPOSITORY / link).exists()] == []


@pytest.mark.parametrize("status", [0, 1])
def test_an_audit_fails_unless_every_package_was_looked_up(status: int, tmp_path: Path) -> None:
    """pip-audit asks PyPI unless told otherwise, and then passes packages that it has no answer for."""
    tool = tmp_path / "bin" / "pip-audit"
    tool.parent.mkdir()
    tool.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/given\nexit {status}\n')
    tool.chmod(0o755)
    (tmp_path / ".installed").touch()
    done = subprocess.run(
        ["make", "audit", f"TOOLS={tmp_path}", "OSV=http://127.0.0.1:9/"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert bool(done.returncode) == bool(status), done.stderr
    assert ("http://127.0.0.1:9/ did not answer for all of them" in done.stderr) == bool(status)
    given = (tmp_path / "given").read_text()
    assert "--strict --vulnerability-service osv --osv-url http://127.0.0.1:9/ --requirement" in given

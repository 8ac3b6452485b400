from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from tests.package_tree import REPOSITORY, link_package


def test_imports_between_packages_follow_the_layers(tmp_path: Path) -> None:
    result = subprocess.run(
        [Path(sys.executable).parent / "lint-imports", "--no-cache", "--config", REPOSITORY / "pyproject.toml"],
        cwd=link_package(tmp_path),
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout


def test_importing_a_package_does_not_start_blender_or_ray() -> None:
    program = (
        "import sys, helix4d.assets, helix4d.voxelize, helix4d.render, helix4d.curation, helix4d.cli.main\n"
        "assert not {'bpy', 'ray', 'torch'} & sys.modules.keys(), sorted({'bpy', 'ray', 'torch'} & sys.modules.keys())"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr


def test_the_path_of_an_asset_has_ten_steps_that_name_existing_files() -> None:
    page = (REPOSITORY / "docs" / "architecture.md").read_text(encoding="utf-8")
    section = page.partition("## The path of an asset")[2].partition("\n## ")[0]
    steps = re.findall(r"^\d+\. .*$", section, re.MULTILINE)
    assert len(steps) == 10
    for step in steps:
        files = re.findall(r"`([\w/]+\.py)`", step)
        assert files, step
        assert [name for name in files if not (REPOSITORY / name).is_file()] == []

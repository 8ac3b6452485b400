"""The package as it will be installed, as a tree of links: `python -m tests.package_tree FOLDER`.

Tools that read files instead of importing them (mypy, import-linter, pdoc) cannot follow the door in
`helix4d/__init__.py`. They are shown FOLDER/helix4d, in which each package is a link to the checkout's folder.
"""

from __future__ import annotations

import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
PACKAGES = (
    *("core", "assets", "voxelize", "render", "curation"),
    *("model", "train", "evaluation", "bench_builder", "cli"),
)


def link_package(folder: Path) -> Path:
    """Make FOLDER/helix4d; returns FOLDER, for the path of a tool."""
    package = folder / "helix4d"
    package.mkdir(parents=True, exist_ok=True)
    for target in [*(REPOSITORY / name for name in PACKAGES), *(REPOSITORY / "helix4d").glob("*.py")]:
        link = package / target.name
        if not link.is_symlink():
            link.symlink_to(target)
    return folder


if __name__ == "__main__":
    link_package(Path(sys.argv[1]))

"""Child processes that find this package where their parent found it: in a checkout, a wheel or a Ray job's folder."""

from __future__ import annotations

import os
from pathlib import Path

import helix4d


def python_path() -> str:
    """`PYTHONPATH` for a child: the folder that holds `helix4d`, then whatever this process was started with."""
    root = Path(helix4d.__file__).resolve().parent.parent
    return os.pathsep.join([str(root), *filter(None, [os.environ.get("PYTHONPATH")])])


def child_environment(**variables: str) -> dict[str, str]:
    """This process's environment for `python -m helix4d...`, with `variables` on top."""
    return {**os.environ, "PYTHONPATH": python_path(), **variables}

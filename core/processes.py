"""Environment for child processes, so that they import the same `helix4d` as their parent.

The parent's copy may be a checkout, an installed wheel or the working directory of a Ray job.
"""

from __future__ import annotations

import os
from pathlib import Path

import helix4d


def python_path() -> str:
    """Return a `PYTHONPATH` that starts with the folder containing `helix4d`, followed by this process's own."""
    root = Path(helix4d.__file__).resolve().parent.parent
    return os.pathsep.join([str(root), *filter(None, [os.environ.get("PYTHONPATH")])])


def child_environment(**variables: str) -> dict[str, str]:
    """Return this process's environment, set up for `python -m helix4d`, with `variables` added or replaced."""
    return {**os.environ, "PYTHONPATH": python_path(), **variables}

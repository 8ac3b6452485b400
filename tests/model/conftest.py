"""What every test of the networks needs: one thread (the machine is shared), and nothing where torch is absent."""

from __future__ import annotations

import importlib.util

if importlib.util.find_spec("torch") is None:
    collect_ignore_glob = ["test_*.py"]
else:
    import torch

    torch.set_num_threads(1)


def pytest_report_header() -> str | None:
    """Say why the networks were not tested."""
    if importlib.util.find_spec("torch") is None:
        return "tests/model: skipped, torch is not installed (pip install -e .[model])"
    return None

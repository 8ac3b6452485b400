"""Distribution of the tests by `pytest -n 2`: each file runs in one process, and so do all tests that start Ray.

Fixtures of a module are then created once, and only one Ray instance runs at a time, as without `-n`: the ports, shared
memory and free processors that a test sees do not depend on the other process.
"""

from __future__ import annotations

from xdist.scheduler import LoadScopeScheduling

RAY = "ray"
WITH_RAY = (
    *("tests/benchmarks/test_results.py", "tests/bench_builder/", "tests/curation/", "tests/examples/"),
    *("tests/train/test_encode.py", "tests/train/test_small_world.py", "tests/train/test_ablations.py"),
    *(
        "tests/test_task_faults.py",
        "tests/test_task_memory.py",
        "tests/test_storage_faults.py",
        "tests/test_installation.py",
    ),
)
"""Files and folders whose tests start Ray, or use fixtures that do."""


def scope_of(test: str) -> str:
    """Return the group of a test, given its id. The tests of a group run in one process."""
    file = test.partition("::")[0]
    return RAY if file.startswith(WITH_RAY) else file


class Scheduling(LoadScopeScheduling):  # type: ignore[misc]
    """Groups tests by `scope_of`. The group with the most tests starts first, so that it does not finish last."""

    def _split_scope(self, nodeid: str) -> str:
        return scope_of(nodeid)

"""How `pytest -n 2` shares the tests out: a file stays in one process, and all that starts Ray stays together.

Fixtures of a module are then made once, and there is one Ray at a time, as without `-n`: what a test sees of ports,
shared memory and free processors does not depend on what the other process does.
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
    """The group of tests that stay in one process, of a test's id."""
    file = test.partition("::")[0]
    return RAY if file.startswith(WITH_RAY) else file


class Scheduling(LoadScopeScheduling):  # type: ignore[misc]
    """Groups by `scope_of`; the group with the most tests starts first, so that it does not end last."""

    def _split_scope(self, nodeid: str) -> str:
        return scope_of(nodeid)

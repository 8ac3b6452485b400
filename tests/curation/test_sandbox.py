from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from core import ReasonCode
from curation.config import Limits
from curation.sandbox import JobDied, Sandbox

CHILD = "tests.curation.children.misbehaving"


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    box = Sandbox(Limits(timeout_s=2.0, memory_gb=0.4), threads=1, module=CHILD)
    yield box
    box.close()


def test_the_child_is_kept_from_job_to_job(sandbox: Sandbox) -> None:
    events: list[object] = []
    first, peak_bytes = sandbox.run({"do": "answer"}, events.append)
    second, _ = sandbox.run({"do": "answer"}, events.append)
    assert first["pid"] == second["pid"]
    assert events == [{"event": "progress", "stage": "bake", "step": 0, "steps": 1}] * 2
    assert peak_bytes > 1e6


@pytest.mark.parametrize(
    ("deed", "code", "message"),
    [
        ("hang", ReasonCode.TIMEOUT, "not done after 2 s"),
        ("segfault", ReasonCode.CRASHED, "SIGSEGV"),
        ("exit", ReasonCode.CRASHED, "exit status 3"),
        ("eat", ReasonCode.OUT_OF_MEMORY, "more than 0.4 GB"),
    ],
)
def test_a_death_costs_one_job_and_leaves_its_log(sandbox: Sandbox, deed: str, code: ReasonCode, message: str) -> None:
    with pytest.raises(JobDied, match=message) as died:
        sandbox.run({"do": deed}, lambda event: None)
    assert died.value.code is code
    assert died.value.log == f"doing {deed}\n"
    end, _ = sandbox.run({"do": "answer"}, lambda event: None)
    assert end["event"] == "end"


def test_the_real_worker_dies_with_its_parent() -> None:
    program = textwrap.dedent(
        """
        import sys
        from curation.config import Limits
        from curation.sandbox import Sandbox
        sandbox = Sandbox(Limits(), 1)
        print(sandbox._living_child().pid, flush=True)
        sys.stdin.read()
        """
    )
    repository = Path(__file__).resolve().parents[2]
    environment = {**os.environ, "PYTHONPATH": str(repository)}
    parent = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
    )
    assert parent.stdin is not None
    assert parent.stdout is not None
    child = psutil.Process(int(parent.stdout.readline()))
    parent.kill()
    parent.communicate()
    deadline = time.monotonic() + 20
    while child.is_running() and child.status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline, "the worker outlived its parent"
        time.sleep(0.1)

from __future__ import annotations

import errno
import os
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from helix4d.core import ConfigError, ReasonCode, SetupError
from helix4d.curation.config import Limits
from helix4d.curation.work.sandbox import JobDied, Sandbox

CHILD = "tests.curation.children.misbehaving"
LIMITS = Limits(memory_gb=0.4)


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    box = Sandbox(LIMITS, threads=1, module=CHILD)
    yield box
    box.close()


def test_the_child_process_is_kept_between_jobs(sandbox: Sandbox) -> None:
    events: list[object] = []
    first, peak_bytes = sandbox.run({"do": "answer"}, events.append)
    second, _ = sandbox.run({"do": "answer"}, events.append)
    assert first["pid"] == second["pid"]
    assert events == [{"event": "progress", "stage": "bake", "step": 0, "steps": 1}] * 2
    assert peak_bytes > 1e6


@pytest.mark.parametrize(("deed", "key"), [("refuse", "refused"), ("lack a driver", "unfit"), ("raise", "outcome")])
def test_a_child_in_which_something_failed_is_replaced(sandbox: Sandbox, deed: str, key: str) -> None:
    """Its open files, its stale handles or its lost GPU may be what fails."""
    first, _ = sandbox.run({"do": deed}, lambda event: None)
    assert key in first
    second, _ = sandbox.run({"do": "answer"}, lambda event: None)
    assert second["pid"] != first["pid"]


def test_only_a_child_that_downloads_is_given_tokens(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hunter2")
    local, _ = sandbox.run({"do": "answer", "remote": None}, lambda event: None)
    assert b"hunter2" not in Path(f"/proc/{local['pid']}/environ").read_bytes()
    remote, _ = sandbox.run({"do": "answer", "remote": {"url": "https://example.org/a.glb"}}, lambda event: None)
    assert b"hunter2" in Path(f"/proc/{remote['pid']}/environ").read_bytes()


def test_blas_has_one_thread_in_a_child_with_several(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last bits of long sums depend on its number of threads, which must not affect a shard."""
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "4")
    box = Sandbox(LIMITS, threads=2, module=CHILD)
    try:
        found, _ = box.run({"do": "answer"}, lambda event: None)
        environment = Path(f"/proc/{found['pid']}/environ").read_bytes().split(b"\0")
    finally:
        box.close()
    assert {b"OPENBLAS_NUM_THREADS=1", b"OMP_NUM_THREADS=2"} <= set(environment)


@pytest.mark.parametrize(
    ("deed", "code", "message"),
    [
        ("hang", ReasonCode.TIMEOUT, "timed out after 2 s"),
        ("segfault", ReasonCode.CRASHED, "SIGSEGV"),
        ("exit", ReasonCode.CRASHED, "exit status 3"),
        ("fall silent", ReasonCode.CRASHED, "stopped responding"),
        ("eat", ReasonCode.OUT_OF_MEMORY, "limit of 0.4 GB"),
    ],
)
def test_a_death_costs_one_job_and_keeps_its_log(
    sandbox: Sandbox, deed: str, code: ReasonCode, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("helix4d.curation.work.sandbox._FAREWELL_S", 0.5)
    if deed == "hang":  # on a busy machine, two seconds may be too short for what the others do
        monkeypatch.setattr(sandbox, "_limits", replace(LIMITS, timeout_s=2.0))
    with pytest.raises(JobDied, match=message) as died:
        sandbox.run({"do": deed}, lambda event: None)
    assert died.value.code is code
    assert died.value.log == f"doing {deed}\n"
    end, _ = sandbox.run({"do": "answer"}, lambda event: None)
    assert end["event"] == "end"


def test_a_child_that_cannot_start_is_not_the_fault_of_an_asset() -> None:
    box = Sandbox(Limits(), threads=1, module="helix4d.no_such_module")
    with pytest.raises(SetupError, match=r"cannot start \(exit status 1\); it printed: .*No module named"):
        box.run({"do": "answer"}, lambda event: None)
    box.close()


def test_without_a_temporary_directory_no_asset_is_to_blame(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> str:
        raise FileNotFoundError(errno.ENOENT, "No usable temporary directory found in ['/tmp']")

    monkeypatch.setattr(tempfile, "gettempdir", fail)
    with pytest.raises(SetupError, match=r"found in \['/tmp'\]: .* set TMPDIR"):
        Sandbox(Limits(), threads=1, module=CHILD)


def test_a_child_leaves_no_temporary_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    box = Sandbox(Limits(), threads=1, module=CHILD)
    first = Path(box.run({"do": "answer"}, lambda event: None)[0]["temporary"])
    assert first.is_relative_to(tmp_path)
    assert list(first.iterdir())
    with pytest.raises(JobDied):
        box.run({"do": "segfault"}, lambda event: None)
    assert not first.exists()
    box.run({"do": "answer"}, lambda event: None)
    box.close()
    assert not list(tmp_path.iterdir())


def _serve(box: Sandbox, *deeds: str) -> list[int]:
    """Process id of the child for each job."""
    return [box.run({"do": deed}, lambda event: None)[0]["pid"] for deed in deeds]


def test_a_child_is_replaced_after_assets_per_process_jobs() -> None:
    box = Sandbox(Limits(assets_per_process=2), threads=1, module=CHILD)
    first, second, third, fourth, fifth = _serve(box, *["answer"] * 5)
    box.close()
    assert first == second != third == fourth != fifth
    assert not psutil.pid_exists(first)


@pytest.mark.parametrize("bound", [{"resting_gb": 0.1}, {"memory_gb": 0.2}])
def test_a_child_that_has_grown_is_replaced_before_the_next_job(bound: dict[str, float]) -> None:
    box = Sandbox(Limits(**bound), threads=1, module=CHILD)
    small, kept, fresh = _serve(box, "answer", "keep", "answer")
    assert small == kept != fresh
    assert 1e6 < box.resident_bytes() < 0.1e9
    box.close()
    assert box.resident_bytes() == 0


def test_a_child_is_replaced_when_other_gpus_are_reserved(monkeypatch: pytest.MonkeyPatch) -> None:
    box = Sandbox(Limits(), threads=1, module=CHILD)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    first, again = _serve(box, "answer", "answer")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    (other,) = _serve(box, "answer")
    box.close()
    assert first == again != other


def test_impossible_limits_are_refused() -> None:
    with pytest.raises(ConfigError, match="--assets-per-process 0"):
        Limits(assets_per_process=0)
    with pytest.raises(ConfigError, match="--resting-gb 0"):
        Limits(resting_gb=0)


def test_the_real_worker_dies_with_its_parent() -> None:
    program = textwrap.dedent(
        """
        import sys
        from helix4d.curation.config import Limits
        from helix4d.curation.work.sandbox import Sandbox
        sandbox = Sandbox(Limits(), 1)
        print(sandbox._living_child().pid, flush=True)
        sys.stdin.read()
        """
    )
    repository = Path(__file__).resolve().parents[3]
    environment = {**os.environ, "PYTHONPATH": str(repository)}
    parent = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
    )
    assert parent.stdin is not None
    assert parent.stdout is not None
    child = psutil.Process(int(parent.stdout.readline()))
    parent.kill()
    parent.communicate()
    deadline = time.monotonic() + 60
    while child.is_running() and child.status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline, "the worker outlived its parent"
        time.sleep(0.1)

"""The GPU kit, on a CPU: failing checks do not stop others, results are kept, only a wrong result gives status 1."""

from __future__ import annotations

import importlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from benchmarks.kit.checks import CHECKS
from benchmarks.kit.gpu_tests import FILES
from benchmarks.kit.runner import Check, Settings, run_kit

REPOSITORY = Path(__file__).resolve().parents[2]


def faulty(name: str, estimate_s: float = 0.5, limit_s: float = 30.0) -> Check:
    return Check(name, estimate_s, limit_s, f"tests.benchmarks.faulty_checks:{name}")


def run(folder: Path, *checks: Check, budget_s: float = 60.0) -> tuple[int, dict[str, dict[str, Any]]]:
    status = run_kit(checks, Settings(folder, "cpu", True, budget_s))
    document = json.loads((folder / "results.json").read_text())
    assert document["pending"] == []
    return status, {check["name"]: check for check in document["checks"]}


def verdicts(check: dict[str, Any]) -> list[str]:
    return [row["verdict"] for row in check["rows"]]


def test_crashes_hangs_and_lack_of_time_stop_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.kit.runner._CPU_PATIENCE", 1)
    checks = [faulty("good"), faulty("raises"), faulty("dies"), faulty("hangs", limit_s=2.0)]
    checks += [faulty("good_but_late", estimate_s=1000), faulty("missed"), faulty("sees_ceilings")]
    checks.append(Check("on a GPU only", 0.5, 30, "tests.benchmarks.faulty_checks:raises", needs_gpu=True))
    status, found = run(tmp_path, *checks)
    assert status == 2
    assert {name: verdicts(check) for name, check in found.items()} == {
        "good": ["measured"],
        "raises": ["measured", "crashed"],
        "dies": ["measured", "crashed"],
        "hangs": ["measured", "timed out"],
        "good_but_late": ["skipped"],
        "missed": ["missed"],
        "sees_ceilings": ["measured"],
        "on a GPU only": ["skipped"],
    }
    assert "out of luck" in found["raises"]["rows"][1]["figure"]
    assert "out of luck" in found["raises"]["log"]
    assert "in hangs" in found["hangs"]["log"], "the log does not show where it hung"
    assert "takes about 1000 s" in found["good_but_late"]["rows"][0]["figure"]
    assert found["sees_ceilings"]["rows"][0]["share"] == pytest.approx(0.5)
    assert found["sees_ceilings"]["rows"][0]["values"] == {"copy": 4e12}
    assert not _runs(int(found["hangs"]["rows"][0]["values"]["pid"])), "a process that the check started still runs"
    table = (tmp_path / "table.md").read_text()
    assert "| sees_ceilings (" in table
    assert "| 50% | measured |" in table
    assert "1 missed" in table


def test_only_a_wrong_result_is_status_1(tmp_path: Path) -> None:
    status, found = run(tmp_path, faulty("missed"), faulty("good_but_late", estimate_s=1000))
    assert status == 0
    status, found = run(tmp_path, faulty("wrong"), faulty("raises"))
    assert status == 1
    assert verdicts(found["wrong"]) == ["right", "wrong"]
    assert found["wrong"]["rows"][1]["values"] == {"error": "nan"}


@pytest.mark.parametrize(("how", "status"), [(signal.SIGKILL, -9), (signal.SIGTERM, 143)])
def test_results_survive_the_kit(how: signal.Signals, status: int, tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from benchmarks.kit.runner import *;"
        "check = lambda name: Check(name, 0.5, 20, f'tests.benchmarks.faulty_checks:{name}');"
        "run_kit([check('good'), check('hangs'), check('missed')], Settings(Path(sys.argv[1]), 'cuda', True, 60))"
    )
    kit = subprocess.Popen([sys.executable, "-c", program, tmp_path], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True)
    assert kit.stdout is not None
    assert kit.stdout.readline().startswith("good: ")
    children = _children(kit.pid)
    kit.send_signal(how)
    assert kit.wait(30) == status
    document = json.loads((tmp_path / "results.json").read_text())
    assert [check["name"] for check in document["checks"]] == ["good"]
    assert document["pending"] == ["hangs", "missed"]
    if how is signal.SIGTERM:
        psutil.wait_procs(children, timeout=10)
    running = [child for child in children if child.is_running()]
    assert len(running) == (1 if how is signal.SIGKILL else 0)
    for child in running:  # it would end at its own limit
        os.killpg(child.pid, signal.SIGKILL)


def _runs(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _children(pid: int) -> list[psutil.Process]:
    for _ in range(200):
        if children := psutil.Process(pid).children():
            return children
        time.sleep(0.05)
    raise AssertionError("the kit started no process")


def test_every_test_marked_gpu_is_in_the_kit() -> None:
    marked = [
        str(path.relative_to(REPOSITORY))
        for path in (REPOSITORY / "tests").rglob("test_*.py")
        if re.search(r"^@pytest\.mark\.gpu$", path.read_text(encoding="utf-8"), re.MULTILINE)
    ]
    assert set(marked) <= set(FILES), "name these files in benchmarks/kit/gpu_tests.py"
    assert [name for name in FILES if not (REPOSITORY / name).is_file()] == []


def test_every_check_exists() -> None:
    """Also those that need a GPU and are skipped elsewhere."""
    pytest.importorskip("torch", reason="torch is not installed (extra 'model')")
    for check in CHECKS:
        module, _, function = check.run.partition(":")
        assert callable(getattr(importlib.import_module(module), function)), check.run


def test_estimates_fit_the_budget() -> None:
    assert sum(check.estimate_s for check in CHECKS) <= 470
    assert all(check.estimate_s <= check.limit_s for check in CHECKS)


def test_make_gpu_builds_nothing_if_the_interpreter_has_torch(tmp_path: Path) -> None:
    python, calls = tmp_path / "python", tmp_path / "calls"
    python.write_text(f'#!/bin/sh\necho "$@" >> {calls}\n')
    python.chmod(0o755)
    subprocess.run(["make", "gpu", f"PYTHON={python}", "GPU_OUTPUT=there"], cwd=REPOSITORY, check=True, timeout=60)
    assert calls.read_text().splitlines() == ["-c import torch", "benchmarks/gpu_kit.py --out there"]


@pytest.mark.slow
def test_the_whole_kit_runs_on_a_cpu(tmp_path: Path) -> None:
    """Every check, at small sizes: none is wrong, crashes or is cut off, and what needs a GPU is skipped by name."""
    for package in ("torch", "triton"):
        pytest.importorskip(package, reason=f"{package} is not installed (extra 'dev')")
    command = [sys.executable, "benchmarks/gpu_kit.py", "--out", tmp_path, "--device", "cpu", "--small"]
    done = subprocess.run(
        [*command, "--seconds", "800"], cwd=REPOSITORY, capture_output=True, text=True, timeout=850, check=False
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr
    checks = json.loads((tmp_path / "results.json").read_text())["checks"]
    assert [check["name"] for check in checks] == [check.name for check in CHECKS]
    for check in checks:
        assert check["rows"], check["name"]
        assert set(verdicts(check)) <= {"right", "measured", "skipped"}, check["name"]
    assert (tmp_path / "table.md").read_text() in done.stdout

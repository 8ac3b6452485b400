"""Run checks one after another, each in a separate process with a time limit, within a total budget of seconds.

A check that hangs, crashes or corrupts the CUDA context does not affect the others, and the rows that it reported are
kept. Results are rewritten after every check, so they survive a crash of the kit.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from benchmarks.kit.context import Context
from benchmarks.kit.results import Ceilings, Outcome, Row, Verdict
from benchmarks.kit.table import page
from helix4d.core import write_bytes, write_json

REPOSITORY = Path(__file__).resolve().parents[2]
PARITY_VARIABLE = "HELIX4D_PARITY_DIR"
RESULTS, TABLE, LOG = "results.json", "table.md", "log.txt"
_GRACE_S = 1.5
"""Seconds that a timed-out process has to print its traceback before it is killed."""
_CPU_PATIENCE = 4
"""Factor on time limits without a GPU, where the machine may be busy."""
_LOG_LINES = 25


@dataclass(frozen=True)
class Check:
    """A check of the kit.

    Attributes:
        name: its name in the table.
        estimate_s: expected seconds on a GPU, imports and compilation included; skipped if fewer are left.
        limit_s: seconds after which its process is killed.
        run: "module:function"; the function maps a `Context` to an iterator of rows, each reported when it is yielded.
        needs_gpu: whether it cannot run on a CPU at all.
    """

    name: str
    estimate_s: float
    limit_s: float
    run: str
    needs_gpu: bool = False


@dataclass(frozen=True)
class Settings:
    """Settings of a run: the folder of the results, the device, small sizes, and the budget in seconds."""

    out: Path
    device: str
    small: bool
    budget_s: float


def run_kit(checks: Sequence[Check], settings: Settings) -> int:
    """Run the checks and write `results.json`, `table.md` and `log.txt`.

    Returns:
        1 if a result is wrong, else 2 if a check crashed, else 0.
    """
    start = time.monotonic()
    settings.out.mkdir(parents=True, exist_ok=True)
    (settings.out / LOG).write_text("", encoding="utf-8")
    outcomes: list[Outcome] = []
    _write(settings, outcomes, [check.name for check in checks])
    with _ends_on_sigterm():
        for number, check in enumerate(checks):
            left = settings.budget_s - (time.monotonic() - start)
            outcomes.append(_run(check, settings, left, _ceilings(outcomes)))
            _write(settings, outcomes, [later.name for later in checks[number + 1 :]])
            print(f"{check.name}: {outcomes[-1].seconds:.1f} s, {', '.join(_verdicts(outcomes[-1]))}", flush=True)
    print("\n" + (settings.out / TABLE).read_text(encoding="utf-8"))
    if any(outcome.has(Verdict.WRONG) for outcome in outcomes):
        return 1
    return 2 if any(outcome.has(Verdict.CRASHED) for outcome in outcomes) else 0


def _run(check: Check, settings: Settings, left_s: float, ceilings: Ceilings) -> Outcome:
    if check.needs_gpu and settings.device == "cpu":
        return Outcome(check.name, 0.0, (Row("needs a GPU", Verdict.SKIPPED),))
    if check.estimate_s + _GRACE_S > left_s:
        why = f"takes about {check.estimate_s:.0f} s, {max(left_s, 0):.0f} s are left"
        return Outcome(check.name, 0.0, (Row(why, Verdict.SKIPPED),))
    limit = min(check.limit_s * (1 if settings.device == "cuda" else _CPU_PATIENCE), left_s - _GRACE_S)
    context = Context(settings.device, settings.small, time.time() + limit, ceilings)
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="helix4d-kit-") as folder:
        rows, log = Path(folder) / "rows.jsonl", Path(folder) / "log.txt"
        rows.touch()
        with log.open("wb") as stream:
            command = [sys.executable, "-m", "benchmarks.kit.child", check.run, json.dumps(context.to_json()), rows]
            status = _supervise(command, settings, stream, limit + _GRACE_S)
        seconds = time.monotonic() - start
        # A line without a newline was truncated when the process was killed.
        lines = rows.read_text(encoding="utf-8").splitlines(keepends=True)
        found = [Row.from_json(json.loads(line)) for line in lines if line.endswith("\n")]
        printed = log.read_text(encoding="utf-8", errors="replace")
    with (settings.out / LOG).open("a", encoding="utf-8") as stream:
        stream.write(f"== {check.name}: {seconds:.1f} s, exit status {status}\n{printed}\n")
    if status == 0:
        return Outcome(check.name, seconds, tuple(found))
    tail = printed.splitlines()[-_LOG_LINES:]
    if status is None or seconds >= limit:
        end = Row(f"stopped after {seconds:.0f} s", Verdict.TIMED_OUT)
    else:
        end = Row(f"exit status {status}: {next(filter(None, reversed(tail)), 'no output')}", Verdict.CRASHED)
    return Outcome(check.name, seconds, (*found, end), "\n".join(tail))


def _supervise(command: Sequence[object], settings: Settings, stream: object, limit_s: float) -> int | None:
    """Return the exit status, or None if the process was killed. Children that still run are killed in both cases."""
    process = subprocess.Popen(
        [str(part) for part in command],
        cwd=REPOSITORY,
        env=_environment(settings),
        stdin=subprocess.DEVNULL,
        stdout=stream,  # type: ignore[arg-type]
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        return process.wait(limit_s)
    except subprocess.TimeoutExpired:
        return None
    finally:
        with suppress(ProcessLookupError):  # the whole group has ended
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@contextmanager
def _ends_on_sigterm() -> Iterator[None]:
    """Turn SIGTERM into an exception, so that the kit never leaves a process behind on the GPU."""

    def end(_signal: int, _frame: object) -> None:
        raise SystemExit(128 + signal.SIGTERM)

    previous = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def _environment(settings: Settings) -> Mapping[str, str]:
    path = os.pathsep.join(filter(None, [str(REPOSITORY), os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"}
    if folder := os.environ.get(PARITY_VARIABLE):
        environment[PARITY_VARIABLE] = str(Path(folder).resolve())  # checks run in another folder
    if settings.device == "cpu":
        environment |= {"TRITON_INTERPRET": "1", "CUDA_VISIBLE_DEVICES": ""}
    return environment


def _ceilings(outcomes: Sequence[Outcome]) -> Ceilings:
    """The ceilings among the values of the rows so far."""
    values = {name: value for outcome in outcomes for row in outcome.rows for name, value in row.values.items()}
    return Ceilings(values.get("copy_bytes_per_s"), values.get("matmul_flops"))


def _verdicts(outcome: Outcome) -> list[str]:
    verdicts = [row.verdict for row in outcome.rows]
    return [f"{verdicts.count(verdict)} {verdict}" for verdict in Verdict if verdict in verdicts]


def _write(settings: Settings, outcomes: Sequence[Outcome], pending: Sequence[str]) -> None:
    sizes = ", small sizes" if settings.small else ""
    title = f"GPU kit, {settings.device}{sizes}, {time.strftime('%Y-%m-%d %H:%M UTC', time.gmtime())}"
    document = {
        "version": 1,
        "title": title,
        "device": settings.device,
        "small": settings.small,
        "budget_s": settings.budget_s,
        "pending": list(pending),
        "checks": [outcome.to_json() for outcome in outcomes],
    }
    write_json(settings.out / RESULTS, document)
    write_bytes(settings.out / TABLE, page(title, outcomes).encode())

"""Runs mutants through the real worker and sandbox, without rendering: each must end in a state of its own.

What counts as a defect: any exception but `AssetError`, a dead child, more time or memory than the limits, a done asset
without a readable part, and a file left behind.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import psutil

from helix4d.assets import content_hash
from helix4d.core import AssetState, FormatError, Helix4DError, ReasonCode
from helix4d.curation.config import Limits, SampleConfig
from helix4d.curation.filters.thresholds import FilterConfig
from helix4d.curation.shards.ledger import Outcome
from helix4d.curation.shards.writer import part_members
from helix4d.curation.work.jobs import AssetJob
from helix4d.curation.work.sandbox import JobDied, Sandbox
from tests.curation.glb_mutations import Mutant, mutant

SEED = 43
MUTANTS = 2000
CPU_S = 20.0
# Wall time says little on a machine that others use; a child that sleeps is caught by it all the same.
LIMITS = Limits(timeout_s=120, memory_gb=2.0, attempts=1)
# Nothing is filtered for being still or small, so that as many mutants as possible reach the voxels.
CONFIG = SampleConfig(resolution=64, frames=4, views=0, image_size=16, filters=FilterConfig(min_size=0, min_motion=0))


@dataclass(frozen=True)
class Verdict:
    """Outcome of a mutant.

    Attributes:
        mutant: its number.
        source: name of the original asset.
        operations: what was done to it.
        end: `done`, `filtered: REASON` or `failed: REASON`.
        defect: what is wrong about that; "" for nothing.
        cpu_s: CPU time that the child spent on it.
        peak_bytes: the largest resident size of the child seen meanwhile.
    """

    mutant: int
    source: str
    operations: tuple[str, ...]
    end: str
    defect: str
    cpu_s: float
    peak_bytes: int

    def __str__(self) -> str:
        how = ", ".join(self.operations)
        return f"mutant {self.mutant} ({self.source}: {how}): {self.end}; {self.defect or 'fine'}"


WORKER = "helix4d.curation.work.worker"
DIED = "the child died: "


@dataclass(frozen=True)
class Attempt:
    """Outcome of processing a file, with the fields of `Verdict`. The defect of a dead child begins with `DIED`."""

    end: str
    defect: str
    cpu_s: float
    peak_bytes: int


def run(sources: Sequence[Path], numbers: Iterable[int], folder: Path) -> Iterator[Verdict]:
    """Process mutants of `sources`, one after the other in one child process. Nothing stays in `folder`."""
    fill_cache(sources[0], folder)
    child = sandbox()
    try:
        for number in numbers:
            yield _try(child, mutant(sources, SEED, number), folder)
    finally:
        child.close()


def figures(verdicts: Sequence[Verdict]) -> str:
    """Summarize outcomes: counts per state, and maximum time and memory."""
    ends = Counter(verdict.end for verdict in verdicts)
    lines = [f"{len(verdicts)} mutants, {sum(bool(v.defect) for v in verdicts)} defects"]
    lines += [f"  {end} {count}" for end, count in ends.most_common()]
    lines.append(f"slowest {max(v.cpu_s for v in verdicts):.1f} s of CPU time")
    lines.append(f"largest child {max(v.peak_bytes for v in verdicts) / 1e9:.2f} GB")
    return "\n".join(lines)


def sandbox(module: str = WORKER) -> Sandbox:
    """Return a sandbox with the limits of the fuzzers."""
    return Sandbox(LIMITS, threads=1, module=module)


def fill_cache(source: Path, folder: Path) -> None:
    """Fill numba's cache with an intact asset: compiling takes longer than a mutant may."""
    part = folder / "intact.part"
    sandbox = Sandbox(replace(LIMITS, timeout_s=600), threads=1)
    try:
        job = AssetJob(source.name, source, content_hash(source), part, CONFIG)
        end, _ = sandbox.run(job.to_json(), lambda event: None)
    finally:
        sandbox.close()
    if end["outcome"]["state"] != AssetState.DONE:
        raise Helix4DError(f"{source} is not done though it is intact: {end['outcome']}")
    part.unlink()


def attempt(sandbox: Sandbox, path: Path, part: Path) -> Attempt:
    """Process a file without rendering, and remove its part."""
    job = AssetJob(path.name, path, content_hash(path), part, CONFIG, memory_gb=LIMITS.memory_gb)
    child = psutil.Process(sandbox._living_child().pid)
    before = _cpu_s(child)
    cpu_s = 0.0
    try:
        end, peak_bytes = sandbox.run(job.to_json(), lambda event: None)
    except JobDied as died:
        state, defect, peak_bytes = f"failed: {died.code}", f"{DIED}{died}\n{died.log}", died.peak_bytes
    else:
        if "outcome" not in end:  # no file may be taken for a fault of the machine
            return Attempt("no outcome", f"{end}\n{sandbox.log_tail()}", cpu_s, peak_bytes)
        cpu_s = _cpu_s(child) - before
        outcome = Outcome.from_json(end["outcome"])
        state = str(outcome.state) + ("" if outcome.reason is None else f": {outcome.reason}")
        defect = _defect(outcome, part, sandbox) or (f"took {cpu_s:.0f} s of CPU time" if cpu_s > CPU_S else "")
    part.unlink(missing_ok=True)
    return Attempt(state, defect, cpu_s, peak_bytes)


def _try(sandbox: Sandbox, made: Mutant, folder: Path) -> Verdict:
    path = folder / "mutant.glb"
    path.write_bytes(made.data)
    tried = attempt(sandbox, path, folder / "mutant.part")
    path.unlink()
    left = [entry.name for entry in folder.iterdir()]
    for name in left:
        (folder / name).unlink()
    defect = tried.defect or (f"left {left} behind" if left else "")
    return Verdict(made.number, made.source, made.operations, tried.end, defect, tried.cpu_s, tried.peak_bytes)


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _defect(outcome: Outcome, part: Path, sandbox: Sandbox) -> str:
    if outcome.reason in (ReasonCode.CRASHED, ReasonCode.TIMEOUT):
        return f"{outcome.message}\n{sandbox.log_tail()}"
    if outcome.state is not AssetState.DONE:
        return "" if outcome.reason is not None and outcome.message else "no reason or no message"
    try:
        members = part_members(part)
    except (OSError, FormatError) as error:
        return f"done without a readable part: {error}"
    wanted = [f"{key}.{name}" for key in sorted(outcome.keys) for name in _members()]
    return "" if members == wanted else f"its part holds {members}"


def _members() -> list[str]:
    return ["clip.json", *(f"frame_{frame:02d}.vxz" for frame in range(CONFIG.frames))]

"""The tests marked `gpu`, in one pytest process; FlexAttention's, which are slow to compile, run in its own check."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence

from benchmarks.kit.context import Context
from benchmarks.kit.results import Row, Verdict
from benchmarks.kit.runner import REPOSITORY

FILES = (
    "tests/model/test_sparse.py",
    "tests/model/test_pointwise.py",
    "tests/model/test_flow_video.py",
    "tests/model/test_attention.py",
    "tests/model/test_graphs.py",
    "tests/model/test_conditioning.py",
    "tests/train/test_devices.py",
    "tests/evaluation/test_alignment.py",
    "tests/evaluation/test_chamfer.py",
    "tests/voxelize/test_gpu.py",
)
_RESULT = re.compile(r"^(\S+\.py)::(.+?) (PASSED|FAILED|ERROR|SKIPPED|XFAIL|XPASS)\b")
_NOT_COLLECTED = re.compile(r"^ERROR (\S+\.py)(?: - |$)")
_BAD = ("FAILED", "ERROR", "XPASS")


def run(context: Context) -> Iterator[Row]:
    """Run all but FlexAttention's."""
    yield from run_tests(context, context.pick(FILES, FILES[:1]), "not flex")


def run_tests(context: Context, files: Sequence[str], expression: str) -> Iterator[Row]:
    """Run the tests of `files` that are marked `gpu` and match pytest's `-k`: a row per failure, then one per file."""
    command = [sys.executable, "-m", "pytest", "-v", "-m", "gpu", "-k", expression, "--tb=short"]
    command += ["-p", "no:cacheprovider", "--continue-on-collection-errors", "-W", "ignore::pytest.PytestConfigWarning"]
    results: dict[str, Counter[str]] = {file: Counter() for file in files}
    with subprocess.Popen(
        [*command, *files],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            print(line, end="")
            if match := _RESULT.match(line):
                file, test, result = match.groups()
                results[file][result] += 1
                if result in _BAD:
                    yield Row(f"{file}: {test} {result.lower()}", Verdict.WRONG)
            elif match := _NOT_COLLECTED.match(line):
                yield Row(line.strip(), Verdict.CRASHED)
    for file, counts in results.items():
        yield _summary(file, counts)
    # 0: all passed; 1: some failed, as reported above; 5: none was selected, as the files' rows say.
    if process.returncode not in (0, 1, 5):
        yield Row(f"pytest ended with exit status {process.returncode}: see log.txt", Verdict.CRASHED)


def _summary(file: str, counts: Counter[str]) -> Row:
    totals = ", ".join(f"{count} {result.lower()}" for result, count in sorted(counts.items()))
    if counts["PASSED"] and not any(counts[result] for result in _BAD):
        return Row(f"{file}: {totals}", Verdict.RIGHT, "all pass")
    if counts["PASSED"] or any(counts[result] for result in _BAD):
        return Row(f"{file}: {totals}", Verdict.WRONG, "all pass")
    return Row(f"{file}: {totals or 'no tests marked gpu'}", Verdict.SKIPPED, "all pass")

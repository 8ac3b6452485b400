"""Injects faults of processes, nodes and disks into real runs: nothing is lost or duplicated, and bytes stay equal."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from helix4d.core import AssetState, ReasonCode
from helix4d.curation.shards.ledger import Ledger, Outcome
from helix4d.curation.shards.sidecar import read_sidecar
from helix4d.curation.verify.output import verify
from tests.curation.faults.sitecustomize import marker
from tests.curation.runs import curate, hashes, start
from tests.mounts import mounted, needs_mounts

pytestmark = pytest.mark.slow

FAULTS = Path(__file__).parent / "faults"
PLAIN = {"views": 0, "workers": 2}
"""Settings without rendering, for faults that do not need it: such runs take seconds."""


@pytest.fixture(scope="module")
def plain_output(sample_source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output of an undisturbed run without images over `sample_source`."""
    output = tmp_path_factory.mktemp("plain")
    curate(sample_source, output, **PLAIN)
    return output


@pytest.fixture
def inject(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[str, str]], None]:
    """Assigns faults of `faults/sitecustomize.py` to assets, for the runs that the test starts."""

    def install(faults: dict[str, str]) -> None:
        table = tmp_path / "faults.json"
        table.write_text(json.dumps(faults))
        monkeypatch.setenv("HELIX4D_TEST_FAULTS", str(table))
        monkeypatch.setenv("PYTHONPATH", str(FAULTS))

    return install


def good_assets(reference: Path) -> list[str]:
    """Return the names of the assets that an undisturbed run completes, sorted."""
    outcomes = Ledger(reference / "ledger.jsonl").outcomes.values()
    return sorted(outcome.asset for outcome in outcomes if outcome.state is AssetState.DONE)


def check_undisturbed(output: Path, reference: Path) -> None:
    """Assert that shards and states equal those of the undisturbed run."""
    assert hashes(output) == hashes(reference)
    ends, wanted = _ends(output), _ends(reference)
    assert ends == wanted
    keys = [key for _, _, keys in ends.values() for key in keys]
    assert len(keys) == len(set(keys))
    assert [str(problem) for problem in verify(output, workers=1).problems] == []


def _ends(output: Path) -> dict[str, tuple[AssetState, ReasonCode | None, tuple[str, ...]]]:
    outcomes: dict[str, Outcome] = Ledger(output / "ledger.jsonl").outcomes
    return {name: (outcome.state, outcome.reason, outcome.keys) for name, outcome in outcomes.items()}


def check_nothing_partial(output: Path) -> None:
    """Assert that every file with its final name is complete."""
    for tar in output.glob("*/*.tar"):
        assert read_sidecar(tar) is None or tar.stat().st_size == (read_sidecar(tar) or {})["bytes"]
    assert not list(output.glob("*/.*.tmp"))


def test_crashes_hangs_and_memory_cost_one_attempt_and_poison_is_isolated(
    sample_source: Path, reference_output: Path, tmp_path: Path, inject: Callable[[dict[str, str]], None]
) -> None:
    output = tmp_path / "out"
    good = good_assets(reference_output)
    faults = dict(zip(good, ["segfault-once", "hang-once", "eat-once", "kill-once", "segfault"], strict=True))
    inject(faults)
    printed = curate(sample_source, output, workers=2, timeout_s=45, memory_gb=2)
    outcomes = Ledger(output / "ledger.jsonl").outcomes
    poison = outcomes[good[4]]
    assert (poison.state, poison.reason, poison.attempts) == (AssetState.FAILED, ReasonCode.CRASHED, 2), printed
    assert poison.stage == "render"
    assert "SIGSEGV" in poison.message
    assert "now: segfault" in poison.log
    assert "Segmentation fault" in poison.log
    for name in good[:4]:
        assert (outcomes[name].state, outcomes[name].attempts) == (AssetState.DONE, 2), outcomes[name]
    assert not verify(output, workers=1).problems
    inject({})
    curate(sample_source, output, workers=2, retry_failed=True)
    check_undisturbed(output, reference_output)


def test_an_asset_that_always_kills_its_ray_worker_fails_alone(
    sample_source: Path, plain_output: Path, tmp_path: Path, inject: Callable[[dict[str, str]], None]
) -> None:
    output = tmp_path / "out"
    once, always, *_ = good_assets(plain_output)
    inject({once: "kill-ray-worker-once", always: "kill-ray-worker"})
    curate(sample_source, output, **PLAIN)
    outcomes = Ledger(output / "ledger.jsonl").outcomes
    assert outcomes[once].state is AssetState.DONE
    poison = outcomes[always]
    assert (poison.state, poison.reason, poison.attempts) == (AssetState.FAILED, ReasonCode.CRASHED, 4)
    assert "lost 4 times" in poison.message
    inject({})
    curate(sample_source, output, **PLAIN, retry_failed=True)
    check_undisturbed(output, plain_output)


def test_a_machine_without_what_every_asset_needs_ends_the_run_and_marks_nothing(
    sample_source: Path, plain_output: Path, tmp_path: Path, inject: Callable[[dict[str, str]], None]
) -> None:
    output = tmp_path / "out"
    last = good_assets(plain_output)[-1]
    inject({last: "lack-a-driver"})
    process = start(sample_source, output, **PLAIN)
    printed, _ = process.communicate(timeout=300)
    assert process.returncode == 2, printed
    assert f"node {platform.node()}: no driver" in printed
    assert "Traceback" not in printed
    ended = Ledger(output / "ledger.jsonl").outcomes
    assert last not in ended
    assert not [outcome for outcome in ended.values() if outcome.reason is ReasonCode.CRASHED]
    inject({})
    curate(sample_source, output, **PLAIN)
    check_undisturbed(output, plain_output)


def _bytes_of_shards(output: Path) -> int:
    return sum(path.stat().st_size for path in output.glob("*/*"))


@needs_mounts
def test_a_full_disk_stops_the_run_and_free_space_resumes_it(
    sample_source: Path, plain_output: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    room = _bytes_of_shards(plain_output) // 2
    with mounted(output, "-t", "tmpfs", "-o", f"size={room}", "tmpfs"):
        process = start(sample_source, output, **PLAIN, patience_s=3)
        printed, _ = process.communicate(timeout=300)
        assert process.returncode == 2, printed
        assert "could not be written for 3 s (No space left on device)" in printed
        assert "Traceback" not in printed
        check_nothing_partial(output)
        ended = Ledger(output / "ledger.jsonl").outcomes
        assert not [outcome for outcome in ended.values() if outcome.reason is ReasonCode.CRASHED]
        subprocess.run(["mount", "-o", "remount,size=1g", str(output)], check=True)
        curate(sample_source, output, **PLAIN)
        check_undisturbed(output, plain_output)


@needs_mounts
def test_a_run_waits_for_an_output_that_refuses_writes(sample_source: Path, plain_output: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    process = start(sample_source, output, **PLAIN)
    printed: list[str] = []
    assert process.stdout is not None
    stream = process.stdout
    reader = threading.Thread(target=lambda: printed.extend(stream))
    reader.start()
    _wait(lambda: (output / "ledger.jsonl").exists(), process)
    # The same folder, mounted read-only: every process now sees it under this path.
    with mounted(output, "--bind", "-o", "ro", str(output)):
        _wait(lambda: any("cannot be written (Read-only file system)" in line for line in printed), process)
    process.wait(timeout=300)
    reader.join()
    assert process.returncode == 0, "".join(printed)
    check_undisturbed(output, plain_output)


def _wait(reached: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 120
    while not reached():
        assert process.poll() is None, f"the run ended too early: {process.communicate()[0]}"
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_lost_node_costs_only_its_own_work(
    sample_source: Path, plain_output: Path, tmp_path: Path, inject: Callable[[dict[str, str]], None]
) -> None:
    from ray.cluster_utils import Cluster

    output = tmp_path / "out"
    # An asset hangs on the only node; another node comes, and the first is lost.
    stuck = good_assets(plain_output)[0]
    inject({stuck: "hang-once"})
    os.environ["PYTHONPATH"] = os.pathsep.join([str(FAULTS.parents[2]), str(FAULTS)])
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    try:
        doomed = cluster.add_node(num_cpus=1)
        cluster.wait_for_nodes()
        process = start(sample_source, output, views=0, address=cluster.address)
        _wait(lambda: marker(tmp_path, stuck).exists(), process)
        cluster.add_node(num_cpus=1)
        cluster.remove_node(doomed, allow_graceful=False)
        printed, _ = process.communicate(timeout=300)
        assert process.returncode == 0, printed
    finally:
        cluster.shutdown()
    check_undisturbed(output, plain_output)

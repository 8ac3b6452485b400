from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pyarrow.parquet
import pytest
import webdataset as wds

from helix4d.core import AssetState, ReasonCode
from helix4d.core.locks import locked
from helix4d.curation.publish.describe import DESCRIPTION_FILES
from helix4d.curation.shards.ledger import Ledger
from helix4d.curation.shards.reader import ShardReader
from helix4d.curation.shards.sidecar import read_sidecar
from helix4d.voxelize import decode_vxz
from tests.curation.runs import REPOSITORY, SMALL, arguments, curate, hashes, start
from tests.environments import make_environment

pytestmark = pytest.mark.slow


def test_every_asset_ends_once_and_the_totals_add_up(reference_output: Path) -> None:
    outcomes = Ledger(reference_output / "ledger.jsonl").outcomes
    states = {name: (outcome.state, outcome.reason) for name, outcome in outcomes.items()}
    assert len(states) == 7
    assert states["broken.glb"] == (AssetState.FAILED, ReasonCode.NOT_GLTF)
    duplicates = [name for name, (_, reason) in states.items() if reason is ReasonCode.DUPLICATE]
    assert len(duplicates) == 1
    summary = json.loads((reference_output / "summary.json").read_text())
    assert sum(summary["counts"].values()) == summary["assets"] == 7
    assert summary["counts"]["done"] == summary["samples"] == 5
    assert (summary["ended"], summary["workers"], summary["attempts"]) == (6, 1, 7)
    assert 0 < summary["utilization"] <= 1
    assert summary["assets_per_hour"] > 0
    assert summary["slowest_s"].keys() == summary["timings_s"].keys() >= {"bake", "voxelize", "render", "pack"}
    assert not (reference_output / "work").exists()
    assert (reference_output / "contact_sheet.webp").stat().st_size > 1000
    rows = pyarrow.parquet.read_table(reference_output / "index").to_pylist()
    assert {row["key"] for row in rows} == {key for outcome in outcomes.values() for key in outcome.keys}
    assert all((reference_output / name).exists() for name in DESCRIPTION_FILES)


def test_samples_are_complete_and_plain_webdataset_reads_them(reference_output: Path) -> None:
    shards = sorted(str(path) for path in reference_output.glob("*/*.tar"))
    samples = list(wds.WebDataset(shards, shardshuffle=False, empty_check=False).decode("rgba8"))
    assert len(samples) == 5
    for sample in samples:
        clip = sample["clip.json"]
        assert clip["key"] == sample["__key__"]
        assert len(clip["voxels"]) == SMALL["--frames"]
        for frame in range(4):
            ovoxel = decode_vxz(sample[f"frame_{frame:02d}.vxz"])
            assert len(ovoxel.coords) == clip["voxels"][frame]
            for view in range(2):
                image = sample[f"view_{view:02d}_frame_{frame:02d}.webp"]
                assert image.shape == (48, 48, 4)
                assert image[..., 3].any() == (clip["voxels"][frame] > 0)
        for view in range(2):
            assert len(sample[f"view_{view:02d}.json"]["camera"]["extrinsics"]) == 4


def test_the_sidecar_finds_single_members(reference_output: Path) -> None:
    path = next(path for path in sorted(reference_output.glob("train/*.tar")) if ShardReader(path).keys())
    reader = ShardReader(path)
    key = reader.keys()[0]
    assert json.loads(reader.read(key, "clip.json"))["key"] == key
    assert reader.sample(key)["tokens"] == json.loads(reader.read(key, "clip.json"))["tokens"]
    assert reader.read(key, "view_01_frame_03.webp")[:4] == b"RIFF"


def test_two_workers_write_what_one_worker_wrote(sample_source: Path, reference_output: Path, tmp_path: Path) -> None:
    curate(sample_source, tmp_path / "out", workers=2)
    assert hashes(tmp_path / "out") == hashes(reference_output)


def _ledger_lines(output: Path) -> int:
    ledger = output / "ledger.jsonl"
    return ledger.read_bytes().count(b"\n") if ledger.exists() else 0


KILL_POINTS: dict[str, Callable[[Path], bool]] = {
    "in the middle of the first asset": lambda output: any(output.glob("work/*/*/.*.tmp")) or _ledger_lines(output) > 1,
    "after three assets": lambda output: _ledger_lines(output) >= 4,
    "after the first shard": lambda output: any(output.glob("train/*.json")),
}


def test_a_run_killed_three_times_writes_the_same_bytes(
    sample_source: Path, reference_output: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    for name, reached in KILL_POINTS.items():
        process = start(sample_source, output, workers=1)
        deadline = time.monotonic() + 300
        while not reached(output):
            assert process.poll() is None, f"ended before it was killed {name}: {process.communicate()[0]}"
            assert time.monotonic() < deadline, name
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
        process.wait()
        for tar in output.glob("*/*.tar"):
            assert read_sidecar(tar) is None or ShardReader(tar).keys() is not None
    printed = curate(sample_source, output, workers=2)
    assert hashes(output) == hashes(reference_output)
    assert "│ total" in printed
    outcomes = Ledger(output / "ledger.jsonl").outcomes
    keys = [key for outcome in outcomes.values() for key in outcome.keys]
    assert len(keys) == len(set(keys)) == 5


def test_a_finished_run_has_nothing_to_do(reference_output: Path, sample_source: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    shutil.copytree(reference_output, output)
    before = (output / "ledger.jsonl").read_bytes()
    curate(sample_source, output)
    assert hashes(output) == hashes(reference_output)
    assert (output / "ledger.jsonl").read_bytes() == before


def test_failed_assets_are_retried_on_request(sample_source: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    curate(sample_source, output, limit=3, timeout_s=0.01)
    outcomes = Ledger(output / "ledger.jsonl").outcomes
    timeouts = [o for o in outcomes.values() if o.reason is ReasonCode.TIMEOUT]
    assert timeouts
    assert all(outcome.attempts == 2 for outcome in timeouts)
    curate(sample_source, output, limit=3, retry_failed=True)
    again = Ledger(output / "ledger.jsonl").outcomes
    assert not [o for o in again.values() if o.reason is ReasonCode.TIMEOUT]
    assert len([o for o in again.values() if o.state is AssetState.DONE]) == len(timeouts) - 1  # one file is broken
    curate(sample_source, tmp_path / "straight", limit=3)
    assert hashes(output) == hashes(tmp_path / "straight")


def test_different_settings_are_rejected(sample_source: Path, reference_output: Path) -> None:
    process = start(sample_source, reference_output, resolution=128)
    printed, _ = process.communicate(timeout=120)
    assert process.returncode == 2
    assert "resolution was 64, now 128" in printed
    process = start(sample_source, reference_output, limit=2)
    printed, _ = process.communicate(timeout=120)
    assert process.returncode == 2
    assert "5 removed" in printed


def test_a_second_driver_is_rejected(sample_source: Path, reference_output: Path) -> None:
    with locked(reference_output):
        process = start(sample_source, reference_output)
        printed, _ = process.communicate(timeout=120)
    assert process.returncode == 2
    assert "another run is writing there" in printed


def test_a_dry_run_prints_the_plan_and_writes_nothing(sample_source: Path, tmp_path: Path) -> None:
    printed = curate(sample_source, tmp_path / "out", dry_run=True)
    assert "1 asset left out, filtered: duplicate" in printed
    assert "resolution=64" in printed
    assert not (tmp_path / "out").exists()


RAY = ("python", "-m", "ray.scripts.scripts")


@pytest.fixture
def ray_head(tmp_path: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """A local Ray head with dashboard, in an environment with the dependencies but without helix4d.

    Yields the address for jobs, and the environment to reach it.
    """
    python = make_environment(tmp_path / "environment")
    token = tmp_path / "token"
    token.write_text("0123456789abcdef0123456789abcdef")
    environment = {
        **{name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token),
        "RAY_USAGE_STATS_ENABLED": "0",
        "PATH": f"{python.parent}{os.pathsep}{os.environ['PATH']}",
    }
    absent = subprocess.run([python, "-c", "import helix4d"], cwd=tmp_path, env=environment, capture_output=True)
    assert absent.returncode != 0, "helix4d is installed there"
    gcs, dashboard = _free_port(), _free_port()
    ports = [f"--port={gcs}", f"--dashboard-port={dashboard}"]
    # The paths of a session's sockets have a length limit: pytest's folders are too deep.
    with tempfile.TemporaryDirectory(prefix="h4d-", ignore_cleanup_errors=True) as session:
        head = subprocess.Popen(
            [*RAY, "start", "--head", "--block", "--num-cpus=2", *ports, f"--temp-dir={session}"],
            cwd=tmp_path,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            _wait_for_port(dashboard)
            yield f"http://127.0.0.1:{dashboard}", environment
        finally:
            # Asked to end, Ray would take its time.
            process = psutil.Process(head.pid)
            started = [*process.children(recursive=True), process]
            for process in started:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
            head.wait(timeout=60)
            psutil.wait_procs(started, timeout=60)


def test_ray_job_submit_completes_the_samples(
    ray_head: tuple[str, dict[str, str]], sample_source: Path, reference_output: Path, tmp_path: Path
) -> None:
    address, environment = ray_head
    output = tmp_path / "out"
    job = ["python", "curation/pipeline.py", *arguments(sample_source, output)]
    submitted = _submit([*RAY, "job", "submit", "--address", address, "--working-dir", ".", "--", *job], environment)
    assert submitted.returncode == 0, submitted.stdout
    assert "succeeded" in submitted.stdout
    assert hashes(output) == hashes(reference_output)


def _submit(command: list[str], environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Submit a job and wait for it. The dashboard answers before the agent that starts jobs is there."""
    deadline = time.monotonic() + 120
    while True:
        submitted = subprocess.run(
            command,
            cwd=REPOSITORY,
            env=environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=300,
            check=False,
        )
        if "No available agent to submit job" not in submitted.stdout or time.monotonic() > deadline:
            return submitted
        time.sleep(2)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_for_port(port: int) -> None:
    deadline = time.monotonic() + 60
    while True:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        assert time.monotonic() < deadline, f"nothing listens on port {port}"
        time.sleep(0.2)

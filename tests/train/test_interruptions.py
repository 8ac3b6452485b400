"""Runs that are stopped, killed, or refused by storage leave a valid checkpoint, and resume from it."""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import fsspec
import pytest
import torch
import yaml
from safetensors.torch import load

from helix4d.core import StorageError
from helix4d.curation.places.store import StoreError
from helix4d.train import output, step
from helix4d.train.checkpoint import list_checkpoints, load_checkpoint
from helix4d.train.config import TrainConfig
from helix4d.train.export import export_run
from helix4d.train.loop import train
from helix4d.train.metrics import Metrics, read_metrics
from tests.mounts import mounted, needs_mounts
from tests.packages import needs
from tests.train import world
from tests.train.faulty import inject
from tests.train.test_loop import break_member

REPOSITORY = Path(__file__).parents[2]
Folders = tuple[Path, Path, Path]


@pytest.fixture(scope="module")
def folders(latents: Path, shards: Path, models: Path) -> Folders:
    return latents, shards, models


def torchrun(config: Path, faults: dict[str, Any], *options: str) -> subprocess.Popen[bytes]:
    """Start two ranks on this machine."""
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", *options]
    command = [*launch, "-m", "tests.train.faulty", json.dumps(faults), "--config", str(config)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, cwd=REPOSITORY, env=environment, stderr=subprocess.PIPE, start_new_session=True)


def ranks_of(process: subprocess.Popen[bytes]) -> list[int]:
    """Return the process ids of torchrun's children (Linux)."""
    return [int(pid) for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]


def wait_for(condition: Callable[[], Any], process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert process.poll() is None, process.communicate()[1].decode()
        assert time.monotonic() < deadline
        time.sleep(0.02)


def write_yaml(folder: Path, values: dict[str, Any]) -> Path:
    path = folder / "run.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


@needs("tyro")
@pytest.mark.parametrize(
    ("slow_s", "patience_s"), [(3.0, 9), pytest.param(10.0, 30, marks=pytest.mark.acceptance, id="40 s")]
)
def test_a_signal_in_a_long_step_drops_the_step_and_saves(
    slow_s: float, patience_s: int, folders: Folders, tmp_path: Path
) -> None:
    """Steps of four microbatches take longer than torchrun waits before it kills the ranks."""
    values = {**world.train_values("geometry", *folders, tmp_path), "steps": 1000, "batch": 8}
    values |= {"tokens_per_microbatch": 1}  # one clip each
    values["run"]["save_every"] = 1000
    config, run = write_yaml(tmp_path, values), tmp_path / "geometry"
    limit = f"--shutdown-timeout={patience_s}"
    process = torchrun(config, {"after": 4, "slow_s": slow_s}, limit)
    wait_for(lambda: read_metrics(run), process)
    time.sleep(slow_s / 2)  # within the first slow microbatch
    process.terminate()
    process.communicate(timeout=120)
    assert [place.name for place in list_checkpoints(run)] == ["step_00000001"]
    assert len(read_metrics(run)) == 1

    process = torchrun(config, {"after": 4, "slow_s": slow_s}, limit)
    wait_for(lambda: len(read_metrics(run)) == 2, process)
    start = time.monotonic()
    os.kill(ranks_of(process)[1], signal.SIGUSR1)  # only one of the ranks
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors.decode()
    assert time.monotonic() - start < 4 * slow_s + 4  # not the whole of the step, and the end of the processes
    assert [place.name for place in list_checkpoints(run)] == ["step_00000001", "step_00000002"]


def test_a_signal_is_seen_before_the_next_microbatch(
    folders: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The signal arrives in the second of four microbatches of the second step."""
    config = world.train_config("geometry", *folders, tmp_path, steps=5, batch=4, tokens_per_microbatch=1)
    original, calls = step.squared_errors, []

    def signaled(*arguments: Any) -> torch.Tensor:
        calls.append(1)
        if len(calls) == 6:
            os.kill(os.getpid(), signal.SIGUSR1)
        return original(*arguments)

    monkeypatch.setattr(step, "squared_errors", signaled)
    assert train(config).step == 1
    assert len(calls) == 6
    monkeypatch.undo()
    train(config)
    train(whole := replace(config, name="whole"))
    assert [line["loss"] for line in read_metrics(config.folder)] == [
        line["loss"] for line in read_metrics(whole.folder)
    ]


@needs("tyro")
def test_a_killed_rank_is_restarted_and_a_clip_that_exceeds_the_memory_is_skipped(
    folders: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two ranks with a broken clip, one that never fits into memory, and a SIGKILL train like one process without."""
    broken = break_member(folders[0], "train/helix4d-000000.tar", 1, tmp_path / "latents")
    values = world.train_values("geometry", tmp_path / "latents", *folders[1:], tmp_path / "two")
    values |= {"steps": 12, "batch": 4}
    one = world.build(TrainConfig, {**values, "run": {**values["run"], "output": str(tmp_path / "one")}}, "test")
    large = next(key for key in world.keys(folders[1]) if key != broken)
    run = tmp_path / "two/geometry"
    process = torchrun(write_yaml(tmp_path, values), {"after": 6, "slow_s": 0.3, "oom": [large]}, "--max-restarts=1")
    wait_for(lambda: len(list_checkpoints(run)) > 1, process)
    os.kill(ranks_of(process)[1], signal.SIGKILL)
    _, errors = process.communicate(timeout=240)
    assert process.returncode == 0, errors.decode()
    assert b"resuming from step" in errors
    assert f"does not fit into memory: {large}".encode() in errors
    state = load_checkpoint(list_checkpoints(run)[-1]).state
    assert (state.step, state.broken) == (12, tuple(sorted((broken, large))))
    monkeypatch.setattr(step, "squared_errors", inject({"oom": [large]}))
    assert train(one).broken == state.broken
    losses = [[line["loss"] for line in read_metrics(place)] for place in (run, one.folder)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_a_microbatch_that_exceeds_the_memory_is_split_before_a_clip_is_skipped(
    folders: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A pass over several clips fails, over any of them alone succeeds: nothing is lost."""
    changes: dict[str, Any] = {"batch": 4, "steps": 2}
    plain = world.train_config("geometry", *folders, tmp_path / "plain", **changes, tokens_per_microbatch=1)
    small = world.train_config("geometry", *folders, tmp_path / "small", **changes)
    original, sizes = step.squared_errors, []

    def limited(network: Any, batch: Any, *others: Any) -> torch.Tensor:
        sizes.append(len(batch.keys))
        if len(batch.keys) > 1:
            raise torch.OutOfMemoryError("tried to allocate 99 GiB")
        return original(network, batch, *others)

    monkeypatch.setattr(step, "squared_errors", limited)
    assert train(small).broken == ()
    assert sizes == 2 * [4, 1, 1, 1, 1]
    assert "does not fit into memory" in caplog.text
    monkeypatch.undo()
    train(plain)
    a, b = (load_checkpoint(list_checkpoints(config.folder)[-1]).model for config in (plain, small))
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_training_goes_on_while_a_checkpoint_is_written(
    folders: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first checkpoint is not written until step 5 has been logged, and holds the weights of step 3."""
    config = world.train_config("geometry", *folders, tmp_path / "slow", steps=6)
    config = replace(config, run=replace(config.run, save_every=3))
    reference = replace(config, steps=3, run=replace(config.run, output=str(tmp_path / "reference")))
    train(reference)
    save, reached = output.save_checkpoint, threading.Event()

    def late(*arguments: Any) -> Path:
        assert reached.wait(20)
        return save(*arguments)

    write = Metrics.write

    def note(self: Metrics, values: dict[str, Any]) -> None:
        write(self, values)
        if values["step"] == 5:
            reached.set()

    monkeypatch.setattr(output, "save_checkpoint", late)
    monkeypatch.setattr(Metrics, "write", note)
    train(config)
    a, b = (load_checkpoint(c.folder / "checkpoints/step_00000003") for c in (config, reference))
    for part in ("model", "ema", "optimizer"):
        x, y = getattr(a, part), getattr(b, part)
        assert all(torch.equal(x[name], y[name]) for name in x)
    assert len(list_checkpoints(config.folder)) == 2


@needs_mounts
def test_a_full_disk_is_waited_for(folders: Folders, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    values = world.train_values("geometry", *folders, tmp_path / "disk")
    values["run"] |= {"save_every": 8, "patience_s": 60}
    config = world.build(TrainConfig, values, "test")
    filler = tmp_path / "disk/filler"

    def free() -> None:
        while "cannot be written" not in caplog.text:
            time.sleep(0.05)
        filler.unlink()

    with mounted(tmp_path / "disk", "-t", "tmpfs", "-o", "size=2m", "tmpfs"):
        filler.write_bytes(bytes((2 << 20) - 200_000))  # room for the metrics, not for the weights
        cleaner = threading.Thread(target=free, daemon=True)
        cleaner.start()
        assert train(config).step == 8
        cleaner.join(10)
        assert load_checkpoint(list_checkpoints(config.folder)[-1]).state.step == 8
        shutil.rmtree(config.folder)
        filler.write_bytes(bytes((2 << 20) - 200_000))
        impatient = replace(config, run=replace(config.run, patience_s=0.1))
        with pytest.raises(StorageError, match=r"could not be written for 0\.1 s \(No space left on device\)"):
            train(impatient)


def remote(folders: Folders, url: str, tmp_path: Path, steps: int) -> TrainConfig:
    values = {**world.train_values("geometry", *folders, tmp_path), "steps": steps}
    values["run"] |= {"output": url, "work": str(tmp_path / "work"), "keep_last": 2, "keep_every": 3}
    return world.build(TrainConfig, values, "test")


def test_a_run_at_a_url_resumes_exactly_on_another_machine(
    folders: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    url = f"memory://runs/{tmp_path.name}"
    whole = world.train_config("geometry", *folders, tmp_path / "whole")
    train(whole)
    train(remote(folders, url, tmp_path / "first", 5))
    train(remote(folders, url, tmp_path / "second", 8))
    assert not list(tmp_path.glob("memory*"))
    store = fsspec.filesystem("memory")
    names = {name.partition("checkpoints/")[2] for name in store.find(f"{url}/geometry/checkpoints")}
    assert {name.split("/")[0] for name in names} == {"step_00000006", "step_00000008"}
    files = ("model", "ema", "optimizer")
    for name in files:
        ours = load(store.cat_file(f"{url}/geometry/checkpoints/step_00000008/{name}.safetensors"))
        theirs = load((list_checkpoints(whole.folder)[-1] / f"{name}.safetensors").read_bytes())
        assert all(torch.equal(ours[key], theirs[key]) for key in theirs)
    lines = read_metrics(f"{url}/geometry")
    assert [line["loss"] for line in lines] == [line["loss"] for line in read_metrics(whole.folder)]
    assert export_run(f"{url}/geometry", tmp_path / "model") == "shape_slat_flow_model_512"


def test_a_checkpoint_at_a_url_is_committed_last(
    folders: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An upload that ends half-way is not a checkpoint, and is removed by the next one."""
    url = f"memory://runs/{tmp_path.name}"
    config = remote(folders, url, tmp_path, 4)
    train(config)
    store = fsspec.filesystem("memory")
    last = list_checkpoints(config.place)[-1]
    assert last.endswith("step_00000004")
    store.rm(f"{last}/state.json")
    assert [place[-1] for place in list_checkpoints(config.place)] == ["2"]
    train(remote(folders, url, tmp_path, 6))
    assert [place[-1] for place in list_checkpoints(config.place)] == ["4", "6"]

    def refuse(*_: Any) -> None:
        raise StoreError("the bucket is gone")

    monkeypatch.setattr(output.Store, "upload", refuse)
    impatient = remote(folders, url, tmp_path, 8)
    with pytest.raises(StoreError, match="the bucket is gone"):
        train(replace(impatient, run=replace(impatient.run, patience_s=0.1)))

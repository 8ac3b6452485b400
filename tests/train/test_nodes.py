"""Several torchrun agents, as on several nodes, which connect through a rendezvous."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from helix4d.train.checkpoint import list_checkpoints, load_checkpoint
from helix4d.train.config import TrainConfig
from helix4d.train.loop import train
from helix4d.train.metrics import read_metrics
from tests.packages import needs
from tests.train import world

REPOSITORY = Path(__file__).parents[2]
NODES = 2


def slurm(folder: Path, *arguments: str) -> subprocess.Popen[bytes]:
    """Run the Slurm script on two nodes, which are this machine: `srun` starts the command once per node and waits."""
    tools = folder / "tools"
    if not tools.exists():
        tools.mkdir()
        scripts = {
            "scontrol": "echo 127.0.0.1",
            "srun": "trap '' USR1; for node in $(seq $SLURM_JOB_NUM_NODES); do \"$@\" & done; wait $(jobs -p)",
            "torchrun": f'exec {sys.executable} -m torch.distributed.run "$@"',
        }
        for name, line in scripts.items():
            (tools / name).write_text(f"#!/bin/bash\n{line}\n")
            (tools / name).chmod(0o755)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {
        **os.environ,
        "PATH": f"{tools}:{os.environ['PATH']}",
        "OMP_NUM_THREADS": "1",
        "SLURM_JOB_NODELIST": "node[1-2]",
        "SLURM_JOB_NUM_NODES": str(NODES),
        "SLURM_GPUS_ON_NODE": "2",
        "SLURM_JOB_ID": str(port),
        "RENDEZVOUS_PORT": str(port),
    }
    command = ["bash", "examples/train_slurm.sh", *arguments]
    return subprocess.Popen(command, cwd=REPOSITORY, env=environment, stderr=subprocess.PIPE, start_new_session=True)


@needs("tyro")
@pytest.mark.acceptance
def test_two_agents_of_two_ranks_stop_and_train_like_one_process(
    latents: Path, shards: Path, models: Path, tmp_path: Path
) -> None:
    """With the Slurm script, its signal before the time limit, balanced steps, and ranks of one or two clips."""
    values: dict[str, Any] = world.train_values("geometry", latents, shards, models, tmp_path / "four")
    values |= {"batch": 5, "steps": 100_000}
    values["data"]["balance_steps"] = 4
    values["run"]["save_every"] = 100_000
    path, run = tmp_path / "run.yaml", tmp_path / "four/geometry"
    path.write_text(yaml.safe_dump(values))
    job = slurm(tmp_path, "--config", str(path))
    while not read_metrics(run):
        assert job.poll() is None, job.communicate()[1].decode()
        time.sleep(0.05)
    os.killpg(job.pid, signal.SIGUSR1)  # as Slurm, to all processes of the job
    job.communicate(timeout=120)
    (saved,) = list_checkpoints(run)
    reached = load_checkpoint(saved).state.step
    assert reached == len(read_metrics(run)) > 0

    steps = reached + 3
    job = slurm(tmp_path, "--config", str(path), "--set", f"steps={steps}")
    _, errors = job.communicate(timeout=300)
    assert job.returncode == 0, errors.decode()
    values["run"]["output"] = str(tmp_path / "one")
    one = replace(world.build(TrainConfig, values, "test"), steps=steps)
    train(one)
    four, alone = read_metrics(run), read_metrics(one.folder)
    assert [line["loss"] for line in four] == pytest.approx([line["loss"] for line in alone], rel=1e-4)
    assert all(0.25 <= line["busy_share"] < 1 for line in four)
    assert {line["busy_share"] for line in alone} == {1}

"""Several torchrun agents, as on several nodes, that find each other by a rendezvous."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from helix4d.train.config import TrainConfig
from helix4d.train.loop import train
from helix4d.train.metrics import read_metrics
from tests.packages import needs
from tests.train import world

REPOSITORY = Path(__file__).parents[2]


@needs("tyro")
@pytest.mark.acceptance
def test_two_agents_of_two_ranks_train_like_one_process(
    latents: Path, shards: Path, models: Path, tmp_path: Path
) -> None:
    """With balanced steps, and ranks that have one or two microbatches."""
    values: dict[str, Any] = world.train_values("geometry", latents, shards, models, tmp_path / "four")
    values |= {"batch": 5, "steps": 8}
    values["data"]["balance_steps"] = 4
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(values))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    launch = ["--nnodes=2", "--nproc-per-node=2", "--rdzv-backend=c10d", f"--rdzv-endpoint=localhost:{port}"]
    command = [sys.executable, "-m", "torch.distributed.run", *launch, "--rdzv-id=run", "-m", "helix4d.train"]
    agents = [
        subprocess.Popen(
            [*command, "--config", str(path)],
            cwd=REPOSITORY,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stderr=subprocess.PIPE,
        )
        for _ in range(2)
    ]
    for agent in agents:
        _, errors = agent.communicate(timeout=300)
        assert agent.returncode == 0, errors.decode()
    values["run"]["output"] = str(tmp_path / "one")
    one = world.build(TrainConfig, values, "test")
    train(one)
    four = read_metrics(tmp_path / "four/geometry")
    alone = read_metrics(one.folder)
    assert [line["loss"] for line in four] == pytest.approx([line["loss"] for line in alone], rel=1e-5)
    assert all(0.25 <= line["busy_share"] < 1 for line in four)
    assert {line["busy_share"] for line in alone} == {1}

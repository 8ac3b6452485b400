from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from helix4d.core import ConfigError
from helix4d.model.networks.config import FlowConfig
from helix4d.train.checkpoint import list_checkpoints, load_checkpoint, restore
from helix4d.train.config import DataConfig, NetworkConfig, Stage, TrainConfig
from helix4d.train.data.batch import Batch, collate
from helix4d.train.data.dataset import ClipReader
from helix4d.train.export import export_run, load_trained
from helix4d.train.loop import train
from helix4d.train.memory import Kind, step_memory
from helix4d.train.metrics import read_metrics
from helix4d.train.network import build_network, load_image_encoder
from helix4d.train.objective import squared_errors
from helix4d.train.plan import plan_run
from tests.train import world

CPU = torch.device("cpu")
FLOW = "ckpts/shape_slat_flow_model_512"
Folders = tuple[Path, Path, Path]


@pytest.fixture(scope="module")
def folders(latents: Path, shards: Path, models: Path) -> Folders:
    return latents, shards, models


@pytest.fixture(scope="module")
def base(folders: Folders, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network that was trained for a while, so that its self-attention has an effect."""
    output = tmp_path_factory.mktemp("base")
    config = world.train_config("geometry", *folders, output, steps=60, batch=4)
    train(replace(config, optimizer=replace(config.optimizer, lr=5e-3)))
    export_run(config.folder, output / "model")
    return output / "model"


def tuned(folders: Folders, base: Path, output: Path, **changes: Any) -> TrainConfig:
    """Return a run of low-rank updates on that network."""
    config = low_rank(folders, output, rank=8, **changes)
    network = replace(config.network, scratch=None, checkpoint=str(base), flow=FLOW)
    return replace(config, network=network, optimizer=replace(config.optimizer, lr=1e-2))


def fixed_batch(config: TrainConfig) -> tuple[Batch, torch.Tensor]:
    """Return all clips with fixed noise and times, and image tokens."""
    reader = ClipReader(config.data, config.stage)
    batch = collate([reader.training_clip(number, (0, 0, 0), 0) for number in range(5)], CPU)
    return batch, load_image_encoder(config.network, CPU)(batch.images)


def low_rank(folders: Folders, output: Path, rank: int = 4, **changes: Any) -> TrainConfig:
    values = {**world.train_values("geometry", *folders, output), **changes}
    values["network"]["trainable"] = f"lora:{rank}"
    return world.build(TrainConfig, values, "test")


def test_only_updates_of_self_attention_are_trained(folders: Folders, tmp_path: Path) -> None:
    config = low_rank(folders, tmp_path, rank=2, steps=1)
    trained = {n: p for n, p in build_network(config, CPU).named_parameters() if p.requires_grad}
    layers = {"to_qkv": (32, 96), "to_out": (32, 32)}
    expected = {
        f"blocks.{block}.self_attn.{layer}.{part}": shape
        for block in range(2)
        for layer, (inputs, outputs) in layers.items()
        for part, shape in {"down": (2, inputs), "up": (outputs, 2)}.items()
    }
    assert {name: tuple(p.shape) for name, p in trained.items()} == expected
    assert all(bool(p.any()) == name.endswith("down") for name, p in trained.items())
    train(config)
    assert load_checkpoint(list_checkpoints(config.folder)[-1]).model.keys() == expected.keys()
    plan = plan_run(config)
    assert f"{sum(a * b for a, b in expected.values()):,} trained in float32 (updates of rank 2)" in plan


def test_a_run_resumes_and_its_loss_falls(folders: Folders, base: Path, tmp_path: Path) -> None:
    config = tuned(folders, base, tmp_path / "whole", steps=60, batch=4)
    train(config)
    inputs = fixed_batch(config)
    after, before = (
        float(squared_errors(network, *inputs, True).detach().sum())
        for network in (load_trained(config, CPU), build_network(config, CPU))
    )
    assert after < 0.985 * before  # latents of random encoders are almost noise
    parts = replace(config, run=replace(config.run, output=str(tmp_path / "parts")))
    train(replace(parts, steps=2))
    train(replace(parts, steps=4))
    losses = [[line["loss"] for line in read_metrics(run.folder)] for run in (parts, config)]
    assert losses[0] == losses[1][:4]


def test_merged_and_exported_networks_are_equal(folders: Folders, base: Path, tmp_path: Path) -> None:
    config = tuned(folders, base, tmp_path)
    train(config)
    checkpoint = load_checkpoint(list_checkpoints(config.folder)[-1])
    unmerged = build_network(config, CPU)
    restore(checkpoint.ema, {n: p for n, p in unmerged.named_parameters() if p.requires_grad}, "test")
    export_run(config.folder, tmp_path / "model")
    network = replace(config.network, checkpoint=str(tmp_path / "model"), trainable=("*",))
    exported = build_network(replace(config, network=network), CPU)
    inputs = fixed_batch(config)
    networks = (unmerged, load_trained(config, CPU), exported, build_network(config, CPU))
    a, b, c, d = (squared_errors(network, *inputs, True).detach() for network in networks)
    assert float((a - b).abs().max() / a.abs().max()) < 1e-6
    assert torch.equal(b, c)
    assert float((a - d).abs().max() / a.abs().max()) > 1e-3  # the updates do something


def test_malformed_ranks_are_refused() -> None:
    for text in ("lora:0", "lora:", "lora:x", "blocks.*"):
        with pytest.raises(ConfigError, match="or lora:RANK such as lora:16"):
            NetworkConfig(scratch={}, trainable=text)


def test_memory_of_the_state_shrinks_with_the_number_of_trained_parameters() -> None:
    def memory(trainable: Any) -> dict[Kind, int]:
        network = NetworkConfig(scratch={}, trainable=trainable)
        config = TrainConfig(
            name="memory", stage=Stage.GEOMETRY, data=DataConfig(latents="", images=""), network=network
        )
        flow = FlowConfig(resolution=32, in_channels=32, out_channels=32, num_blocks=2)
        return step_memory(config, flow, [(512,) * 4]).kinds

    full, low = memory(("blocks.*.self_attn.*",)), memory("lora:16")
    trained = 2 * 16 * (1536 + 3 * 1536 + 1536 + 1536)
    assert low[Kind.OPTIMIZER] == pytest.approx(8 * trained, rel=0.01)
    assert low[Kind.GRADIENTS] == pytest.approx(4 * trained, rel=0.01)
    assert low[Kind.OPTIMIZER] < full[Kind.OPTIMIZER] / 40


def test_exported_tensors_keep_the_types_of_the_base(folders: Folders, tmp_path: Path) -> None:
    """As in TRELLIS.2: only the matrices of the blocks are bfloat16. What is not trained is the same bit for bit."""
    values = world.train_values("geometry", *folders, tmp_path / "base")
    values["network"]["precision"] = "bfloat16"
    train(base := world.build(TrainConfig, {**values, "steps": 1}, "test"))
    export_run(base.folder, tmp_path / "model")
    path = tmp_path / f"model/{FLOW}.safetensors"
    stored = load_file(path)
    halves = {name for name, tensor in stored.items() if tensor.dtype is torch.bfloat16}
    layers = {name.split(".", 2)[2].rpartition(".")[0] for name in halves}
    assert layers == {f"{a}.{b}" for a, bs in _MATRICES.items() for b in bs}
    assert all(name.startswith("blocks.") for name in halves)
    assert {t.dtype for n, t in stored.items() if n not in halves} == {torch.float32}
    odd = "blocks.1.norm2.bias"  # a file with types of its own
    save_file({n: t.half() if n == odd else t for n, t in stored.items()}, path)
    values["network"] |= {"scratch": None, "checkpoint": str(tmp_path / "model"), "flow": FLOW}
    values["network"]["trainable"] = ["blocks.*.self_attn.*"]
    tuned = world.build(TrainConfig, {**values, "name": "tuned", "steps": 1}, "test")
    train(tuned)
    export_run(tuned.folder, tmp_path / "tuned")
    with safe_open(tmp_path / f"tuned/{FLOW}.safetensors", "pt") as file:
        for name, tensor in load_file(path).items():
            assert file.get_tensor(name).dtype is tensor.dtype, name
            assert torch.equal(file.get_tensor(name), tensor) or ".self_attn." in name, name


_MATRICES = {"self_attn": ("to_qkv", "to_out"), "cross_attn": ("to_q", "to_kv", "to_out"), "mlp": ("mlp.0", "mlp.2")}

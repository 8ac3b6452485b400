"""Parity with the official networks: outputs in float32, gradients of one block of each kind in float64."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from helix4d.model.checkpoint.checkpoint import load_weights
from helix4d.model.latents.latents import SHAPE_STATISTICS, TEXTURE_STATISTICS, LatentStatistics
from helix4d.model.networks.blocks import Block
from helix4d.model.networks.config import (
    DenseDecoderConfig,
    DenseEncoderConfig,
    FlowConfig,
    SparseDecoderConfig,
    SparseEncoderConfig,
)
from helix4d.model.networks.flow import DenseFlow, SparseFlow
from helix4d.model.networks.sparse import SparseTensor
from helix4d.model.sampling.sampler import SamplerConfig, dense_spread, sample, sample_steps
from helix4d.model.vae.dense_vae import DenseDecoder, DenseEncoder
from helix4d.model.vae.sc_vae import SparseDecoder, SparseEncoder, decode_shape_fields, encode_shape_fields
from tests.conftest import NO_PARITY, PARITY, files

FOLDER = PARITY / "model"
FIXTURES = files(FOLDER, "*.safetensors")
TOLERANCE = 1e-5

BUILDERS: dict[str, Any] = {
    "dense_encoder": lambda config: DenseEncoder(DenseEncoderConfig.from_args(config)),
    "dense_decoder": lambda config: DenseDecoder(DenseDecoderConfig.from_args(config)),
    "sparse_encoder": lambda config: SparseEncoder(SparseEncoderConfig.from_args(config)),
    "sparse_decoder": lambda config: SparseDecoder(SparseDecoderConfig.from_args(config)),
    "dense_flow": lambda config: DenseFlow(FlowConfig.from_args(config)),
    "sparse_flow": lambda config: SparseFlow(FlowConfig.from_args(config)),
}

each_fixture = pytest.mark.parametrize(
    "path",
    FIXTURES or [pytest.param(None, marks=pytest.mark.skip(NO_PARITY))],
    ids=lambda path: getattr(path, "stem", "none"),
)


def _build(fixture) -> nn.Module:
    network = BUILDERS[fixture.kind](fixture.config)
    load_weights(network, {k: v for k, v in fixture.weights.items() if k != "rope_phases"}, "fixture")
    return network


@each_fixture
@torch.no_grad()
def test_outputs_agree(path, parity_file, relative_error):
    fixture = parity_file(path)
    found = _run_sampler(fixture) if fixture.kind == "sampler" else _run(fixture, _build(fixture))
    assert found, "the fixture has outputs that no network gives"
    for name, (mine, official) in found.items():
        assert mine.shape == official.shape, name
        assert relative_error(mine, official) <= TOLERANCE, name


@each_fixture
def test_block_gradients_agree_with_finite_differences(path, parity_file):
    fixture = parity_file(path)
    if fixture.kind == "sampler":
        pytest.skip("a sampler has no blocks")
    network = _build(fixture).double()
    network.compute_dtype = torch.float64  # type: ignore[assignment]
    seen: dict[type, nn.Module] = {}
    for module in network.modules():
        if type(module).__name__.endswith(("Block", "sample")) or isinstance(module, Block):
            seen.setdefault(type(module), module)
    assert seen, "this network has no blocks"
    original = {name: p.detach().clone() for name, p in network.named_parameters()}
    for kind, block in seen.items():
        names = {id(p): name for name, p in network.named_parameters()}
        trained = {names[id(p)]: p for p in block.parameters()}
        _check_direction(fixture, network, trained, original, kind.__name__)


def _check_direction(fixture, network: nn.Module, trained: dict[str, nn.Parameter], original, what: str) -> None:
    """Derivative of a fixed projection of the outputs along a random direction of one block's parameters."""
    generator = torch.Generator().manual_seed(0)
    direction = {name: torch.randn(p.shape, generator=generator, dtype=torch.float64) for name, p in trained.items()}
    # The outputs are discontinuous where a voxel's subdivision flips, so that head, which has no gradient, is excluded.
    direction = {name: d for name, d in direction.items() if "to_subdiv" not in name}

    def loss(step: float) -> Tensor:
        with torch.no_grad():
            for name, d in direction.items():
                trained[name].copy_(original[name] + step * d)
        outputs = [mine for mine, _ in _run(fixture, network, torch.float64).values() if mine.is_floating_point()]
        weights = torch.Generator().manual_seed(1)
        return sum((o * torch.randn(o.shape, generator=weights, dtype=o.dtype)).sum() for o in outputs)  # type: ignore[return-value]

    exact = 0.0
    for parameter in network.parameters():
        parameter.grad = None
    loss(0.0).backward()
    for name, d in direction.items():
        exact += float((trained[name].grad * d).sum())
    with torch.no_grad():
        h = 1e-6
        numeric = float(loss(h) - loss(-h)) / (2 * h)
        loss(0.0)
    assert exact == pytest.approx(numeric, rel=1e-5), what
    assert abs(exact) > 1e-6, f"{what}: no gradient at all"


def _run(fixture, network: nn.Module, dtype: torch.dtype = torch.float32) -> dict[str, tuple[Tensor, Tensor]]:
    """Our outputs and the official ones, by name; sparse outputs in the same order."""
    inputs = {k: v.to(dtype) if v.is_floating_point() else v for k, v in fixture.inputs.items()}
    outputs, kind = fixture.outputs, fixture.kind
    if kind == "dense_encoder":
        mean, logvar = network(inputs["occupancy"])
        return {"mean": (mean, outputs["mean"]), "logvar": (logvar, outputs["logvar"])}
    if kind == "dense_decoder":
        return {"logits": (network(inputs["z"]), outputs["logits"])}
    if kind == "dense_flow":
        return {"v": (network(inputs["x"], inputs["t"], inputs["cond"]), outputs["v"])}
    if kind == "sparse_flow":
        x = SparseTensor.from_coords(inputs["feats"], inputs["coords"])
        v = network(x, inputs["t"], inputs["cond"], side=inputs.get("concat_feats"))
        return {"v": (v.feats, outputs["v"])}
    if kind == "sparse_encoder":
        shape = "dual_vertices" in inputs
        feats = encode_shape_fields(inputs["dual_vertices"], inputs["intersected"]) if shape else inputs["attrs"]
        mean, logvar = network(SparseTensor.from_coords(feats, inputs["coords"]))
        return {
            "mean": _in_order(mean, outputs["mean"], outputs["coords"]),
            "logvar": _in_order(logvar, outputs["logvar"], outputs["coords"]),
        }
    guides = [
        SparseTensor.from_coords(inputs[f"subdivision{i}"], inputs[f"subdivision_coords{i}"])
        for i in range(len(network.config.model_channels) - 1)
        if f"subdivision{i}" in inputs
    ]
    decoded = network(SparseTensor.from_coords(inputs["z"], inputs["coords"]), guides or None)
    pairs = {"feats": _in_order(decoded.fields, outputs["feats"], outputs["coords"])}
    for i, logits in enumerate(decoded.subdivisions):
        if f"subdivision{i}" in outputs:
            official = outputs[f"subdivision{i}"], outputs[f"subdivision_coords{i}"]
            pairs[f"subdivision{i}"] = _in_order(logits, *official)
    return pairs


def _run_sampler(fixture) -> dict[str, tuple[Tensor, Tensor]]:
    inputs, outputs, config = fixture.inputs, fixture.outputs, fixture.config

    def velocity(x: Tensor, timestep: float, conditional: bool) -> Tensor:
        cond = inputs["cond"] if conditional else inputs["neg_cond"]
        return torch.tanh(x @ inputs["A"] + cond @ inputs["B"] + timestep / 1000)

    settings = SamplerConfig(
        steps=config["steps"],
        guidance=config["guidance_strength"],
        guidance_rescale=config["guidance_rescale"],
        guidance_interval=tuple(config["guidance_interval"]),
        rescale_t=config["rescale_t"],
    )
    steps = list(sample_steps(velocity, inputs["noise"], settings, dense_spread))
    return {
        "x_t": (torch.stack([step.x for step in steps]), outputs["x_t"]),
        "x_0": (torch.stack([step.predicted for step in steps]), outputs["x_0"]),
        "samples": (sample(velocity, inputs["noise"], settings, dense_spread), outputs["samples"]),
    }


def _in_order(mine: SparseTensor, feats: Tensor, coords: Tensor) -> tuple[Tensor, Tensor]:
    a, b = _order(mine.coords), _order(coords)
    assert torch.equal(mine.coords[a], coords[b]), "other voxels than the official ones"
    return mine.feats[a], feats[b]


def _order(coords: Tensor) -> Tensor:
    keys = coords.long()
    return torch.argsort(((keys[:, 0] * 4096 + keys[:, 1]) * 4096 + keys[:, 2]) * 4096 + keys[:, 3])


STATE_DICTS = FOLDER / "trellis2_state_dicts.json"


@pytest.mark.skipif(not STATE_DICTS.is_file(), reason=NO_PARITY)
def test_full_size_networks_have_exactly_the_official_parameters():
    for name, official in json.loads(STATE_DICTS.read_text()).items():
        kind = {
            "sparse_structure_flow": "dense_flow",
            "sparse_structure_encoder": "dense_encoder",
            "sparse_structure_decoder": "dense_decoder",
        }.get(name) or f"sparse_{name.rpartition('_')[2]}"
        with torch.device("meta"):
            network = BUILDERS[kind](official["config"])
        mine = {k: [str(v.dtype).removeprefix("torch."), list(v.shape)] for k, v in network.state_dict().items()}
        assert mine == official["state_dict"], name
        assert sum(p.numel() for p in network.parameters()) == official["parameters"], name
        if kind.endswith("flow"):
            trained = sum(p.numel() for _, p in network.self_attention_parameters())
            assert round(trained / 1e6) == 283, name


@pytest.mark.skipif(not (FOLDER / "latent_statistics.json").is_file(), reason=NO_PARITY)
def test_latent_statistics_are_the_released_ones():
    stored = json.loads((FOLDER / "latent_statistics.json").read_text())
    assert LatentStatistics.from_json(stored["shape_slat_normalization"]) == SHAPE_STATISTICS
    assert LatentStatistics.from_json(stored["tex_slat_normalization"]) == TEXTURE_STATISTICS


def test_shape_head():
    fields = decode_shape_fields(torch.tensor([[0.0, 50.0, -50.0, 1.0, -1.0, 0.0, 0.0]]))
    assert fields.dual_vertices.tolist() == [[0.5, 1.5, -0.5]]
    assert fields.intersected.tolist() == [[True, False, False]]
    assert float(fields.split_weight) == pytest.approx(0.6931, abs=1e-4)

"""The networks on the GPU compared with outputs of the official code, from an optional folder of reference results."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.kit.context import Context, agreed, largest, skipped
from benchmarks.kit.results import Row, Verdict
from benchmarks.kit.runner import PARITY_VARIABLE
from helix4d.model.networks.attention.plan import AttentionBackend

TOLERANCES = {torch.float32: 1e-5, torch.float16: 1e-2, torch.bfloat16: 4e-2}
"""Bounds of max|a − b| / max|b|. On a CPU the fixtures reach 2e-6, 4e-3 and 2e-2."""


def compare(context: Context) -> Iterator[Row]:
    """Run each fixture with activations in each type; one row per fixture, with its largest error in each."""
    folder = os.environ.get(PARITY_VARIABLE)
    paths = sorted(Path(folder, "model").glob("*.safetensors")) if folder else []
    if not paths:
        yield skipped("fixtures of the official networks", f"{PARITY_VARIABLE} is not set to a folder with model/")
        return
    torch.backends.cudnn.allow_tf32 = False  # on by default, with errors of about 1e-3
    device = context.torch_device()
    for path in context.pick(paths, paths[::3]):
        for dtype, tolerance in TOLERANCES.items():
            if (row := _compare(path, device, dtype, tolerance)) is not None:
                yield row


@torch.no_grad()
def _compare(path: Path, device: torch.device, dtype: torch.dtype, tolerance: float) -> Row | None:
    # The tests know how each kind of fixture is run.
    from tests.model import test_parity_networks as parity
    from tests.model.conftest import read_fixture

    fixture = read_fixture(path)
    moved = replace(fixture, inputs=_to(fixture.inputs, device), outputs=_to(fixture.outputs, device))
    if fixture.kind == "sampler":
        if dtype is not torch.float32:
            return None
        pairs = parity._run_sampler(moved)
    else:
        network: Any = parity._build(fixture).to(device)
        network.compute_dtype = dtype
        network.attention_backend = AttentionBackend.PER_FRAME  # `auto` would time all of them for each fixture
        try:
            pairs = parity._run(moved, network)
        except AssertionError as error:  # a subdivision that flipped
            return Row(f"{path.stem}, {dtype}: {error}", Verdict.WRONG)
    errors = [float((found - expected).abs().max() / expected.abs().max()) for found, expected in pairs.values()]
    return agreed(f"{path.stem}, {dtype}", largest(errors), tolerance)


def _to(tensors: dict[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    return {name: tensor.to(device) for name, tensor in tensors.items()}

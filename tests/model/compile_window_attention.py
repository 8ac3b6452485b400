"""The attention kernels at full size, for `tests/kernels/table.py`."""

from __future__ import annotations

from typing import Any

from helix4d.model.networks import window_attention_kernels as kernels
from helix4d.model.networks.window_attention import FORWARD, KEY_GRADIENT, QUERY_GRADIENT, Tiling
from tests.kernels.compiled import Case

SIZE = 128


def cases() -> list[Case]:
    """Forward and backward, 128 channels per head, bfloat16. The tiles are chosen for sm_90; sm_80 spills a little."""
    return [
        _case(kernels.attend, FORWARD),
        _case(kernels.query_gradient, QUERY_GRADIENT, {80: 112}),
        _case(kernels.key_value_gradients, KEY_GRADIENT, {80: 160}),
    ]


def _case(kernel: Any, tiling: Tiling, spills: dict[int, int] | None = None) -> Case:
    constants = {"tall": tiling.tall, "step": tiling.step, "size": SIZE, "width": SIZE, "exact": "tf32"}
    types = {name: _type(name) for name in kernel.arg_names if name not in constants}
    title = f"bf16, {tiling.tall} × {tiling.step}"
    return Case(title, kernel, types, constants, tiling.warps, tiling.stages, spills=spills or {})


def _type(name: str) -> str:
    if name in ("scale", "factor"):
        return "fp32"
    if name == "queries":
        return "i32"
    if name.endswith(("_row", "_head")):
        return "i32%16"
    return {"lse": "*fp32", "delta": "*fp32", "tiles": "*i32"}.get(name, "*bf16")

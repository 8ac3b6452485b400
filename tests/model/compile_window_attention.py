"""The attention kernels at full size, for `tests/kernels/table.py`."""

from __future__ import annotations

from typing import Any

from helix4d.model.networks.attention import window_attention_kernels as kernels
from helix4d.model.networks.attention.window_attention import AMPERE, HOPPER, Tiling
from tests.kernels.compiled import Case

SIZE = 128


def cases() -> list[Case]:
    """Forward and backward, 128 channels per head, bfloat16, with the tiles of each architecture."""
    return [
        _case(kernel, tiling, architecture)
        for architecture, sizes in ((80, AMPERE), (90, HOPPER))
        for kernel, tiling in (
            (kernels.attend, sizes.forward),
            (kernels.query_gradient, sizes.query),
            (kernels.key_value_gradients, sizes.key),
        )
    ]


def _case(kernel: Any, tiling: Tiling, architecture: int) -> Case:
    constants = {"tall": tiling.tall, "step": tiling.step, "size": SIZE, "width": SIZE, "exact": "tf32"}
    types = {name: _type(name) for name in kernel.arg_names if name not in constants}
    title = f"bf16, {tiling.tall} × {tiling.step}"
    return Case(title, kernel, types, constants, tiling.warps, tiling.stages, architectures=(architecture,))


def _type(name: str) -> str:
    if name in ("scale", "factor"):
        return "fp32"
    if name == "queries":
        return "i32"
    if name.endswith(("_row", "_head")):
        return "i32%16"
    return {"lse": "*fp32", "delta": "*fp32", "tiles": "*i32"}.get(name, "*bf16")

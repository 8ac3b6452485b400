"""The kernels of a block's pointwise parts at full size, for `tests/kernels/table.py`."""

from __future__ import annotations

from typing import Any

from helix4d.model.networks.pointwise import pointwise_kernels as kernels
from tests.kernels.compiled import Case

CHANNELS, HEADS, SIZE = 1536, 12, 128
_FLOAT32 = {"parts", "cos", "sin", "scale", "shift", "gate", "gamma"}
_NUMBERS = {"eps", "base"}


def cases() -> list[Case]:
    """The six kernels in bfloat16, with all gradients."""
    norm = {"channels": CHANNELS, "width": 2048, "tall": 2}
    heads = {"heads": HEADS, "size": SIZE, "width": SIZE, "tall": 32, "turned": True}
    residual = {"channels": CHANNELS, "block": 256, "tall": 16}
    return [
        _case("modulated_norm", norm),
        _case("modulated_norm_gradients", {**norm, "reduce": True}),
        _case("rms_norm_rotary", heads, {"scale": "fp32"}),
        _case("rms_norm_rotary_gradients", {**heads, "reduce": True}, {"scale": "fp32"}),
        _case("gated_residual", residual),
        _case("gated_residual_gradients", {**residual, "reduce": True}),
    ]


def _case(name: str, constants: dict[str, Any], given: dict[str, str] | None = None) -> Case:
    kernel = getattr(kernels, name)
    types = {argument: (given or {}).get(argument, _type(argument)) for argument in kernel.arg_names}
    types = {argument: kind for argument, kind in types.items() if argument not in constants}
    return Case(f"bf16, {CHANNELS} channels", kernel, types, constants, warps=4, stages=3, multiplies=False)


def _type(argument: str) -> str:
    if argument in _NUMBERS:
        return "fp32"
    if argument == "tokens" or argument.endswith(("_row", "_head")):
        return "i32%16"
    return "*i32" if argument == "tiles" else "*fp32" if argument in _FLOAT32 else "*bf16"

"""The convolution kernels at the widths of the VAEs, for `tests/kernels/table.py`."""

from __future__ import annotations

from helix4d.model.networks.convolution import sparse_conv_kernels as kernels
from helix4d.model.networks.convolution.implicit_gemm import TYPES, forward_tiling, gradient_pairs, gradient_tiling
from helix4d.model.networks.gather_tiles import TILE_ROWS
from tests.kernels.compiled import Case

WIDTHS = {"fp16": (64, 128, 1024), "fp32": (64, 128)}
"""Widths with tiles of their own; wider ones have those of the last, and bfloat16 those of float16."""
_NAMES = dict(zip(TYPES, ("fp16", "bf16", "fp32"), strict=True))


def cases() -> list[Case]:
    """Result, gradient of the input and gradient of the weight."""
    gathers = [_gather(name, width, way) for name in WIDTHS for width in WIDTHS[name] for way in (True, False)]
    weights = [_weight(name, width) for name in WIDTHS for width in (64, 128)]
    return [*gathers, _gather("bf16", 1024, True), *weights]


def _gather(name: str, width: int, forward: bool) -> Case:
    dtype = next(dtype for dtype, own in _NAMES.items() if own == name)
    tiling = forward_tiling(dtype, width, width)
    types: dict[str, str | int] = dict.fromkeys(("first", "offsets", "sources", "targets"), "*i32")
    types |= dict.fromkeys(("x", "w", "bias", "y"), f"*{name}")
    types |= {"w_offset": "i32%16", "w_inner": 1 if forward else "i32%16", "w_column": "i32%16" if forward else 1}
    constants = {
        "inner": width,
        "columns": width,
        "mirrored": not forward,
        "biased": forward,
        "exact": "tf32x3",
        "tile_rows": TILE_ROWS,
        "tile_inner": tiling.inner,
        "tile_columns": tiling.columns,
    }
    way = "result" if forward else "gradient"
    title = f"{name}, {width} channels, {way}, {TILE_ROWS} × {tiling.inner} × {tiling.columns}"
    return Case(title, kernels.gather_gemm, types, constants, tiling.warps, tiling.stages)


def _weight(name: str, width: int) -> Case:
    dtype = next(dtype for dtype, own in _NAMES.items() if own == name)
    tiling, pairs = gradient_tiling(dtype, width, width), gradient_pairs(dtype)
    types = {"x": f"*{name}", "up": f"*{name}", "parts": "*fp32", "starts": "*i32", "reads": "*i32", "writes": "*i32"}
    constants = {
        "inner": width,
        "columns": width,
        "exact": "tf32x3",
        "tile_pairs": pairs,
        "tile_inner": tiling.inner,
        "tile_columns": tiling.columns,
    }
    title = f"{name}, {width} channels, {tiling.inner} × {pairs} × {tiling.columns}"
    return Case(title, kernels.weight_gradient, types, constants, tiling.warps, tiling.stages)

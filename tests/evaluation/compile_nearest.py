"""The nearest-neighbor kernel, for `tests/kernels/table.py`."""

from __future__ import annotations

from helix4d.evaluation.geometry import nearest_kernels as kernels
from helix4d.evaluation.geometry.nearest import TILE_POINTS, TILE_QUERIES, WARPS
from tests.kernels.compiled import Case


def cases() -> list[Case]:
    """One program: a tile of queries, all points."""
    types = dict.fromkeys(("queries", "points", "squared"), "*fp32") | dict.fromkeys(("count", "query_stride"), "i32")
    types |= {"indices": "*i32", "padded": "i32%16", "point_stride": "i32%16"}
    constants = {"tile_queries": TILE_QUERIES, "tile_points": TILE_POINTS}
    title = f"fp32, {TILE_QUERIES} × {TILE_POINTS}"
    return [Case(title, kernels.nearest_points, types, constants, WARPS, stages=3, multiplies=False)]

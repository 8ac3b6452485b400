"""Brute-force nearest neighbors in Triton: distances are kept in registers only.

Shapes: queries float32 [*, count, 3]; points float32 [*, 3, padded], filled up with infinity to a multiple of
`tile_points`; squared float32 and indices int32 [clouds, count]. A stride of 0 gives all clouds the same queries or
points.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def nearest_points(  # type: ignore[no-untyped-def]
    queries, points, squared, indices, count, padded, query_stride, point_stride,
    tile_queries: tl.constexpr, tile_points: tl.constexpr,
):  # fmt: skip
    """The nearest point of each query of a tile, the first of equals; grid (tiles of queries, clouds)."""
    cloud = tl.program_id(1).to(tl.int64)
    query = tl.program_id(0) * tile_queries + tl.arange(0, tile_queries)
    inside = query < count
    place = queries + cloud * query_stride + query * 3
    x = tl.load(place, mask=inside, other=0.0)[:, None]
    y = tl.load(place + 1, mask=inside, other=0.0)[:, None]
    z = tl.load(place + 2, mask=inside, other=0.0)[:, None]
    column = tl.arange(0, tile_points)[None, :]
    # Each thread keeps the nearest of its own columns of all steps; columns are compared once, at the end.
    best = tl.full((tile_queries, tile_points), float("inf"), tl.float32)
    found = tl.zeros((tile_queries, tile_points), tl.int32)
    place = points + cloud * point_stride + column
    for start in tl.range(0, padded, tile_points):
        dx = x - tl.load(place + start)
        dy = y - tl.load(place + padded + start)
        dz = z - tl.load(place + 2 * padded + start)
        distance = tl.fma(dz, dz, tl.fma(dy, dy, dx * dx))
        closer = distance < best
        best = tl.where(closer, distance, best)
        found = tl.where(closer, start, found)
    least = tl.min(best, axis=1)
    index = tl.min(tl.where(best == least[:, None], found + column, 2147483647), axis=1)
    tl.store(squared + cloud * count + query, least, mask=inside)
    tl.store(indices + cloud * count + query, index, mask=inside)

"""Matrix products on gathered rows in Triton, for submanifold convolutions: no gathered row is ever stored.

Shapes: x [N, inner]; up and y [N, columns]; bias [columns]; w any layout of [27, inner, columns], by its strides; parts
float32 [27, splits, inner, columns]. Tables of `gather_tiles.py`, all int32: first [tiles + 1], offsets [blocks],
sources [blocks, tile_rows] and targets [tiles, tile_rows], −1 for none; starts [28], reads and writes [pairs]. Sums are
in float32 and in a fixed order. `exact` is the precision of products of float32. Loops have no branches, so that Triton
overlaps the loads of later steps with the products of this one.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def gather_gemm(  # type: ignore[no-untyped-def]
    x, w, bias, y, first, offsets, sources, targets, w_offset, w_inner, w_column,
    inner: tl.constexpr, columns: tl.constexpr, mirrored: tl.constexpr, biased: tl.constexpr, exact: tl.constexpr,
    tile_rows: tl.constexpr, tile_inner: tl.constexpr, tile_columns: tl.constexpr,
):  # fmt: skip
    """y[i] = bias + Σ_o x[j(o, i)] @ w[o] for one tile of rows and columns, or w[26 − o]; grid (tiles · columns,)."""
    across: tl.constexpr = (columns + tile_columns - 1) // tile_columns
    chunks: tl.constexpr = (inner + tile_inner - 1) // tile_inner
    # Neighboring programs gather the same rows, so that all but one read them from the L2 cache.
    tile = tl.program_id(0) // across
    column = tl.program_id(0) % across * tile_columns + tl.arange(0, tile_columns)
    row = tl.arange(0, tile_rows)
    total = tl.zeros((tile_rows, tile_columns), dtype=tl.float32)
    # One loop over offsets and channels: a loop over the channels of one offset is too short to be pipelined.
    for step in tl.range(tl.load(first + tile) * chunks, tl.load(first + tile + 1) * chunks):
        block = step // chunks
        channel = step % chunks * tile_inner + tl.arange(0, tile_inner)
        offset = tl.load(offsets + block)
        if mirrored:
            offset = 26 - offset
        source = tl.load(sources + tl.cast(block, tl.int64) * tile_rows + row)
        place = x + source.to(tl.int64)[:, None] * inner + channel[None, :]
        weights = w + offset * w_offset + channel[:, None] * w_inner + column[None, :] * w_column
        if inner % tile_inner == 0:
            a = tl.load(place, mask=(source >= 0)[:, None], other=0.0)
        else:
            a = tl.load(place, mask=(source >= 0)[:, None] & (channel < inner)[None, :], other=0.0)
        if inner % tile_inner == 0 and columns % tile_columns == 0:
            b = tl.load(weights)
        else:
            b = tl.load(weights, mask=(channel < inner)[:, None] & (column < columns)[None, :], other=0.0)
        total = tl.dot(a, b, total, input_precision=exact)
    if biased:
        total += tl.load(bias + column, mask=column < columns, other=0.0).to(tl.float32)[None, :]
    target = tl.load(targets + tile * tile_rows + row)
    place = y + target.to(tl.int64)[:, None] * columns + column[None, :]
    tl.store(place, total.to(y.dtype.element_ty), mask=(target >= 0)[:, None] & (column < columns)[None, :])


@triton.jit
def weight_gradient(  # type: ignore[no-untyped-def]
    x, up, parts, starts, reads, writes,
    inner: tl.constexpr, columns: tl.constexpr, exact: tl.constexpr,
    tile_pairs: tl.constexpr, tile_inner: tl.constexpr, tile_columns: tl.constexpr,
):  # fmt: skip
    """Σ x[read] ⊗ up[write] over a share of one offset's pairs, for one tile; grid (27, tiles, splits)."""
    offset = tl.program_id(0)
    across: tl.constexpr = (columns + tile_columns - 1) // tile_columns
    channel = tl.program_id(1) // across * tile_inner + tl.arange(0, tile_inner)
    column = tl.program_id(1) % across * tile_columns + tl.arange(0, tile_columns)
    split, splits = tl.program_id(2), tl.num_programs(2)
    begin, end = tl.load(starts + offset), tl.load(starts + offset + 1)
    share = tl.cdiv(tl.cdiv(end - begin, splits), tile_pairs) * tile_pairs
    begin += split * share
    end = tl.minimum(begin + share, end)
    total = tl.zeros((tile_inner, tile_columns), dtype=tl.float32)
    for pair in tl.range(begin, end, tile_pairs):
        index = pair + tl.arange(0, tile_pairs)
        inside = index < end
        read = tl.load(reads + index, mask=inside, other=0).to(tl.int64)
        write = tl.load(writes + index, mask=inside, other=0).to(tl.int64)
        a_place = x + read[:, None] * inner + channel[None, :]
        b_place = up + write[:, None] * columns + column[None, :]
        if inner % tile_inner == 0:
            a = tl.load(a_place, mask=inside[:, None], other=0.0)
        else:
            a = tl.load(a_place, mask=inside[:, None] & (channel < inner)[None, :], other=0.0)
        if columns % tile_columns == 0:
            b = tl.load(b_place, mask=inside[:, None], other=0.0)
        else:
            b = tl.load(b_place, mask=inside[:, None] & (column < columns)[None, :], other=0.0)
        total = tl.dot(tl.trans(a), b, total, input_precision=exact)
    place = (tl.cast(offset * splits + split, tl.int64) * inner + channel)[:, None] * columns + column[None, :]
    tl.store(parts + place, total, mask=(channel < inner)[:, None] & (column < columns)[None, :])

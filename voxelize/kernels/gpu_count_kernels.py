"""CUDA kernels that clear the grid and number its voxels, all on the device.

Shapes: masks (W,) uint32, one bit per voxel of the cube in Morton order; starts (W,) int32, the number of active voxels
before each word, undefined where the word is 0; counts (ceil(W / CHUNK),) int32 per chunk of words; codes (room,) int32
Morton codes of the active voxels; sums (room, 10) and colors (room, 7) int64; flags (room,) int32; state (2,) int64.
Kernels that need more room than there is return without writing; the host reads the count from `state`, makes room, and
launches them again.
"""

# mypy: disallow-untyped-defs=False

from __future__ import annotations

from numba import int32, int64

from helix4d.voxelize.kernels.cuda_target import cuda

BAD_FACE, VOXELS = 0, 1
"""Indices into `state`: the first face that is outside the cube (NO_FACE for none), and the number of active voxels."""
NO_FACE = (1 << 63) - 1

CHUNK = 32
"""Words that one thread counts: a cache line."""
SCAN_THREADS = 1024
"""Threads of the only block of `scan_counts`."""


@cuda.jit
def clear_grid(masks, state):
    thread = cuda.grid(1)
    if thread == 0:
        state[BAD_FACE], state[VOXELS] = NO_FACE, 0
    for word in range(thread, len(masks), cuda.gridsize(1)):
        masks[word] = 0


@cuda.jit
def count_voxels(masks, counts):
    """One thread per chunk."""
    chunk = cuda.grid(1)
    if chunk >= len(counts):
        return
    total = int32(0)
    for word in range(chunk * CHUNK, min((chunk + 1) * CHUNK, len(masks))):
        total += int32(cuda.popc(masks[word]))
    counts[chunk] = total


@cuda.jit
def scan_counts(counts, state):
    """One block: replace each count by the sum of those before it, and write the sum of all to `state`."""
    shares = cuda.shared.array(SCAN_THREADS, int32)
    thread = cuda.threadIdx.x
    length = (len(counts) + SCAN_THREADS - 1) // SCAN_THREADS
    first = min(thread * length, len(counts))
    stop = min(first + length, len(counts))
    share = int32(0)
    for chunk in range(first, stop):
        share += counts[chunk]
    shares[thread] = share
    cuda.syncthreads()
    before = int32(0)
    for other in range(thread):
        before += shares[other]
    for chunk in range(first, stop):
        count = counts[chunk]
        counts[chunk] = before
        before += count
    if thread == SCAN_THREADS - 1:
        state[VOXELS] = before


@cuda.jit
def number_voxels(masks, counts, state, starts, codes):
    """One thread per chunk: write the starts of its words and the codes of its voxels."""
    chunk = cuda.grid(1)
    if chunk >= len(counts) or state[VOXELS] > len(codes):
        return
    n = counts[chunk]
    for word in range(chunk * CHUNK, min((chunk + 1) * CHUNK, len(masks))):
        mask = int64(masks[word])
        if mask == 0:
            continue
        starts[word] = n
        while mask != 0:
            lowest = mask & -mask
            codes[n] = word * 32 + cuda.popc(lowest - 1)
            mask ^= lowest
            n += 1


@cuda.jit
def clear_voxels(state, sums, flags, colors):
    """Clear the rows in use; `colors` may be empty."""
    count = state[VOXELS]
    if count > len(flags):
        return
    thread, threads = cuda.grid(1), cuda.gridsize(1)
    for i in range(thread, count * 10, threads):
        sums[i // 10, i % 10] = 0
    for i in range(thread, count, threads):
        flags[i] = 0
    if len(colors) > 0:
        for i in range(thread, count * 7, threads):
            colors[i // 7, i % 7] = 0

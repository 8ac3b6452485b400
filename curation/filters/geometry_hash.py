"""Hashes a clip's shape and motion so that similar clips have similar hashes (MinHash).

The hashed set is the voxels (64 per side) that the surface crosses at the start of each quarter of the normalized clip,
so it covers the motion. It is invariant to the order of vertices and triangles, position, scale, materials and file
format, and robust to rounding. The share of equal numbers in two hashes estimates the share of common voxels.
"""

from __future__ import annotations

import numpy as np

from helix4d.assets import Clip
from helix4d.voxelize import dual_grid

NUMBERS = 64
_DIGITS = 4
_RESOLUTION = 64
_EMPTY = np.uint64(_RESOLUTION**3)


def geometry_hash(clip: Clip) -> str:
    """Return the hash of a normalized clip: 256 hexadecimal digits, 64 numbers of four."""
    cells = []
    for slot, frame in enumerate(quarters(clip)):
        coords = dual_grid(
            clip.frames[frame].vertices, clip.frames[frame].faces, _RESOLUTION, weld=False, device="cpu"
        ).coords.astype(np.uint64)
        place = (coords[:, 0] * np.uint64(_RESOLUTION) + coords[:, 1]) * np.uint64(_RESOLUTION) + coords[:, 2]
        place = place if len(place) else np.array([_EMPTY])
        cells.append(place + np.uint64(slot) * (_EMPTY + np.uint64(1)))
    shape = np.concatenate(cells)
    with np.errstate(over="ignore"):
        smallest = [int(_mix(shape + np.uint64(seed << 32)).min()) for seed in range(1, NUMBERS + 1)]
    return "".join(f"{value & 0xFFFF:0{_DIGITS}x}" for value in smallest)


def quarters(clip: Clip) -> list[int]:
    """Return the frames at 0, ¼, ½ and ¾ of a clip. The last frame is not used: in a loop it equals the first."""
    return [len(clip.frames) * quarter // 4 for quarter in range(4)]


def similarity(one: str, other: str) -> float:
    """Return the share of equal numbers in two hashes, from 0 to 1."""
    pairs = zip(_numbers(one), _numbers(other), strict=True)
    return sum(a == b for a, b in pairs) / NUMBERS


def hash_table(hashes: list[str]) -> np.ndarray:
    """Return the numbers of N hashes as (N, 64) uint16."""
    return np.array([_numbers(text) for text in hashes], np.uint16).reshape(len(hashes), NUMBERS)


def _numbers(text: str) -> list[int]:
    return [int(text[start : start + _DIGITS], 16) for start in range(0, NUMBERS * _DIGITS, _DIGITS)]


def _mix(values: np.ndarray) -> np.ndarray:
    """Apply splitmix64, a hash with independent bits, to every value."""
    values = values + np.uint64(0x9E3779B97F4A7C15)
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))

"""A clip's shape as a short text: equal for equal shapes, nearly equal for nearly equal ones (MinHash).

The shape is the set of voxels, 64 a side, that the surface crosses at the start of each quarter of the normalized
clip: the motion is part of it. So neither the order of vertices and triangles nor position, scale, materials and format
matter, and rounding changes little: the share of equal numbers in two hashes estimates what share of the voxels the
clips have in common.
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
    """256 hexadecimal digits: 64 numbers of four, for a normalized clip."""
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
    """The frames at 0, ¼, ½ and ¾ of a clip; not its last, which in a loop is its first."""
    return [len(clip.frames) * quarter // 4 for quarter in range(4)]


def similarity(one: str, other: str) -> float:
    """The share of equal numbers in two hashes, 0 to 1."""
    pairs = zip(_numbers(one), _numbers(other), strict=True)
    return sum(a == b for a, b in pairs) / NUMBERS


def hash_table(hashes: list[str]) -> np.ndarray:
    """(N, 64) uint16: the numbers of N hashes."""
    return np.array([_numbers(text) for text in hashes], np.uint16).reshape(len(hashes), NUMBERS)


def _numbers(text: str) -> list[int]:
    return [int(text[start : start + _DIGITS], 16) for start in range(0, NUMBERS * _DIGITS, _DIGITS)]


def _mix(values: np.ndarray) -> np.ndarray:
    """splitmix64 of every value: a hash whose bits are independent of each other."""
    values = values + np.uint64(0x9E3779B97F4A7C15)
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))

"""The vector instructions are bit-identical to their formulas."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numba import njit

from helix4d.voxelize.kernels import vector_kernels as vector


@njit
def _calls(word, points, sides, touched, sums, plane, texels, lanes, values, colors, factors, numbers):  # type: ignore[no-untyped-def]
    """Call every function once; returns the position of the bit and the number of touched cells."""
    vector.prefetch(sums, 1)
    along, toward, crossings, weight, regularization, unit, alpha = numbers
    count = vector.add_crossing(points, 5, 2, 7, sides, 1, along, touched, 3)
    vector.add_plane(sums, 2, points, 5, plane, toward, crossings, weight, regularization)
    vector.add_bilinear(texels, 4, 0, 3, 4, 1 << 20, 7, 0, 3 << 20, lanes, 1, 4)
    vector.scale_lanes(lanes, 1, 4, unit, values)
    vector.add_color(colors, 2, weight, factors, values, 1, alpha)
    return vector.lowest_bit(word), count


def test_vector_instructions_follow_their_formulas() -> None:
    rng = np.random.default_rng(5)

    def some(*shape: int) -> np.ndarray:
        return rng.normal(size=shape).astype(np.float32)

    points, sides, sums, plane, colors, factors = some(20, 4), some(3, 5, 4), some(3, 12), some(12), some(4, 8), some(8)
    points[[5, 12, 7, 14], 3] = 0, 16, 0, 8
    plane[3] = factors[5] = factors[6] = 1
    touched = np.full(9, -1, np.int32)
    texels = rng.integers(0, 1 << 32, 5, np.uint32)
    lanes = rng.integers(0, 1 << 20, (2, 8), np.int32)
    values = np.zeros((2, 8), np.float32)
    numbers = tuple(some(7))
    along, toward, crossings, weight, regularization, unit, alpha = numbers

    expected: dict[str, Any] = {"points": points.copy(), "sums": sums.copy(), "lanes": lanes.copy()}
    expected |= {"values": values.copy(), "colors": colors.copy()}
    for corner, cell in enumerate((5, 12, 7, 14)):
        for k in range(4):
            expected["points"][cell, k] += sides[1, corner, k] + along * sides[1, 4, k]
    for k in range(3):
        expected["sums"][2, k] += toward * plane[k] + regularization * expected["points"][5, k]
    expected["sums"][2, 3] += crossings
    expected["sums"][2, 4:] += weight * plane[4:]
    for texel, share in ((4, 1 << 20), (0, 7), (3, 0), (4, 3 << 20)):
        expected["lanes"][1, 4:] += texels[texel : texel + 1].view(np.uint8).astype(np.int32) * share
    expected["values"][1] = expected["lanes"][1].astype(np.float32) * unit
    sample = expected["values"][1][[0, 1, 2, 6, 5]]
    expected["colors"][2, :5] += weight * (factors[:5] * sample)
    expected["colors"][2, 5] += weight * alpha
    expected["colors"][2, 6] += weight

    word = np.uint64(1 << 63 | 1 << 40)
    bit, count = _calls(word, points, sides, touched, sums, plane, texels, lanes, values, colors, factors, numbers)
    assert bit == 40
    assert touched[3:count].tolist() == [5, 7]
    for name, found in {"points": points, "sums": sums, "lanes": lanes, "values": values, "colors": colors}.items():
        np.testing.assert_array_equal(found, expected[name], err_msg=name)


@pytest.mark.parametrize("second", [0, 4])
def test_the_second_texture_may_have_the_lanes_of_the_first(second: int) -> None:
    @njit
    def scale(lanes, values, second):  # type: ignore[no-untyped-def]
        vector.scale_lanes(lanes, 0, second, np.float32(0.5), values)

    lanes, values = np.arange(8, dtype=np.int32)[None], np.zeros((1, 8), np.float32)
    scale(lanes, values, second)
    assert values[0].tolist() == [0.0, 0.5, 1.0, 1.5, *(0.5 * (second + k) for k in range(4))]

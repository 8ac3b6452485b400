"""bfloat16 in Triton's interpreter as a GPU computes it.

The interpreter of Triton 3.6 keeps bfloat16 as integers: it truncates float32 where a GPU rounds to nearest even, and
its matrix product multiplies the integers.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import triton.language as tl
import triton.runtime.interpreter as interpreter


def patch_bfloat16() -> None:
    """Round to nearest even, and multiply values."""
    convert, dot = interpreter._convert_float, interpreter.InterpreterBuilder.create_dot

    def rounded(data: Any, source: Any, target: Any, mode: Any) -> Any:
        if source == tl.float32 and target == tl.bfloat16:
            bits = np.ascontiguousarray(data).view(np.uint32).astype(np.uint64)
            bits = np.where(np.isnan(data), bits | 0x400000, bits + 0x7FFF + ((bits >> 16) & 1))
            return (bits >> 16).astype(np.uint16).reshape(data.shape)
        return convert(data, source, target, mode)

    def widened(x: Any) -> Any:
        if x.dtype.scalar != tl.bfloat16:
            return x
        return interpreter.TensorHandle(convert(x.data, tl.bfloat16, tl.float32, None).view(np.float32), tl.float32)

    def product(self: Any, a: Any, b: Any, total: Any, precision: Any, imprecise: Any) -> Any:
        return dot(self, widened(a), widened(b), total, precision, imprecise)

    interpreter._convert_float = rounded
    interpreter.InterpreterBuilder.create_dot = product

"""Triton's CPU interpreter, completed: what it lacks or does slowly."""

from __future__ import annotations

from typing import Any

import numpy as np
import triton.language as tl
import triton.runtime.interpreter as interpreter


def patch_products() -> None:
    """Multiply matrices of half types in float32: the interpreter multiplies bfloat16 by its bits, and float16 slowly."""

    def create_dot(_: Any, a: Any, b: Any, total: Any, _precision: Any, _imprecise: Any) -> Any:
        product = np.matmul(_float32(a), _float32(b)) + total.data
        return interpreter.TensorHandle(product, total.dtype.scalar)

    interpreter.InterpreterBuilder.create_dot = create_dot


def _float32(tensor: Any) -> np.ndarray:
    if tensor.dtype.scalar == tl.bfloat16:
        return (tensor.data.astype(np.uint32) << 16).view(np.float32)
    return np.asarray(tensor.data, np.float32)

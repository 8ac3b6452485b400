"""Triton's interpreter, in which kernels run without a GPU; the kit selects it with `TRITON_INTERPRET`."""

from __future__ import annotations

from benchmarks.kit.context import Context


def prepare(context: Context) -> None:
    """Let kernels run where this check runs; nothing to do on a GPU."""
    if not context.on_gpu:
        from tests.triton_interpreter import patch_scalars

        patch_scalars()

"""Triton's interpreter, which runs kernels without a GPU; the kit enables it with `TRITON_INTERPRET`."""

from __future__ import annotations

from benchmarks.kit.context import Context


def prepare(context: Context) -> None:
    """Enable the kernels on the device of this check; does nothing on a GPU."""
    if not context.on_gpu:
        from tests.triton_interpreter import patch_scalars

        patch_scalars()

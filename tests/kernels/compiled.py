"""Compile Triton kernels for an NVIDIA architecture without a GPU and read what they take."""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

_TOOLS = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"
SHARED_LIMIT = {80: 163 * 1024, 90: 227 * 1024}
"""Bytes of shared memory that a block may take (CUDA C++ Programming Guide, table of compute capabilities)."""


@dataclass(frozen=True)
class Case:
    """A kernel as it is launched.

    Args:
        name: kernel, sizes and type, for the table.
        kernel: the @triton.jit function.
        types: Triton type of each argument that is not constant, such as `*fp16` or `i32`; an `int` 1 is a stride known
            to be 1.
        constants: compile-time arguments.
        warps, stages: launch options.
        multiplies: whether the kernel is a matrix product, which must run on the tensor cores.
    """

    name: str
    kernel: Any
    types: Mapping[str, str | int]
    constants: Mapping[str, Any]
    warps: int
    stages: int
    multiplies: bool = True


@dataclass(frozen=True)
class Usage:
    """What a compiled kernel takes: registers a thread, spilled bytes, shared memory in bytes, and instructions."""

    registers: int
    spilled_bytes: int
    shared_bytes: int
    warps: int
    tensor_core: int
    async_copies: int


def compile_case(case: Case, architecture: int) -> Usage:
    """Compile for compute capability `architecture` (80 or 90). Pointers are taken to be aligned to 16 bytes."""
    types: dict[str, str] = {}
    constants: dict[Any, Any] = dict(case.constants)
    hints = {}
    for place, name in enumerate(case.kernel.arg_names):
        kind = case.types.get(name)
        if kind is None or isinstance(kind, int):
            types[name] = "constexpr"
            if kind is not None:
                constants[name] = kind
            continue
        divisible = kind.startswith("*") or kind.endswith("%16")
        types[name] = kind.removesuffix("%16")
        if divisible:
            hints[(place,)] = [["tt.divisibility", 16]]
    source = ASTSource(case.kernel, types, constants, hints)
    options = {"num_warps": case.warps, "num_stages": case.stages}
    compiled = triton.compile(source, target=GPUTarget("cuda", architecture, 32), options=options)
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        Path(file.name).write_bytes(compiled.asm["cubin"])
        usage = subprocess.run(
            [_TOOLS / "cuobjdump", "-res-usage", file.name], check=True, capture_output=True, text=True
        ).stdout
    registers, stack = (re.search(rf"{name}:(\d+)", usage) for name in ("REG", "STACK"))
    assert registers is not None
    assert stack is not None
    ptx = compiled.asm["ptx"]
    return Usage(
        registers=int(registers[1]),
        spilled_bytes=int(stack[1]),
        shared_bytes=compiled.metadata.shared,
        warps=case.warps,
        tensor_core=len(re.findall(r"\b(?:wgmma\.mma_async|mma\.sync)", ptx)),
        async_copies=len(re.findall(r"\bcp\.async\.c[ag]", ptx)),
    )

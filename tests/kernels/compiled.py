"""Compile Triton kernels for an NVIDIA architecture without a GPU and report the resources they use."""

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
ARCHITECTURES = (80, 90)
_TENSOR_CORE = {80: r"\bmma\.sync", 90: r"\bwgmma\.mma_async"}
"""Instructions that reach an architecture's full rate: `mma.sync` runs on Hopper too, at about half of it."""
SHARED_LIMIT = {80: 163 * 1024, 90: 227 * 1024}
"""Bytes of shared memory that a block may take (CUDA C++ Programming Guide, table of compute capabilities)."""


@dataclass(frozen=True)
class Case:
    """A kernel as it is launched.

    Args:
        name: kernel, sizes and type, for the table.
        kernel: the @triton.jit function.
        types: Triton type of each argument that is not constant, such as `*fp16`, `i32` or `i32%16` for a multiple of
            16; the integer 1 for a stride that is known to be 1.
        constants: compile-time arguments.
        warps, stages: launch options.
        multiplies: whether the kernel is a matrix product, which must run on the tensor cores with overlapped loads.
        architectures: those that run it so; others have other tiles.
    """

    name: str
    kernel: Any
    types: Mapping[str, str | int]
    constants: Mapping[str, Any]
    warps: int
    stages: int
    multiplies: bool = True
    architectures: tuple[int, ...] = ARCHITECTURES


@dataclass(frozen=True)
class Usage:
    """Resources of a compiled kernel.

    Args:
        registers: registers of a thread.
        spilled_bytes: bytes of a thread's stack.
        shared_bytes: shared memory of a program.
        tensor_core: matrix instructions of the architecture in the code.
        async_copies: copies to shared memory in the code that overlap with arithmetic.
    """

    registers: int
    spilled_bytes: int
    shared_bytes: int
    tensor_core: int
    async_copies: int


def compile_case(case: Case, architecture: int) -> Usage:
    """Compile for compute capability `architecture` (80 or 90). Pointers are taken to be aligned to 16 bytes."""
    types: dict[str, str] = {}
    constants: dict[str, Any] = dict(case.constants)
    hints = {}
    for place, name in enumerate(case.kernel.arg_names):
        kind = case.types.get(name)
        if isinstance(kind, str):
            types[name] = kind.removesuffix("%16")
            if kind.startswith("*") or kind.endswith("%16"):
                hints[(place,)] = [["tt.divisibility", 16]]
        else:
            types[name] = "constexpr"
            constants.setdefault(name, kind)
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
        tensor_core=len(re.findall(_TENSOR_CORE[architecture], ptx)),
        async_copies=len(re.findall(r"\bcp\.async\.c[ag]", ptx)),
    )

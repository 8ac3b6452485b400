"""Compile the window kernels for an NVIDIA architecture, without a GPU: the argument is 80 or 90.

Prints a line per kernel: registers, spilled bytes, shared memory, and the matrix instructions of Hopper.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from helix4d.model.networks import window_attention_kernels as kernels
from helix4d.model.networks.window_attention import AMPERE, HOPPER, Tiling

SIZE = 128
_TOOLS = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"


def compile_kernel(kernel: Any, tiling: Tiling, architecture: int) -> str:
    """What the kernel takes at 128 channels per head in bfloat16."""
    constants = {"tall": tiling.tall, "step": tiling.step, "size": SIZE, "width": SIZE, "exact": "tf32"}
    types, hints = {}, {}
    for place, name in enumerate(kernel.arg_names):
        if name in constants:
            types[name] = "constexpr"
        elif name in ("scale", "factor"):
            types[name] = "fp32"
        elif name == "queries" or name.endswith(("_row", "_head")):
            types[name] = "i32"
        else:
            types[name] = {"lse": "*fp32", "delta": "*fp32", "tiles": "*i32"}.get(name, "*bf16")
        if types[name].startswith("*") or name.endswith(("_row", "_head")):
            hints[(place,)] = [["tt.divisibility", 16]]
    source = ASTSource(kernel, types, {name: constants[name] for name in kernel.arg_names if name in constants}, hints)
    options = {"num_warps": tiling.warps, "num_stages": tiling.stages}
    compiled = triton.compile(source, target=GPUTarget("cuda", architecture, 32), options=options)
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        Path(file.name).write_bytes(compiled.asm["cubin"])
        usage = subprocess.run(
            [_TOOLS / "cuobjdump", "-res-usage", file.name], check=True, capture_output=True, text=True
        ).stdout
    registers, spills = (re.search(rf"{name}:(\d+)", usage) for name in ("REG", "STACK"))
    assert registers is not None
    assert spills is not None
    wgmma = compiled.asm["ptx"].count("wgmma.mma_async")
    return f"registers {registers[1]}, spills {spills[1]}, shared {compiled.metadata.shared}, wgmma {wgmma}"


if __name__ == "__main__":
    sizes = HOPPER if sys.argv[1] == "90" else AMPERE
    for name, shape in (("attend", sizes.forward), ("query_gradient", sizes.query), ("key_value_gradients", sizes.key)):
        print(f"{name}: {compile_kernel(getattr(kernels, name), shape, int(sys.argv[1]))}")

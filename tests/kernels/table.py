"""Every Triton kernel of the repository at its real sizes, and a Markdown table of the resources of each.

    python -m tests.kernels.table

A module `tests/PACKAGE/compile_*.py` lists the kernels of its package in a function `cases`.
"""

from __future__ import annotations

import ast
import importlib
from pathlib import Path

import triton

from tests.kernels.compiled import Case, Usage, compile_case
from tests.package_tree import PACKAGES

ROOT = Path(__file__).resolve().parents[2]


def all_cases() -> list[Case]:
    """Collect the lists of all packages."""
    modules = sorted(path for path in ROOT.glob("tests/*/compile_*.py") if "def cases(" in path.read_text())
    return [
        case for path in modules for case in importlib.import_module(f"tests.{path.parent.name}.{path.stem}").cases()
    ]


def all_kernels() -> set[str]:
    """Names of the functions that are launched: marked `@triton.jit`, without the parts, whose names begin with `_`."""
    found = set()
    for path in (path for package in PACKAGES for path in (ROOT / package).rglob("*.py")):
        if "triton.jit" not in (text := path.read_text()):
            continue
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef):
                found |= {node.name for mark in node.decorator_list if "triton.jit" in ast.unparse(mark)}
    return {name for name in found if not name.startswith("_")}


def row(case: Case, usage: Usage, architecture: int) -> str:
    """One line of the table."""
    matrix = f"{usage.tensor_core} {'wgmma' if architecture == 90 else 'mma'}" if case.multiplies else "–"
    return (
        f"| `{case.kernel.__name__}` | {case.name} | {architecture} | {case.warps} × {case.stages} | {usage.registers} "
        f"| {usage.spilled_bytes} | {usage.shared_bytes / 1024:.1f} | {matrix} "
        f"| {usage.async_copies} |"
    )


if __name__ == "__main__":
    print(f"Triton {triton.__version__}\n")
    print("| kernel | case | sm | warps × stages | registers | spilled bytes | shared KiB | matrix | async copies |")
    print("|---|---|---|---|---|---|---|---|---|")
    for one in all_cases():
        for number in one.architectures:
            print(row(one, compile_case(one, number), number))

"""Versions, and the measured copy bandwidth and bf16 matrix rate of this GPU, compared with the vendor's datasheet."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from collections.abc import Iterator

import torch

from benchmarks.kit.context import Context
from benchmarks.kit.results import Row
from helix4d.train.flops import peak_flops

DATASHEET_COPY = {"H200": 4.8e12, "H100": 3.35e12, "A100": 2.04e12}
"""Memory bandwidth in bytes per second from the vendors' datasheets (SXM, 80 GB or more), by part of the name."""
PACKAGES = ("torch", "triton", "numpy", "numba", "numba-cuda", "transformers", "safetensors", "scipy", "pytest")


def measure(context: Context) -> Iterator[Row]:
    """Name the machine, copy 4 GiB, and multiply two matrices of side 8192 of random numbers."""
    device = context.torch_device()
    yield Row(f"Python {platform.python_version()}; " + ", ".join(map(_version, PACKAGES)))
    yield Row(_machine(device))
    yield _copy(context, device)
    yield _matmul(context, device)


def _copy(context: Context, device: torch.device) -> Row:
    copied = context.pick(1 << 32, 1 << 22)
    source = torch.randint(0, 255, (copied,), dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    rate = 2 * copied / context.seconds(lambda: target.copy_(source))
    datasheet = _datasheet_copy(device)
    return Row(
        f"copy: {rate / 1e12:.3g} TB/s, read and written{_of(rate, datasheet)}",
        target="" if datasheet is None else f"datasheet {datasheet / 1e12:g} TB/s",
        values={"copy_bytes_per_s": rate},
    )


def _matmul(context: Context, device: torch.device) -> Row:
    side = context.pick(8192, 256)
    dtype = torch.bfloat16 if context.on_gpu else torch.float32
    a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    rate = 2.0 * side**3 / context.seconds(lambda: a @ b)
    datasheet = peak_flops(device)
    return Row(
        f"matrix product of side {side}, {dtype}: {rate / 1e12:.3g} TFLOP/s{_of(rate, datasheet)}",
        target="" if datasheet is None else f"datasheet {datasheet / 1e12:g} TFLOP/s",
        values={"matmul_flops": rate},
    )


def _version(package: str) -> str:
    try:
        return f"{package} {importlib.metadata.version(package)}"
    except importlib.metadata.PackageNotFoundError:
        return f"no {package}"


def _machine(device: torch.device) -> str:
    cores = f"{os.cpu_count()} CPU cores"
    if device.type != "cuda":
        return f"{platform.machine()}, {cores}, no GPU used"
    gpu = torch.cuda.get_device_properties(device)
    return (
        f"{gpu.name}, sm_{gpu.major}{gpu.minor}, {gpu.multi_processor_count} multiprocessors, "
        f"{gpu.total_memory / 2**30:.0f} GiB; CUDA {torch.version.cuda}; {cores}"
    )


def _datasheet_copy(device: torch.device) -> float | None:
    if device.type != "cuda":
        return None
    name = torch.cuda.get_device_name(device)
    return next((rate for part, rate in DATASHEET_COPY.items() if part in name), None)


def _of(rate: float, datasheet: float | None) -> str:
    return "" if datasheet is None else f" ({rate / datasheet:.0%} of the datasheet)"

"""Choose the device for a `device` setting, never silently falling back to another; its types, copies to it, caches."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from helix4d.core import ConfigError
from helix4d.core.scratch import own_folder

DEVICES = ("auto", "cpu", "cuda")


def choose_device(name: str, index: int | None = None) -> torch.device:
    """Return the device called `name`; auto is cuda if available, else cpu.

    Args:
        name: one of `DEVICES`.
        index: GPU index; by default the current GPU.

    Raises:
        ConfigError: if the name is unknown, or is cuda and torch finds no GPU.
    """
    if name not in DEVICES:
        hint = "; set CUDA_VISIBLE_DEVICES to select a GPU" if name.startswith("cuda") else ""
        raise ConfigError(f"device is {name!r}: must be one of {', '.join(DEVICES)}{hint}")
    available = torch.cuda.is_available()
    if name == "cuda" and not available:
        raise ConfigError(f"device is cuda, but torch {torch.__version__} finds no GPU: use cpu or auto")
    if name == "cpu" or not available:
        return torch.device("cpu")
    return torch.device("cuda") if index is None else torch.device("cuda", index)


def own_compile_cache() -> None:
    """Keep the cache of `torch.compile` in a folder that only this user can write to; call it before compiling.

    Torch runs code from its cache, and uses `/tmp/torchinductor_USER` even if another user has made that folder.
    A folder that `TORCHINDUCTOR_CACHE_DIR` names is left as it is.

    Raises:
        SetupError: if another user has made the folder that is used instead.
    """
    if "TORCHINDUCTOR_CACHE_DIR" not in os.environ:
        folder = Path(tempfile.gettempdir(), f"helix4d-torchinductor-{os.geteuid()}")
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(own_folder(folder))


def torso_types(device: torch.device) -> tuple[torch.dtype, torch.dtype]:
    """Return the activation types of the flows and of the VAEs for inference.

    On a GPU these are TRELLIS.2's own, bfloat16 and float16 (the VAEs were trained for float16, whose mantissa is three
    bits longer). On a CPU both are float32, because half precision is slow there.
    """
    return (torch.bfloat16, torch.float16) if device.type == "cuda" else (torch.float32, torch.float32)


def upload(values: Sequence[Any], dtype: torch.dtype, device: torch.device | None) -> Tensor:
    """Return numbers or nested lists of numbers as a tensor on `device`, without waiting for a GPU.

    `torch.tensor(values, device="cuda")` copies from pageable memory and blocks until all work queued on the GPU has
    finished. This copies from pinned memory in the order of the current stream.
    """
    if device is None or device.type in ("cpu", "meta"):
        return torch.tensor(values, dtype=dtype, device=device)
    host = torch.tensor(values, dtype=dtype, pin_memory=device.type == "cuda")
    return host.to(device, non_blocking=True)

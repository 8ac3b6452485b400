"""Which device a command runs on, from its `device` setting: never silently another than the one asked for."""

from __future__ import annotations

import torch

from core import ConfigError

DEVICES = ("auto", "cpu", "cuda")


def choose_device(name: str, index: int | None = None) -> torch.device:
    """The device called `name`; auto is cuda where there is one, else cpu.

    Args:
        name: one of `DEVICES`.
        index: which GPU; by default the current one.

    Raises:
        ConfigError: for another name, or for cuda where torch sees no GPU.
    """
    if name not in DEVICES:
        hint = "; CUDA_VISIBLE_DEVICES chooses among several GPUs" if name.startswith("cuda") else ""
        raise ConfigError(f"device is {name!r}: one of {', '.join(DEVICES)}{hint}")
    there = torch.cuda.is_available()
    if name == "cuda" and not there:
        raise ConfigError(f"device is cuda, but torch {torch.__version__} sees no GPU here: use cpu or auto")
    if name == "cpu" or not there:
        return torch.device("cpu")
    return torch.device("cuda") if index is None else torch.device("cuda", index)

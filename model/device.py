"""Where a command computes: what its `--device` says, checked before anything is loaded."""

from __future__ import annotations

import torch

from core import ConfigError


def choose_device(name: str, option: str = "--device") -> torch.device:
    """The device that a user names; `auto` is the GPU where torch finds one.

    Args:
        name: auto, cpu, cuda, or a GPU such as cuda:1.
        option: what the error calls it.

    Raises:
        ConfigError: for another name, or a GPU that torch does not find.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    kind, _, number = name.partition(":")
    if name != "cpu" and (kind != "cuda" or not (number.isdecimal() or name == "cuda")):
        raise ConfigError(f"{option} {name}: auto, cpu or cuda is needed")
    if kind == "cuda" and int(number or 0) >= torch.cuda.device_count():
        raise ConfigError(f"{option} {name}: torch finds {torch.cuda.device_count()} GPUs here; auto or cpu works")
    return torch.device(name)

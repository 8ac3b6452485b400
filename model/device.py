"""Which device a command runs on, from its `device` setting: never silently another than the one asked for; and in
which types networks compute there."""

from __future__ import annotations

import torch

from helix4d.core import ConfigError

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


def torso_types(device: torch.device) -> tuple[torch.dtype, torch.dtype]:
    """Types of the activations inside the flows and inside the VAEs, when nothing is trained.

    On a GPU TRELLIS.2's own, bfloat16 and float16: the VAEs were made for the latter, which is eight times as fine.
    Elsewhere float32, because halves are slow on a CPU.
    """
    return (torch.bfloat16, torch.float16) if device.type == "cuda" else (torch.float32, torch.float32)

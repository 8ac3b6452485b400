"""Checkpoints of a run: folders `checkpoints/step_00000500/`, written atomically.

Only trained tensors are stored; frozen ones are loaded as the configuration specifies. Checkpoints do not depend on the
number of ranks.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from helix4d.core import FormatError, canonical_json, fsync_folder, write_bytes
from helix4d.train.sharding import place_like

_FOLDER = "checkpoints"
_NAME = re.compile(r"step_(\d{8})")
_FILES = ("model", "ema", "optimizer")


@dataclass(frozen=True)
class TrainState:
    """Progress of a run.

    Attributes:
        step: number of optimizer steps taken.
        position: number of clips consumed from the schedule.
        broken: number of clips that could not be read so far, over all ranks.
        clip_history: norms of the latest gradients, for adaptive clipping.
        config: settings of the run.
        clips: hash of the clips' keys; empty in checkpoints that predate this field.
    """

    step: int
    position: int
    broken: int
    clip_history: tuple[float, ...]
    config: dict[str, Any]
    clips: str = ""


@dataclass(frozen=True)
class Checkpoint:
    """The state of a run and its tensors by name."""

    state: TrainState
    model: Mapping[str, Tensor]
    ema: Mapping[str, Tensor]
    optimizer: Mapping[str, Tensor]


def save_checkpoint(run: Path, checkpoint: Checkpoint, keep_last: int, keep_every: int) -> Path:
    """Write a checkpoint under a temporary name, rename it, then remove old checkpoints."""
    final = run / _FOLDER / f"step_{checkpoint.state.step:08d}"
    for leftover in final.parent.glob(".step_*"):  # left by a run that was killed while writing or removing
        shutil.rmtree(leftover)
    temporary = final.with_name(f".{final.name}.tmp")
    temporary.mkdir(parents=True)
    for name in _FILES:
        path = temporary / f"{name}.safetensors"
        tensors: Mapping[str, Tensor] = getattr(checkpoint, name)
        save_file({k: v.detach().cpu().contiguous() for k, v in tensors.items()}, path)
        with open(path, "rb+") as stream:
            os.fsync(stream.fileno())
    write_bytes(temporary / "state.json", canonical_json(asdict(checkpoint.state)))
    if final.exists():
        _remove(final)
    temporary.rename(final)
    fsync_folder(final.parent)
    _remove_old(run, keep_last, keep_every)
    return final


def list_checkpoints(run: Path) -> list[Path]:
    """Return the complete checkpoints of a run, oldest first."""
    folder = run / _FOLDER
    return sorted(p for p in folder.glob("step_*") if _NAME.fullmatch(p.name)) if folder.is_dir() else []


def load_checkpoint(folder: Path) -> Checkpoint:
    """Read a checkpoint, with tensors on the CPU.

    Raises:
        FormatError: if the checkpoint is damaged.
    """
    try:
        values = json.loads((folder / "state.json").read_bytes())
        state = TrainState(**{**values, "clip_history": tuple(values["clip_history"])})
        tensors = {name: load_file(folder / f"{name}.safetensors") for name in _FILES}
    except (OSError, ValueError, TypeError, KeyError, SafetensorError) as error:
        raise FormatError(f"{folder}: not a checkpoint, or damaged ({error})") from error
    return Checkpoint(state, **tensors)


@torch.no_grad()
def restore(tensors: Mapping[str, Tensor], into: Mapping[str, Tensor], origin: str) -> None:
    """Copy tensors into others with the same names and shapes.

    Raises:
        FormatError: if names or shapes differ.
    """
    if {k: v.shape for k, v in tensors.items()} != {k: v.shape for k, v in into.items()}:
        different = sorted(tensors.keys() ^ into.keys())[:3]
        details = f"different names, such as {different}" if different else "different shapes"
        raise FormatError(f"{origin}: its tensors do not match those that this run trains: {details}")
    for name, tensor in into.items():
        tensor.copy_(place_like(tensors[name], tensor))


def _remove_old(run: Path, keep_last: int, keep_every: int) -> None:
    checkpoints = list_checkpoints(run)
    for path in checkpoints[: max(len(checkpoints) - keep_last, 0)]:
        if not (keep_every and int(path.name.removeprefix("step_")) % keep_every == 0):
            _remove(path)


def _remove(checkpoint: Path) -> None:
    """Rename a checkpoint before deleting it, so that no partial checkpoint ever has a valid name."""
    renamed = checkpoint.with_name(f".{checkpoint.name}.old")
    checkpoint.rename(renamed)
    shutil.rmtree(renamed)

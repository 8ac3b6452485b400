"""Checkpoints of a run: folders `checkpoints/step_00000500/`, in the run's folder or at its URL.

A local checkpoint is renamed to its final name when it is complete. At a URL, `state.json` is uploaded last and removed
first, so its presence marks a complete checkpoint, as a sidecar marks a complete shard. Only trained tensors are
stored; frozen ones are loaded as the configuration specifies. Checkpoints do not depend on the number of ranks.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load, load_file, save_file
from torch import Tensor

from helix4d.core import FormatError, canonical_json, fsync_folder, write_bytes
from helix4d.core.storage import fault_in
from helix4d.curation.places.folder import Place, file_in, folder_at, is_far
from helix4d.curation.places.store import Store
from helix4d.train.sharding import place_like

CHECKPOINTS = "checkpoints"
_Place = TypeVar("_Place", bound=Place)
_STATE = "state.json"
_NAME = re.compile(r"step_(\d{8})")
_COMMITTED = re.compile(rf"{CHECKPOINTS}/(step_\d{{8}})/{re.escape(_STATE)}")
_TENSORS = ("model", "ema", "optimizer")


@dataclass(frozen=True)
class TrainState:
    """Progress of a run.

    Attributes:
        step: number of optimizer steps taken.
        position: number of clips consumed from the schedule.
        broken: sorted keys of the clips that could not be used so far, on any rank.
        clip_history: norms of the latest gradients, for adaptive clipping.
        config: settings of the run.
        clips: hash of the clips' keys; empty in checkpoints that predate this field.
        inputs: hashes of what the run reads besides its settings and clips; empty in checkpoints that predate it.
        changes: settings that were changed on resume: step, setting, and the values before and after.
        start_share: remaining share of the initial weights in the moving average.
    """

    step: int
    position: int
    broken: tuple[str, ...]
    clip_history: tuple[float, ...]
    config: dict[str, Any]
    clips: str = ""
    inputs: dict[str, str] = field(default_factory=dict)
    changes: tuple[dict[str, Any], ...] = ()
    start_share: float = 1.0

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> TrainState:
        """Parse the content of `state.json`."""
        broken = values["broken"]
        lists = {
            "broken": tuple(broken) if isinstance(broken, list) else (),  # version 0.4 stored their number
            "clip_history": tuple(values["clip_history"]),
            "changes": tuple(values.get("changes", ())),
        }
        # Version 0.4 did not store the share, but its decay was constant.
        start_share = values["config"]["optimizer"]["ema"] ** values["step"]
        return cls(**{"start_share": start_share, **values, **lists})


@dataclass(frozen=True)
class Checkpoint:
    """The state of a run and its tensors by name."""

    state: TrainState
    model: Mapping[str, Tensor]
    ema: Mapping[str, Tensor]
    optimizer: Mapping[str, Tensor]


def save_checkpoint(run: Path, checkpoint: Checkpoint, keep_last: int, keep_every: int) -> Path:
    """Write a checkpoint under a temporary name, rename it, then remove old checkpoints.

    Raises:
        OSError: if storage refuses it; the function can be called again.
    """
    final = run / CHECKPOINTS / f"step_{checkpoint.state.step:08d}"
    for leftover in final.parent.glob(".step_*"):  # left by a run that was killed while writing or removing
        shutil.rmtree(leftover)
    temporary = final.with_name(f".{final.name}.tmp")
    temporary.mkdir(parents=True)
    for name in _TENSORS:
        path = temporary / f"{name}.safetensors"
        tensors: Mapping[str, Tensor] = getattr(checkpoint, name)
        try:
            save_file({k: v.detach().cpu().contiguous() for k, v in tensors.items()}, path)
        except SafetensorError as error:  # which hides the errno of a full disk
            raise fault_in(str(error), path) or error from error
        with open(path, "rb+") as stream:
            os.fsync(stream.fileno())
    write_bytes(temporary / _STATE, canonical_json(asdict(checkpoint.state)))
    if final.exists():
        _remove(final)
    temporary.rename(final)
    fsync_folder(final.parent)
    for path in _outdated(list_checkpoints(run), keep_last, keep_every):
        _remove(path)
    return final


def publish_checkpoint(store: Store, folder: Path, keep_last: int, keep_every: int) -> None:
    """Upload a local checkpoint to the URL of its run, `state.json` last, then remove old ones there.

    Raises:
        StoreError: if the store refuses a file; the function can be called again.
    """
    place = f"{CHECKPOINTS}/{folder.name}"
    store.remove(f"{place}/{_STATE}")
    for name in _TENSORS:
        store.upload(f"{place}/{name}.safetensors", folder / f"{name}.safetensors")
    store.upload(f"{place}/{_STATE}", folder / _STATE)
    names = store.names(CHECKPOINTS)
    complete = _complete(names)
    kept = {*complete} - {*_outdated(complete, keep_last, keep_every)}
    # Old checkpoints, and those that a killed run did not finish.
    for name in sorted(names, key=lambda name: not name.endswith(_STATE)):
        if name.split("/")[1] not in kept:
            store.remove(name)


def list_checkpoints(run: Place) -> list[Any]:
    """Return the complete checkpoints of a run as paths or URLs, oldest first."""
    if is_far(run):
        return [f"{run}/{CHECKPOINTS}/{name}" for name in _complete(folder_at(run).names(CHECKPOINTS))]
    folder = Path(run) / CHECKPOINTS
    return sorted(p for p in folder.glob("step_*") if _NAME.fullmatch(p.name)) if folder.is_dir() else []


def name_of(checkpoint: Place) -> str:
    """Return the name of a checkpoint, such as `step_00000500`."""
    return str(checkpoint).rpartition("/")[2]


def step_of(checkpoint: Place) -> int:
    """Return the step of a checkpoint."""
    return int(name_of(checkpoint).removeprefix("step_"))


def load_checkpoint(place: Place) -> Checkpoint:
    """Read a checkpoint, with tensors on the CPU.

    Raises:
        FormatError: if the checkpoint is damaged.
        StoreError: if a URL cannot be read.
    """
    folder = folder_at(place)
    try:
        state = TrainState.from_json(json.loads(folder.read(_STATE)))
        tensors = {name: _tensors(place, f"{name}.safetensors") for name in _TENSORS}
    except (OSError, ValueError, TypeError, KeyError, SafetensorError) as error:
        raise FormatError(f"{place}: not a checkpoint, or damaged ({error})") from error
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


def _tensors(place: Place, name: str) -> dict[str, Tensor]:
    return load(folder_at(place).read(name)) if is_far(place) else load_file(file_in(place, name))


def _complete(names: Iterable[str]) -> list[str]:
    """Return the checkpoints that have been committed among the names of all files at a URL, oldest first."""
    return sorted(match[1] for match in map(_COMMITTED.fullmatch, names) if match)


def _outdated(checkpoints: Sequence[_Place], keep_last: int, keep_every: int) -> list[_Place]:
    old = checkpoints[: max(len(checkpoints) - keep_last, 0)]
    return [place for place in old if not (keep_every and step_of(place) % keep_every == 0)]


def _remove(checkpoint: Path) -> None:
    """Rename a checkpoint before deleting it, so that no partial checkpoint ever has a valid name."""
    renamed = checkpoint.with_name(f".{checkpoint.name}.old")
    checkpoint.rename(renamed)
    shutil.rmtree(renamed)

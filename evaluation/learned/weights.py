"""Published checkpoints become networks: read as tensors only, fitted by name and shape.

A folder of weights (`--weights DIR`) holds every file where its own download command puts it; a metric whose files are
not there says that command. No file may run code: safetensors, or `torch.load(weights_only=True)`.
"""

from __future__ import annotations

import argparse
import pickle
import shlex
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy._core.multiarray import scalar as _scalar
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from helix4d.core import FormatError, first_line

_Network = TypeVar("_Network", bound=nn.Module)

_LISTED = 5
"""Names of each kind that a message shows."""

# What published training checkpoints hold beside tensors: options and scores. They are plain data, no code runs.
_PLAIN: list[Any] = [
    argparse.Namespace,
    (_scalar, "numpy.core.multiarray.scalar"),  # as numpy 1 wrote it
    _scalar,
    np.dtype,
    np.dtypes.Float64DType,
    np.dtypes.Float32DType,
    np.dtypes.Int64DType,
]


@dataclass(frozen=True)
class WeightFile:
    """A file that a metric needs, and how to get it.

    Args:
        path: relative to the folder of weights.
        command: puts it there; `{weights}` stands for the folder.
    """

    path: str
    command: str


def hub_file(folder: str, repository: str, file: str, kind: str = "model", revision: str | None = None) -> WeightFile:
    """A file of a hub repository, kept in `folder` under its own path."""
    options = (f" --repo-type {kind}" if kind != "model" else "") + (f" --revision {revision}" if revision else "")
    return WeightFile(f"{folder}/{file}", f"hf download {repository} {file}{options} --local-dir {{weights}}/{folder}")


def linked_file(path: str, address: str) -> WeightFile:
    """A file behind a plain link."""
    return WeightFile(path, f"curl -fL --create-dirs -o {{weights}}/{path} {address}")


@dataclass
class Networks:
    """The networks of one evaluation: each is read once, when the first item needs it, and kept on its device.

    Args:
        weights: the folder; None where the user named none.
    """

    weights: Path | None
    _kept: dict[tuple[str, str], nn.Module] = field(default_factory=dict)

    def missing(self, files: Sequence[WeightFile]) -> str | None:
        """What is not there, with the commands that fetch it; None if all is."""
        folder = self.weights
        absent = [file for file in files if folder is None or not (folder / file.path).is_file()]
        if not absent:
            return None
        shown = "DIR" if folder is None else shlex.quote(str(folder))
        commands = "; ".join(dict.fromkeys(file.command.format(weights=shown) for file in absent))
        return f"weights missing: {commands}; then --weights {shown}"

    def path(self, file: WeightFile) -> Path:
        """Where a file is.

        Raises:
            FormatError: if it is not there.
        """
        if (reason := self.missing([file])) is not None or self.weights is None:
            raise FormatError(f"{file.path}: {reason}")
        return self.weights / file.path

    def get(self, name: str, device: torch.device, build: Callable[[], _Network]) -> _Network:
        """The network called `name` on `device`, in evaluation mode and without gradients."""
        key = (name, str(device))
        if key not in self._kept:
            self._kept[key] = build().eval().requires_grad_(False).to(device)
        return self._kept[key]  # type: ignore[return-value]


def unwrapped(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The names that stood before torch's parallel training put its own `module.` in front of them."""
    return {name.removeprefix("module."): value for name, value in tensors.items()}


def read_tensors(path: Path, inside: Sequence[str] = ()) -> dict[str, Tensor]:
    """All tensors of a checkpoint, on the CPU.

    Args:
        path: a safetensors file, or one of torch.save.
        inside: keys below which the state may be, tried in this order; the whole file if none is there.

    Raises:
        FormatError: if it is neither, or would run code.
    """
    if path.suffix == ".safetensors":
        try:
            with safe_open(path, "pt") as stored:
                return {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
        except SafetensorError as error:
            raise FormatError(f"{path.name}: not a safetensors file, or a truncated one: {error}") from error
    try:
        with torch.serialization.safe_globals(_PLAIN):  # mapping into memory: only what is used is read
            document = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except (
        pickle.UnpicklingError,
        RuntimeError,
        EOFError,
        ValueError,
        LookupError,
        AttributeError,
        TypeError,
    ) as error:
        raise FormatError(
            f"{path.name}: not a checkpoint of plain tensors, or a truncated one; nothing in it was run "
            f"({first_line(error)}); if you trust it, save its tensors alone by torch.save under the same name"
        ) from error
    found = next((document[key] for key in inside if isinstance(document, Mapping) and key in document), document)
    if not isinstance(found, Mapping):
        raise FormatError(f"{path.name}: holds a {type(found).__name__}, not a dictionary of tensors")
    return {name: value for name, value in found.items() if isinstance(value, Tensor)}


def select(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors below a prefix, without it."""
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def load_named(
    build: Callable[[], _Network], tensors: Mapping[str, Tensor], origin: str, unused: Sequence[str] = ()
) -> _Network:
    """A network with a checkpoint's float32 weights; every name and every shape must be right.

    Args:
        build: makes the network; called where tensors take no memory.
        tensors: the checkpoint's, by the network's own names.
        origin: of the tensors, for messages.
        unused: beginnings of names that the published file has and the metric does not use.

    Raises:
        FormatError: with the names that are missing, unknown or of another shape.
    """
    with torch.device("meta"):
        network = build()
    wanted = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    given = {name: value for name, value in tensors.items() if name in wanted or not name.startswith(tuple(unused))}
    # Counted in training only, and absent from files of before they were counted: torch itself puts zeros there.
    counts = {name for name in wanted.keys() - given.keys() if name.endswith(".num_batches_tracked")}
    given |= {name: torch.zeros((), dtype=torch.long) for name in counts}
    missing, unknown = sorted(wanted.keys() - given.keys()), sorted(given.keys() - wanted.keys())
    other = [
        f"{name} {tuple(given[name].shape)} instead of {wanted[name]}"
        for name in sorted(wanted.keys() & given.keys())
        if tuple(given[name].shape) != wanted[name]
    ]
    if missing or unknown or other:
        raise FormatError(
            f"{origin}: does not fit {type(network).__name__}: {len(missing)} tensors missing {missing[:_LISTED]}, "
            f"{len(unknown)} unknown {unknown[:_LISTED]}, {len(other)} of another shape {other[:_LISTED]}"
        )
    network.load_state_dict(
        {name: value.float() if value.is_floating_point() else value for name, value in given.items()}, assign=True
    )
    return network.eval().requires_grad_(False)

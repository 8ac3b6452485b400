"""Published checkpoints become networks: read as plain tensors, matched by name and shape.

Each file is expected in the folder of weights (`--weights DIR`) where its download command puts it; a metric with
missing files reports that command. No file can run code: safetensors, or `torch.load(weights_only=True)`.
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

_STATE_KEYS = ("module", "state_dict")
"""Keys of training checkpoints that hold the state, in order of preference."""
_LISTED = 5
"""Maximum number of names of each kind in a message."""

# Content of published training checkpoints beside tensors: options and scores. Plain data that runs no code.
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
    """A file that a metric needs, and how to download it.

    Args:
        path: path relative to the folder of weights.
        command: download command, in which `{weights}` stands for the folder.
    """

    path: str
    command: str


def hub_file(folder: str, repository: str, file: str, kind: str = "model", revision: str | None = None) -> WeightFile:
    """A file of a hub repository, stored in `folder` under its path in the repository."""
    options = (f" --repo-type {kind}" if kind != "model" else "") + (f" --revision {revision}" if revision else "")
    return WeightFile(f"{folder}/{file}", f"hf download {repository} {file}{options} --local-dir {{weights}}/{folder}")


def linked_file(path: str, address: str) -> WeightFile:
    """A file behind a plain URL."""
    return WeightFile(path, f"curl -fL --create-dirs -o {{weights}}/{path} {address}")


@dataclass
class Networks:
    """The networks of an evaluation. Each is loaded when it is first needed, and kept on its device.

    Args:
        weights: folder of weights; None if the user set none.
    """

    weights: Path | None
    _kept: dict[tuple[str, str], nn.Module] = field(default_factory=dict)

    def missing(self, files: Sequence[WeightFile]) -> str | None:
        """A message with the download commands of missing files; None if all files exist."""
        folder = self.weights
        absent = [file for file in files if folder is None or not (folder / file.path).is_file()]
        if not absent:
            return None
        shown = "DIR" if folder is None else shlex.quote(str(folder))
        commands = "; ".join(dict.fromkeys(file.command.format(weights=shown) for file in absent))
        return f"weights missing: {commands}; then --weights {shown}"

    def path(self, file: WeightFile) -> Path:
        """Path of a file.

        Raises:
            FormatError: if the file does not exist.
        """
        if (reason := self.missing([file])) is not None or self.weights is None:
            raise FormatError(f"{file.path}: {reason}")
        return self.weights / file.path

    def get(self, name: str, device: torch.device, build: Callable[[], _Network]) -> _Network:
        """Return the network called `name` on `device`, in evaluation mode and without gradients."""
        key = (name, str(device))
        if key not in self._kept:
            self._kept[key] = build().eval().requires_grad_(False).to(device)
        return self._kept[key]  # type: ignore[return-value]


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read all tensors of a checkpoint, on the CPU, without the `module.` that parallel training puts before names.

    Args:
        path: a safetensors file, or one of torch.save with the state at the top or under `module` or `state_dict`.

    Raises:
        FormatError: if the file is neither, or would run code.
    """
    if path.suffix == ".safetensors":
        try:
            with safe_open(path, "pt") as stored:
                return {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
        except SafetensorError as error:
            raise FormatError(f"{path.name}: not a valid safetensors file ({error})") from error
    try:
        with torch.serialization.safe_globals(_PLAIN):  # memory-mapped, so that only the tensors in use are read
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
            f"{path.name}: truncated, or not a checkpoint of plain tensors ({first_line(error)}); nothing in it was "
            "run. If you trust it, save only its tensors with torch.save under the same name"
        ) from error
    state = next((document[key] for key in _STATE_KEYS if isinstance(document, Mapping) and key in document), document)
    if not isinstance(state, Mapping):
        raise FormatError(f"{path.name}: holds a {type(state).__name__}, not a dictionary of tensors")
    return {name.removeprefix("module."): value for name, value in state.items() if isinstance(value, Tensor)}


def load_named(
    build: Callable[[], _Network],
    tensors: Mapping[str, Tensor],
    origin: str,
    *,
    prefix: str = "",
    unused: Sequence[str] = (),
) -> _Network:
    """Build a network with the weights of a checkpoint, as float32; all names and shapes must match.

    Args:
        build: builds the network; called on the meta device.
        tensors: tensors of the checkpoint by name.
        origin: name of the checkpoint, for messages.
        prefix: prefix of the network's tensors in the checkpoint; others are ignored.
        unused: prefixes, after `prefix`, of further tensors to ignore.

    Raises:
        FormatError: if tensors are missing, unknown or of another shape; the message lists them.
    """
    with torch.device("meta"):
        network = build()
    named = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
    if not named:
        raise FormatError(f"{origin}: no tensors for {type(network).__name__}: expected names that begin with {prefix}")
    wanted = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    given = {name: value for name, value in named.items() if name in wanted or not name.startswith(tuple(unused))}
    # Batch counts are used in training only, and missing in old files: torch itself fills in zeros.
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
            f"{origin}: does not match {type(network).__name__}: {len(missing)} tensors missing {missing[:_LISTED]}, "
            f"{len(unknown)} unknown {unknown[:_LISTED]}, {len(other)} of another shape {other[:_LISTED]}"
        )
    network.load_state_dict(
        {name: value.float() if value.is_floating_point() else value for name, value in given.items()}, assign=True
    )
    return network.eval().requires_grad_(False)

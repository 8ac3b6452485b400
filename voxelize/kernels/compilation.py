"""Compilation of the kernels: once a machine, however many processes start at once.

Kernels are declared with `kernel`, the entry points with the types of their arguments, so that there is exactly one
specialization of each. The machine code goes to numba's on-disk cache (beside the sources, or in the user's cache
folder where that is not writable, or where NUMBA_CACHE_DIR says). The first process compiles under a file lock in that
folder and leaves a stamp there; others wait for it and load. Numba itself looks only at the file of a kernel, not at
those of the functions that it calls, so a stamp of all sources also keeps an update from running old code.
"""

from __future__ import annotations

import hashlib
import logging
import threading
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import llvmlite  # type: ignore[import-untyped]
import numba
from numba import njit, types

from helix4d.core.locks import file_lock

b1, u1, i4, i8 = types.boolean, types.uint8, types.int32, types.int64
u4, f4, f8 = types.uint32, types.float32, types.float64

_LOG = logging.getLogger(__name__)
_SOURCES = Path(__file__).resolve().parent
_KERNELS: list[tuple[Any, tuple[Any, ...]]] = []
_GUARD = threading.Lock()
_STATE = {"ready": False, "compiled": 0}


def array(dtype: Any, dimensions: int, writable: bool = False) -> Any:
    """The type of a C-contiguous array; one that is only read takes read-only arrays too."""
    return types.Array(dtype, dimensions, "C", readonly=not writable)


def kernel(*arguments: Any) -> Callable[[Callable[..., Any]], Any]:
    """Compile a function for the CPU: an entry point for these types only, or, without types, where it is called."""

    def declare(function: Callable[..., Any]) -> Any:
        options: dict[str, Any] = {"nogil": True, "error_model": "numpy"}
        if not arguments:
            return njit(**options)(function)
        try:
            dispatcher = njit(cache=True, **options)(function)
        except RuntimeError:  # neither the sources' folder nor the user's cache folder is writable
            _LOG.warning("no writable folder for compiled kernels: set NUMBA_CACHE_DIR, or each process compiles anew")
            dispatcher = njit(**options)(function)
        _KERNELS.append((dispatcher, arguments))
        return dispatcher

    return declare


def warm_up() -> int:
    """Compile every kernel, or load it from the cache; returns how many had to be compiled by this process.

    The functions of this package call it at their first use. Call it at installation, or before starting many
    processes, to have it done. It costs nothing when it was called before.
    """
    if _STATE["ready"]:
        return _STATE["compiled"]
    with _GUARD:
        if not _STATE["ready"]:
            folder = _cache_folder()
            stamp = folder / f"voxelize-{_fingerprint()}.stamp" if folder else None
            if folder is None or stamp is None or stamp.exists():
                _STATE["compiled"] = _load()
            else:
                with ExitStack() as stack:
                    with suppress(OSError):  # without locks, or in a read-only folder, processes may compile twice
                        stack.enter_context(file_lock(folder / "voxelize.lock"))
                    if not stamp.exists():
                        _clear(folder)
                    _STATE["compiled"] = _load()
                    stamp.touch()
            _STATE["ready"] = True
    return _STATE["compiled"]


def _load() -> int:
    missed = 0
    for dispatcher, arguments in _KERNELS:
        dispatcher.compile(arguments)
        dispatcher.disable_compile()
        missed += sum(dispatcher.stats.cache_misses.values())
    if missed:
        _LOG.info("compiled %d kernels", missed)
    return missed


def _cache_folder() -> Path | None:
    """Where numba keeps the machine code of this package; None if nowhere."""
    path = _KERNELS[0][0].stats.cache_path
    if path is None:
        return None
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    return folder


def _fingerprint() -> str:
    """A hash of all that the machine code depends on."""
    found = hashlib.sha256()
    for source in sorted(_SOURCES.glob("*.py")):
        if source.stem.endswith("_kernels"):
            found.update(source.name.encode() + source.read_bytes())
    host = llvmlite.binding.get_host_cpu_name(), str(llvmlite.binding.get_host_cpu_features())
    found.update(repr((numba.__version__, llvmlite.__version__, host)).encode())
    return found.hexdigest()[:16]


def _clear(folder: Path) -> None:
    """Remove what other sources were compiled to; a stamp of this package says nothing about other packages' files."""
    for pattern in ("*_kernels.*.nbi", "*_kernels.*.nbc", "voxelize-*.stamp"):
        for path in folder.glob(pattern):
            path.unlink(missing_ok=True)

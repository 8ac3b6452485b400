"""Compiles the kernels once per machine, even if many processes start at the same time.

Kernels are declared with `kernel`; entry points list the types of their arguments, so that each has exactly one
specialization. Machine code goes to numba's on-disk cache: beside the sources, in the user's cache folder if that is
not writable, or in NUMBA_CACHE_DIR. The first process compiles under a file lock in that folder and leaves a stamp; the
others wait and load. Numba invalidates a kernel only when its own file changes, not when a file it calls into does, so
the stamp covers all sources.
"""

from __future__ import annotations

import hashlib
import logging
import os
import stat
import threading
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import llvmlite  # type: ignore[import-untyped]
import numba
from numba import njit, types
from numba.core import event

from helix4d.core import SetupError
from helix4d.core.locks import file_lock

b1, u1, i4, i8 = types.boolean, types.uint8, types.int32, types.int64
u4, u8, f4, f8 = types.uint32, types.uint64, types.float32, types.float64

SIMULATED = bool(numba.config.ENABLE_CUDASIM)  # type: ignore[attr-defined]
"""Whether GPU kernels run in numba's simulator (NUMBA_ENABLE_CUDASIM=1)."""

_LOG = logging.getLogger(__name__)
_SOURCES = Path(__file__).resolve().parent
_KERNELS: list[tuple[Any, tuple[Any, ...]]] = []
_GUARD = threading.Lock()
_STATE = {"ready": False, "compiled": 0}


def array(dtype: Any, dimensions: int, writable: bool = False) -> Any:
    """Return the type of a C-contiguous array; one that is only read takes read-only arrays too."""
    return types.Array(dtype, dimensions, "C", readonly=not writable)


def kernel(*arguments: Any) -> Callable[[Callable[..., Any]], Any]:
    """Compile a function for the CPU: with types, as an entry point for these only; without, where it is called."""

    def declare(function: Callable[..., Any]) -> Any:
        options: dict[str, Any] = {"nogil": True, "error_model": "numpy"}
        if not arguments:
            return njit(**options)(function)
        try:
            dispatcher = njit(cache=True, **options)(function)
        except RuntimeError:  # neither the source folder nor the user's cache folder is writable
            _LOG.warning("no writable folder for compiled kernels, so every process compiles them: set NUMBA_CACHE_DIR")
            dispatcher = njit(**options)(function)
        _KERNELS.append((dispatcher, arguments))
        return dispatcher

    return declare


def warm_up() -> int:
    """Compile every kernel or load it from the cache; returns the number that this process compiled.

    The functions of this package call it on first use. Call it at installation, or before starting many processes.
    Further calls return immediately.

    Raises:
        SetupError: if other users may have written to the folder of compiled kernels.
    """
    if _STATE["ready"]:
        return _STATE["compiled"]
    with _GUARD:
        if not _STATE["ready"]:
            folder = _cache_folder()
            if folder is not None:
                _refuse_foreign(folder)
            stamp = folder / f"voxelize-{_fingerprint()}.stamp" if folder else None
            if folder is None or stamp is None or stamp.exists():
                _STATE["compiled"] = _load()
            else:
                with ExitStack() as stack:
                    # Listeners for compilations are also notified if another process compiles and this one waits.
                    stack.enter_context(event.trigger_event("numba:compile"))
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
    """Return the folder of numba's cache for this package; None if there is none."""
    path = _KERNELS[0][0].stats.cache_path
    if path is None:
        return None
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    return folder


def _refuse_foreign(folder: Path) -> None:
    """Check that other users could not have put code into the cache, because numba runs it.

    Raises:
        SetupError: if the folder is a link, belongs to anyone but this user and the owner of the sources, or is
            writable by everyone.
    """
    status = folder.lstat()
    owners = (os.geteuid(), _SOURCES.stat().st_uid)
    if stat.S_ISDIR(status.st_mode) and status.st_uid in owners and not status.st_mode & stat.S_IWOTH:
        return
    raise SetupError(
        f"{folder}: not used for compiled kernels, because other users may have written to it: remove it, or set "
        "NUMBA_CACHE_DIR to a folder of your own"
    )


def _fingerprint() -> str:
    """Hash of everything that the machine code depends on."""
    digest = hashlib.sha256()
    for source in sorted(_SOURCES.glob("*.py")):
        if source.stem.endswith("_kernels"):
            digest.update(source.name.encode() + source.read_bytes())
    host = llvmlite.binding.get_host_cpu_name(), str(llvmlite.binding.get_host_cpu_features())
    digest.update(repr((numba.__version__, llvmlite.__version__, host)).encode())
    return digest.hexdigest()[:16]


def _clear(folder: Path) -> None:
    """Remove machine code compiled from other versions of the sources."""
    for pattern in ("*_kernels.*.nbi", "*_kernels.*.nbc", "voxelize-*.stamp"):
        for path in folder.glob(pattern):
            path.unlink(missing_ok=True)

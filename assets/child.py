"""The child process of `isolated.py`: reads one request from standard input and writes its answer to a folder."""

from __future__ import annotations

import ctypes
import faulthandler
import json
import signal
import sys
import traceback
from pathlib import Path
from typing import Any

from helix4d.assets.bake import bake_unpacked, list_unpacked
from helix4d.assets.choice import ClipInfo
from helix4d.assets.isolated import ANSWER, clip_file
from helix4d.assets.limits import Limits
from helix4d.assets.sampling import Sampling
from helix4d.core import AssetError, ConfigError, ReasonCode, SetupError, write_bytes
from helix4d.core.messages import reproducible

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Answer one request."""
    faulthandler.enable()
    # If the parent is killed while a library runs, only the kernel can end this process.
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    request = json.load(sys.stdin)
    write_bytes(Path(request["folder"], ANSWER), json.dumps(_answer(request)).encode())


def _answer(request: dict[str, Any]) -> dict[str, Any]:
    path, root, limits = Path(request["path"]), Path(request["root"]), Limits(**request["limits"])
    try:
        if request["task"] == "list":
            return {"clips": [_described(info) for info in list_unpacked(path, root, limits)]}
        clips = bake_unpacked(path, root, Sampling(**request["sampling"]), request["clip"], limits)
        for number, clip in enumerate(clips):
            clip.save(clip_file(Path(request["folder"]), number))
        return {"clips": len(clips)}
    except AssetError as error:
        return {"error": _error(error)}
    except ConfigError as error:
        return {"config": str(error), "setup": isinstance(error, SetupError)}
    except MemoryError:
        return {"error": _error(AssetError(ReasonCode.OUT_OF_MEMORY, "an allocation failed", path))}
    except OSError as error:
        return {"storage": [error.errno, error.strerror, error.filename and str(error.filename)]}
    except Exception as error:  # noqa: BLE001 (the parent reports any error of a reader as a problem of this file)
        traceback.print_exc()
        message = reproducible(f"{type(error).__name__}: {error}")
        return {"error": _error(AssetError(ReasonCode.CRASHED, message, path))}


def _described(info: ClipInfo) -> dict[str, Any]:
    error = info.error and _error(info.error)
    return {"index": info.index, "name": info.name, "start": info.start, "end": info.end, "error": error}


def _error(error: AssetError) -> dict[str, Any]:
    return {"code": error.code, "message": error.message, "path": error.path}


if __name__ == "__main__":
    main()

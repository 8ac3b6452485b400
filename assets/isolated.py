"""Reads a file in a child process, so that a crash of a library kills only that process.

Each call starts one child (`child.py`), which writes its results to a temporary folder: clips with
`Clip.save`, everything else as JSON.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

from helix4d.assets.choice import ClipInfo
from helix4d.assets.clip import Clip
from helix4d.assets.limits import Limits
from helix4d.assets.sampling import Sampling
from helix4d.core import AssetError, ConfigError, ReasonCode, SetupError
from helix4d.core.processes import child_environment_without_secrets
from helix4d.core.scratch import scratch_folder

_LOG = logging.getLogger(__name__)

ANSWER = "answer.json"
_LOG_BYTES = 2000


def clip_file(folder: Path, number: int) -> Path:
    """Return where the child writes a clip."""
    return folder / f"clip_{number:04d}.safetensors"


def bake_in_child(path: Path, root: Path, sampling: Sampling, clip: str | int, limits: Limits) -> list[Clip]:
    """Bake a file in a child process.

    Args:
        path: file or folder that is not an archive.
        root: folder that its references must not leave.
        sampling: how the animations are sampled.
        clip: as in `bake`.
        limits: upper bounds on the size of the file.

    Raises:
        AssetError: as in `bake`; crashed if the child dies, out_of_memory if it was killed or runs out of memory.
        ConfigError: if a package is missing.
        OSError: if storage fails.
    """
    with scratch_folder("helix4d-bake-") as folder:
        answer = _ask(folder, {"task": "bake", "sampling": asdict(sampling), "clip": clip}, path, root, limits)
        return [Clip.load(clip_file(folder, number)) for number in range(answer["clips"])]


def list_in_child(path: Path, root: Path, limits: Limits) -> list[ClipInfo]:
    """List the animations of a file in a child process.

    Raises:
        AssetError, ConfigError, OSError: see `bake_in_child`.
    """
    with scratch_folder("helix4d-bake-") as folder:
        found = _ask(folder, {"task": "list"}, path, root, limits)["clips"]
    return [
        ClipInfo(info["index"], info["name"], info["start"], info["end"], info["error"] and _asset_error(info["error"]))
        for info in found
    ]


def _ask(folder: Path, task: Mapping[str, Any], path: Path, root: Path, limits: Limits) -> dict[str, Any]:
    place = {"path": str(path), "root": str(root), "folder": str(folder)}
    request = json.dumps({**task, **place, "limits": asdict(limits)})
    with tempfile.TemporaryFile() as log:
        done = subprocess.run(
            [sys.executable, "-m", "helix4d.assets.child"],
            input=request.encode(),
            stdout=log,
            stderr=subprocess.STDOUT,
            env=child_environment_without_secrets(),
            check=False,
        )
        if done.returncode != 0 or not (folder / ANSWER).is_file():
            raise _died(done.returncode, log, path)
    answer: dict[str, Any] = json.loads((folder / ANSWER).read_bytes())
    if "error" in answer:
        raise _asset_error(answer["error"])
    if "config" in answer:
        raise (SetupError if answer["setup"] else ConfigError)(answer["config"])
    if "storage" in answer:
        raise OSError(*answer["storage"])
    return answer


def _asset_error(found: Mapping[str, Any]) -> AssetError:
    return AssetError(ReasonCode(found["code"]), found["message"], found["path"])


def _died(status: int, log: IO[bytes], path: Path) -> AssetError:
    """Return the error for a child that has died; its last output goes to the log of this process."""
    log.seek(max(0, log.seek(0, os.SEEK_END) - _LOG_BYTES))
    _LOG.debug("%s: the process that read it printed: %s", path, log.read().decode(errors="replace"))
    if status == -signal.SIGKILL:
        return AssetError(
            ReasonCode.OUT_OF_MEMORY,
            "the process that read it was killed, probably because it used too much memory",
            path,
        )
    how = f"signal {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"
    return AssetError(ReasonCode.CRASHED, f"the process that read it died ({how})", path)

"""Reads damaged outputs with every command, and records opened files: the argument is a JSON file with the settings.

Defects are an exception that a command does not turn into a message, a file opened outside the given
folders, control characters on the terminal, and more memory than the limit. Prints one line of JSON per mutant.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from helix4d.cli.main import main
from helix4d.core import Helix4DError, ReasonCode
from helix4d.curation.shards.layout import LEDGER_FILE
from helix4d.curation.shards.ledger import Ledger
from tests.curation.output_mutations import copy, damage

MEMORY_BYTES = 3 << 30
REPOSITORY = Path(__file__).resolve().parents[2]
SEED = 11
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


class Watch:
    """An audit hook that records files opened outside the allowed folders."""

    def __init__(self, read: list[str], write: list[str]) -> None:
        self.escapes: list[str] = []
        self._read, self._write = tuple(read), tuple(write)
        self.running = False
        sys.addaudithook(self._audit)

    def _audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.running or event not in ("open", "os.remove", "os.rename", "os.mkdir", "os.rmdir"):
            return
        path, flags = arguments[0], arguments[2] if event == "open" else os.O_WRONLY
        if not isinstance(path, str | bytes | os.PathLike):
            return
        if event in ("os.remove", "os.rmdir") and arguments[1] != -1:
            return  # relative to a folder that was opened, and checked, before
        where = os.path.realpath(os.fsdecode(path))
        if "/__pycache__" in where:
            return  # Python and numba
        writing = event != "open" or (isinstance(flags, int) and flags & _WRITING)
        allowed = self._write if writing else self._read + self._write
        if not any(where == folder or where.startswith(folder.rstrip("/") + "/") for folder in allowed):
            self.escapes.append(f"{'write' if writing else 'read'} {where}")


def run(settings: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Damage and read the outputs of the settings: `curated`, `latents` (may be ""), `models`, `folder`, `numbers`."""
    folder, models = Path(settings["folder"]), Path(settings["models"])
    watch = Watch(
        read=["/usr", "/proc", "/sys", "/etc", "/dev", "/lib", sys.prefix, sys.base_prefix]
        + [settings["repository"], settings["models"]],
        write=[str(folder), str(Path(tempfile.gettempdir()) / "helix4d"), "/dev/null", settings["cache"]],
    )
    readers = _latent_readers if settings["latents"] else _curated_readers
    # What the training reader counts as a broken clip; commands turn their errors into messages themselves.
    expected: tuple[type[Exception], ...] = (Helix4DError, KeyError, OSError) if settings["latents"] else ()
    for number in settings["numbers"]:
        output = copy(Path(settings["curated"]), folder / "output")
        damaged = output
        if settings["latents"]:
            damaged = copy(Path(settings["latents"]), folder / "latents")
        done = damage(damaged, SEED, number)
        defects = []
        for name, read in readers(output, damaged, folder, models):
            screen = io.StringIO()
            watch.escapes.clear()
            watch.running = True
            try:
                with contextlib.redirect_stdout(screen), contextlib.redirect_stderr(screen):
                    read()
            except expected:
                pass
            except BaseException:  # noqa: BLE001 (whatever it is, it is a defect)
                defects.append(f"{name}: {traceback.format_exc()[-3000:]}")
            finally:
                watch.running = False
            defects += [f"{name}: {escape}" for escape in dict.fromkeys(watch.escapes)]
            if any(ord(letter) < 32 and letter not in "\n\t\r" for letter in screen.getvalue()):
                defects.append(f"{name}: control characters on the terminal: {screen.getvalue()[:300]!r}")
        yield {"number": number, "damage": [f"{one.file}: {one.how}" for one in done], "defects": defects}


def _curated_readers(
    output: Path, _damaged: Path, folder: Path, models: Path
) -> Iterator[tuple[str, Callable[[], Any]]]:
    yield "encode", partial(_encode, output, _removed(folder / "encoded"), models)
    yield "verify", partial(main, ["verify", str(output), "--workers", "1"])
    yield "report", partial(main, ["report", str(output), "--folder", str(folder / "report"), "--workers", "1"])
    for tar in sorted(output.glob("*/*.tar"))[:2]:
        yield "inspect", partial(main, ["inspect", str(tar), "--sheet", str(folder / "sheet.webp")])
        for key in _keys(tar)[:1]:
            yield "inspect sample", partial(main, ["inspect", str(tar), key])
            yield "view", partial(main, ["view", str(tar), key, "--no-open", "--page", str(folder / "page.html")])


def _latent_readers(
    shards: Path, latents: Path, _folder: Path, models: Path
) -> Iterator[tuple[str, Callable[[], Any]]]:
    from helix4d.train.config import DataConfig, Stage
    from helix4d.train.data.dataset import ClipReader

    def read(stage: Stage) -> None:
        reader = ClipReader(
            DataConfig(latents=str(latents), images=str(shards), statistics="computed", image_size=32), stage
        )
        reader.costs(2)
        for number in range(len(reader)):
            with contextlib.suppress(Helix4DError, KeyError, OSError):
                reader.training_clip(number, (0, 0, 0), 0.1)

    for stage in Stage:
        yield f"training reader, {stage}", partial(read, stage)
    yield "encode, resumed", partial(_encode, shards, latents, models)


def _encode(shards: Path, latents: Path, models: Path) -> None:
    """Run `helix4d encode`, which turns every exception of a clip into an outcome: an unexpected one is raised here."""
    arguments = ["--shards", str(shards), "--output", str(latents), "--models", str(models), "--offline", "--serial"]
    if main(["encode", *arguments, "--occupancy-resolution", "8"]):
        return
    for outcome in Ledger(latents / LEDGER_FILE).outcomes.values():
        assert outcome.reason is not ReasonCode.CRASHED, f"{outcome.message}\n{outcome.log}"


def _removed(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    return folder


def _keys(tar: Path) -> list[str]:
    try:
        return [str(sample["key"]) for sample in json.loads(tar.with_suffix(".json").read_bytes())["samples"]]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return ["0" * 16 + "_0"]


def read_damaged(
    numbers: range, curated: Path, models: Path, folder: Path, latents: Path | None = None
) -> list[dict[str, Any]]:
    """Damage and read the latents, or without any the shards, in a child process; returns a verdict per number."""
    (folder / "tmp").mkdir()
    settings = {
        "curated": str(curated),
        "latents": "" if latents is None else str(latents),
        "folder": str(folder),
        "models": str(models),
        "numbers": list(numbers),
        "repository": str(REPOSITORY),
        "cache": os.environ.get("NUMBA_CACHE_DIR", str(Path.home() / ".cache")),
    }
    (folder / "settings.json").write_text(json.dumps(settings))
    environment = {
        **os.environ,
        "PYTHONPATH": str(REPOSITORY),
        "PYTHONDONTWRITEBYTECODE": "1",
        "TMPDIR": str(folder / "tmp"),
        "TORCHINDUCTOR_CACHE_DIR": str(folder / "tmp"),
    }
    command = [sys.executable, "-m", "tests.curation.fuzz_outputs", str(folder / "settings.json")]
    child = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True)
    assert child.returncode == 0, child.stderr[-4000:]
    return [json.loads(line) for line in child.stdout.splitlines()]


def check(verdicts: list[dict[str, Any]], numbers: range) -> None:
    """Assert that every damaged output was read without a defect, in bounded memory."""
    print(f"{len(verdicts)} damaged outputs, peak {verdicts[-1]['peak_bytes'] / 1e9:.2f} GB")
    assert [verdict["number"] for verdict in verdicts] == list(numbers)
    defects = [f"{v['number']} {v['damage']}: {defect}" for v in verdicts for defect in v["defects"]]
    assert not defects, "\n\n".join(defects)
    assert verdicts[-1]["peak_bytes"] < MEMORY_BYTES


def peak_bytes() -> int:
    """Return the largest resident size of this program; ru_maxrss would count the process that started it, too."""
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) << 10 for line in status.splitlines() if line.startswith("VmHWM:"))


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES + (8 << 30), MEMORY_BYTES + (8 << 30)))
    for verdict in run(json.loads(Path(sys.argv[1]).read_text())):
        print(json.dumps({**verdict, "peak_bytes": peak_bytes()}), file=sys.__stdout__, flush=True)

"""Bakes damaged assets of every format but glTF in the sandbox, and records which files are opened.

Defects are an exception other than `AssetError`, an opened file outside the asset's folder, a written file inside it,
and a done asset without a readable part. Blender may crash or exceed the limits: this ends the child, with a reason
code. The argument is a JSON file with the settings; prints one line of JSON per mutant.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import traceback
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from helix4d.assets.samples import SAMPLES
from helix4d.core import AssetError
from tests.curation import fuzz
from tests.curation.file_watch import STRACE, TRACE_VARIABLE, FolderWatch, traced_escapes
from tests.curation.source_mutations import write_mutant

SEED = 17
MUTANTS = 300
_REPOSITORY = Path(__file__).resolve().parents[2]
_SYSTEM = ("/usr", "/proc", "/sys", "/dev", "/lib", "/lib64")
_SYSTEM_FILES = (
    *("/etc/ld.so.cache", "/etc/ld.so.preload", "/etc/localtime", "/etc/locale.alias", "/etc/nsswitch.conf"),
    *("/etc/passwd", "/etc/mime.types", "/etc/ssl", "/etc/fonts"),
)
_MUTANT = re.compile(r".*/assets/(\d+)(?:/.*)?")


def run_fuzz(folder: Path, numbers: Sequence[int]) -> list[dict[str, Any]]:
    """Bake mutants in a child process, which does not import Blender itself.

    Args:
        folder: contains `sources` and `baits`, as written by `source_files`, and an empty folder `assets`.
        numbers: the mutants.

    Returns:
        A verdict per mutant: number, operations, end, defects, peak_bytes.
    """
    for name in ("tmp", "home", "trace", "parts"):
        (folder / name).mkdir()
    settings = {"folder": str(folder), "numbers": list(numbers)}
    (folder / "settings.json").write_text(json.dumps(settings))
    variables = {"HOME": str(folder / "home"), "TMPDIR": str(folder / "tmp")}
    variables |= {"PYTHONPATH": str(_REPOSITORY), TRACE_VARIABLE: str(folder / "trace")}
    command = [sys.executable, "-m", "tests.curation.fuzz_sources", str(folder / "settings.json")]
    child = subprocess.run(command, cwd=_REPOSITORY, env={**os.environ, **variables}, capture_output=True, text=True)
    assert child.returncode == 0, child.stderr[-4000:]
    return [json.loads(line) for line in child.stdout.splitlines()]


def figures(verdicts: Sequence[dict[str, Any]]) -> str:
    """Summarize the verdicts: counts per end, and the largest child."""
    ends = Counter(verdict["end"] for verdict in verdicts)
    watch = "inotify and strace" if STRACE else "inotify"
    lines = [f"{len(verdicts)} damaged sources, watched with {watch}"]
    lines += [f"  {end} {count}" for end, count in ends.most_common()]
    return "\n".join([*lines, f"largest child {max(v['peak_bytes'] for v in verdicts) / 1e9:.2f} GB"])


def check(verdicts: Sequence[dict[str, Any]], numbers: Sequence[int]) -> None:
    """Assert that every mutant ended without a defect."""
    print(figures(verdicts))
    assert [verdict["number"] for verdict in verdicts] == list(numbers)
    defects = [f"{v['number']} {v['operations']}: {v['end']}: {defect}" for v in verdicts for defect in v["defects"]]
    assert not defects, "\n\n".join(defects)
    # The kernel's limit is the sandbox's; a child that was killed may have passed it between two looks.
    assert max(verdict["peak_bytes"] for verdict in verdicts) < 1.5e9 * fuzz.LIMITS.memory_gb


def _run(folder: Path, numbers: Sequence[int]) -> Iterator[dict[str, Any]]:
    watch = FolderWatch()
    watch.add(folder / "baits")
    sandbox = fuzz.sandbox("tests.curation.traced_worker" if STRACE else fuzz.WORKER)
    verdicts = {}
    try:
        flag = folder / "flag.glb"
        flag.write_bytes(SAMPLES["flag"]())
        # Fills numba's cache: compiling takes longer than a mutant may.
        assert fuzz.attempt(sandbox, flag, folder / "parts" / "flag.part").end == "done"
        for number in numbers:
            verdicts[number] = _bake(sandbox, watch, folder, number)
    finally:
        sandbox.close()
        watch.close()
    for escape, before in _traced(folder):
        last = next((found[1] for path in reversed(before) if (found := _MUTANT.fullmatch(path))), None)
        verdicts[int(last) if last else numbers[0]]["defects"].append(escape)
    yield from verdicts.values()


def _bake(sandbox: fuzz.Sandbox, watch: FolderWatch, folder: Path, number: int) -> dict[str, Any]:
    own = folder / "assets" / str(number)
    made = write_mutant(folder / "sources", folder / "baits", own, SEED, number)
    watch.escapes()  # those of this process
    watch.add(own, readable=True)
    verdict = {"number": number, "operations": made.operations, "end": "refused before", "defects": [], "peak_bytes": 0}
    try:
        tried = fuzz.attempt(sandbox, made.path, folder / "parts" / "mutant.part")
        died = tried.defect.startswith(fuzz.DIED)
        verdict |= {"end": tried.end, "peak_bytes": tried.peak_bytes}
        verdict["defects"] = [tried.defect] if tried.defect and not died else []
    except AssetError as error:  # while it is hashed for the plan
        verdict["end"] = f"failed: {error.code}"
    except Exception:  # noqa: BLE001 (whatever it is, it is a defect)
        verdict["defects"] = [traceback.format_exc()[-3000:]]
    verdict["defects"] += watch.escapes()
    watch.remove(own)
    shutil.rmtree(own)
    return verdict


def _traced(folder: Path) -> Iterator[tuple[str, list[str]]]:
    read = [*map(Path, _SYSTEM), *map(Path, _SYSTEM_FILES), Path(sys.prefix), Path(sys.base_prefix), _REPOSITORY]
    write = [folder / name for name in ("tmp", "home", "parts", "trace")]
    write += [Path("/dev/null"), Path("/dev/shm")]
    if "NUMBA_CACHE_DIR" in os.environ:
        write.append(Path(os.environ["NUMBA_CACHE_DIR"]))
    for log in sorted((folder / "trace").glob("*.trace")):
        for escape, before in traced_escapes(log, _REPOSITORY, [*read, folder / "assets", folder / "flag.glb"], write):
            if "/__pycache__" not in escape:  # Python and numba
                yield escape, before


if __name__ == "__main__":
    given = json.loads(Path(sys.argv[1]).read_text())
    for verdict in _run(Path(given["folder"]), given["numbers"]):
        print(json.dumps(verdict), flush=True)

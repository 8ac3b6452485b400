"""Speed of `.vxz` files: `python benchmarks/vxz.py [--before CHECKOUT] [ASSET | CLIP.safetensors ...]`.

Prints the CPU milliseconds (median, with the fastest and slowest) of reading and writing an O-Voxel with all attributes
at 256 and 512, for a sphere of 327,680 triangles and the given assets: ours, those of another checkout of this
repository (`--before`), and the official steps of reference_vxz.py, all in alternation. Ours and the official steps
share a process; with `--before` both checkouts also get processes of their own ("alone" is ours), because memory that a
process has used before is cheaper. The official writer compresses at level 22 by default, ours at 3; both are given.
Needs torch and trimesh (the extra `dev`).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import numpy as np
import torch
import trimesh

from benchmarks.reference_vxz import OFFICIAL_LEVEL, reference_read, reference_write
from benchmarks.results import REPOSITORY, Column, Report, Spread
from helix4d.assets import Clip, bake, normalize
from helix4d.voxelize import OVoxel, decode_vxz, dual_grid, encode_vxz, prepare_surface, voxelize_frame
from helix4d.voxelize.files.streams import LEVELS
from helix4d.voxelize.files.vxz import decode_vxz_arrays

RESOLUTIONS = (256, 512)
COLUMNS = ("ours", "official", "alone", "before")
READS = 5
"""Per round, and one write."""
CHILD = """
import json, sys, time
from pathlib import Path
from helix4d.voxelize import decode_vxz, encode_vxz
data = Path(sys.argv[1]).read_bytes()
ovoxel = decode_vxz(data)
found = {}
jobs = ("read", lambda: decode_vxz(data), int(sys.argv[2])), ("write", lambda: encode_vxz(ovoxel), 1)
for name, run, repeats in jobs:
    run()
    found[name] = []
    for _ in range(repeats):
        start = time.process_time()
        run()
        found[name].append(time.process_time() - start)
print(json.dumps(found))
"""


def main() -> None:
    report = Report("vxz", __doc__, quick="a coarse sphere at 256 only, one round")
    parser = report.parser
    parser.add_argument("assets", nargs="*", type=Path, help="animated assets, or clips saved as safetensors")
    parser.add_argument("--before", type=Path, help="another checkout of this repository to compare with")
    arguments = report.parse()
    torch.set_num_threads(1)
    columns = [
        *(Column(f"{who}, ms", ".1f") for who in COLUMNS),
        Column("of official", ".2f"),
        Column("of before", ".2f"),
    ]
    identity = (Column("mesh"), Column("resolution", "d"), Column("voxels", ","), Column("what"))
    report.table("times", *identity, *columns)
    level = Column(f"official at level {OFFICIAL_LEVEL}, ms", ".0f")
    report.table("level", Column("mesh"), Column("resolution", "d"), level, Column("ours of it", ".3f"))
    measure = partial(_measure, report, 1 if arguments.quick else 5, arguments.before)
    if arguments.quick:
        measure("sphere", _sphere(256, subdivisions=4))
        report.save()
        return
    for resolution in RESOLUTIONS:
        measure("sphere", _sphere(resolution))
    for path in arguments.assets:
        clip = Clip.load(path) if path.suffix == ".safetensors" else normalize(bake(path))[0]
        surface = prepare_surface(clip)
        for resolution in RESOLUTIONS:
            frame = clip.frames[len(clip.frames) // 2]
            measure(path.stem, voxelize_frame(frame, surface, resolution, "cpu"))
    report.save()


def _measure(report: Report, rounds: int, before: Path | None, name: str, ovoxel: OVoxel) -> None:
    data = encode_vxz(ovoxel)
    _, stored_coords, stored = decode_vxz_arrays(data)
    coords = torch.from_numpy(stored_coords)
    attributes = {key: torch.from_numpy(values) for key, values in stored.items()}
    _check(data, coords, attributes)
    times: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "a.vxz"
        file.write_bytes(data)
        for _ in range(rounds):
            _add(times, "read ours", lambda: decode_vxz(data), READS)
            _add(times, "read official", lambda: reference_read(data), READS)
            _add(times, "write ours", lambda: encode_vxz(ovoxel))
            _add(times, "write official", lambda: reference_write(coords, attributes, LEVELS["zstd"]))
            for who, checkout in (("alone", REPOSITORY), ("before", before)):
                if before is not None and checkout is not None:
                    for what, seconds in _run_child(checkout, file).items():
                        times.setdefault(f"{what} {who}", []).extend(seconds)
    _add_row(report, name, ovoxel, "read", times)
    _add_row(report, name, ovoxel, "write", times)
    start = time.process_time()
    reference_write(coords, attributes, OFFICIAL_LEVEL)
    official = time.process_time() - start
    ours = min(times["write ours"])
    report.tables["level"].add(name, ovoxel.resolution, official * 1e3, ours / official)


def _check(data: bytes, coords: torch.Tensor, attributes: dict[str, torch.Tensor]) -> None:
    """Check that the baseline reads what we write, and we what it writes."""
    found = decode_vxz_arrays(reference_write(coords, attributes, LEVELS["zstd"]))[1:]
    read_coords, read = reference_read(data)
    order = np.lexsort(read_coords.numpy().T[::-1])
    expected = np.lexsort(coords.numpy().T[::-1])
    assert np.array_equal(read_coords[order], coords[expected])
    assert np.array_equal(found[0], coords)
    for key, values in attributes.items():
        assert np.array_equal(read[key][order], values[expected])
        assert np.array_equal(found[1][key], values)


def _add(times: dict[str, list[float]], key: str, run: Callable[[], object], repeats: int = 1) -> None:
    for _ in range(repeats):
        start = time.process_time()
        run()
        times.setdefault(key, []).append(time.process_time() - start)


def _run_child(checkout: Path, file: Path) -> dict[str, list[float]]:
    """Seconds of reading and writing with another checkout, in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": str(checkout.resolve())}
    command = [sys.executable, "-c", CHILD, str(file), str(READS)]
    done = subprocess.run(command, cwd=checkout, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, list[float]] = json.loads(done.stdout)
    return found


def _add_row(report: Report, name: str, ovoxel: OVoxel, what: str, times: dict[str, list[float]]) -> None:
    found = {who: times.get(f"{what} {who}", []) for who in COLUMNS}
    cells = [Spread.of(seconds, 1e3) if seconds else None for seconds in found.values()]
    ratios = [Spread.of_ratios(found["ours"], found["official"])]
    ratios += [Spread.of_ratios(found["alone"], found["before"])] if found["before"] else [None]
    report.tables["times"].add(name, ovoxel.resolution, len(ovoxel), what, *cells, *ratios)


def _sphere(resolution: int, subdivisions: int = 7) -> OVoxel:
    """A sphere that fills the cube, with colors that vary from voxel to voxel."""
    mesh = trimesh.creation.icosphere(subdivisions, radius=0.499995)
    bare = dual_grid(mesh.vertices.astype(np.float32), mesh.faces.astype(np.int32), resolution, device="cpu")
    x, y, z = bare.coords.T.astype(np.uint8)
    color = np.stack([x ^ y, x * 3 + y, x + y * 5], axis=1)
    byte = (x | z)[:, None]
    return OVoxel(resolution, bare.coords, bare.dual_vertices, bare.intersected, color, byte, byte // 2, byte | 128)


if __name__ == "__main__":
    main()

"""Speed of conversion to O-Voxels on one thread, compared with a plain loop and the official converter.

For a sphere of 327,680 triangles, a torus of 40,000 and the given assets (the frame in the middle of the clip), it
measures CPU seconds: geometry alone, with attributes, and with attributes in a clip whose frames reuse memory.
The plain loop of reference_converter.py and our converter alternate on the same mesh. `--before` adds a comparison with
another checkout of this repository, also alternating. Its columns for the official converter are valid if that checkout
is as fast as version 0.3.0, which was measured side by side with the official converter (`OFFICIAL`). The loop cannot
replace the official converter, because processes that use the same cache slow it down less. `--gpu` measures clips of
16 frames on a GPU instead and saves nothing. Requires trimesh (the extra `dev`).
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import numpy as np
import trimesh

from benchmarks.reference_converter import reference_dual_grid
from benchmarks.results import REPOSITORY, Cell, Column, Report, Spread, alternate
from helix4d.assets import Clip, Frame, Material, Texture, Topology
from helix4d.voxelize import OVoxel, prepare_surface, voxelize_clip, voxelize_frame
from helix4d.voxelize.convert.conversion import convert
from helix4d.voxelize.convert.gpu_check import difference_of
from helix4d.voxelize.convert.grid import QuadricWeights
from helix4d.voxelize.convert.triangles import Triangles

CLIP_FRAMES = 3
OFFICIAL = {
    ("sphere", 256): (8.5, 8.6),
    ("sphere", 512): (10.3, 10.5),
    ("torus", 512): (10.3, 11.5),
    ("gdquest_bee_bot", 256): (7.8, 8.1),
    ("gdquest_bee_bot", 512): (10.35, 9.6),
    ("quaternius_mech_leela", 512): (10.5, 10.8),
    ("sketchfab_lumberjack", 512): (9.6, 10.1),
    ("sketchfab_scifi_crate", 256): (12.0, 11.6),
    ("sketchfab_scifi_crate", 512): (13.45, 12.4),
}
"""CPU time of the official converter over that of version 0.3.0: geometry, and geometry and attributes.

Measured in one process on 2026-11-28 (docs/evidence/voxelizer.md); the middle, where a range was measured.
"""
AIMS = {256: 14.0, 512: 20.0}
"""Target ratios to the official converter."""
CHILD = """
import sys, time
from pathlib import Path
from helix4d.assets import Clip
from helix4d.voxelize import prepare_surface, voxelize_frame
from helix4d.voxelize.convert.conversion import convert
from helix4d.voxelize.convert.grid import QuadricWeights
from helix4d.voxelize.convert.triangles import Triangles
clip = Clip.load(Path(sys.argv[1]))
surface, frame = prepare_surface(clip), clip.frames[0]
triangles = surface.prepared(frame.topology).triangles
bare = Triangles(triangles.faces, triangles.edges)
runs = {
    "geometry": lambda resolution: convert(frame.vertices, bare, resolution, QuadricWeights(), "cpu"),
    "attributes": lambda resolution: voxelize_frame(frame, surface, resolution, "cpu"),
}
print("ready", flush=True)
for line in sys.stdin:
    what, resolution = line.split()
    start = time.process_time()
    runs[what](int(resolution))
    print(time.process_time() - start, flush=True)
"""
"""Program that converts a clip on request and prints the CPU seconds."""


def main() -> None:
    report = Report("voxelize", __doc__, quick="no assets, and a coarse sphere and torus at 256 only")
    report.parser.add_argument("assets", nargs="*", type=Path, help="animated assets, or clips saved as safetensors")
    report.parser.add_argument("--before", type=Path, help="another checkout of this repository to compare with")
    report.parser.add_argument("--gpu", action="store_true", help="milliseconds per frame on a GPU instead")
    report.parser.add_argument("--rounds", type=int, default=5, help="number of measurements of each conversion")
    options = report.parse()
    resolutions = (256,) if options.quick else (256, 512)
    if options.gpu:
        _report_gpu(_clips(options.quick, options.assets), (*resolutions, 1024))
        return
    _warm_up()
    seconds = [Column("plain loop, s", ".3f"), Column("ours, s", ".4f")]
    identity = (Column("mesh"), Column("resolution", "d"), Column("triangles", ","), Column("voxels", ","))
    report.table("times", *identity, Column("what"), *seconds, Column("plain loop / ours", ".1f"))
    if options.before:
        columns = (Column("before, s", ".4f"), Column("now, s", ".4f"), Column("before / now", ".2f"))
        columns += (Column("official / before", ".1f"), Column("official / now", ".1f"), Column("aim", ".0f"))
        report.table("before", Column("mesh"), Column("resolution", "d"), Column("what"), *columns)
    official: list[float] = []
    for name, clip in _clips(options.quick, options.assets):
        still = _still(clip)
        for resolution in resolutions:
            _measure(report, name, still, resolution, options.rounds)
        if options.before:
            official += _compare(report, name, still, resolutions, options.rounds, options.before)
    if official:
        report.value("lowest_ratio", min(official), ".1f")
        report.value("highest_ratio", max(official), ".1f")
    report.save()


def _warm_up() -> None:
    """Compile the kernels, or load them from the cache."""
    coarse = _sphere(2)
    voxelize_clip(coarse, 64, device="cpu")
    reference_dual_grid(coarse.frames[0].vertices, coarse.frames[0].faces, 64)


def _measure(report: Report, name: str, clip: Clip, resolution: int, rounds: int) -> None:
    surface, frame = prepare_surface(clip), clip.frames[0]
    triangles = surface.prepared(frame.topology).triangles
    bare = Triangles(triangles.faces, triangles.edges)
    several = _repeated(clip, CLIP_FRAMES)
    runs: dict[str, Callable[[], object]] = {
        "loop": lambda: reference_dual_grid(frame.vertices, frame.faces, resolution),
        "geometry": lambda: convert(frame.vertices, bare, resolution, QuadricWeights(), "cpu"),
        "attributes": lambda: voxelize_frame(frame, surface, resolution, "cpu"),
        "clip": lambda: voxelize_clip(several, resolution, 1, surface, "cpu"),
    }
    found = alternate(runs, rounds)
    voxels = len(voxelize_frame(frame, surface, resolution, "cpu"))
    for what, frames in (("geometry", 1), ("attributes", 1), ("clip", CLIP_FRAMES)):
        ours = [seconds / frames for seconds in found[what]]
        report.tables["times"].add(
            *(name, resolution, len(frame.faces), voxels, what),
            Spread.of(found["loop"]),
            Spread.of(ours),
            Spread.of_ratios(found["loop"], ours),
        )


def _compare(
    report: Report, name: str, clip: Clip, resolutions: tuple[int, ...], rounds: int, before: Path
) -> list[float]:
    """Add rows for a mesh; returns the ratios to the official converter that are known."""
    official: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "clip.safetensors"
        clip.save(file)
        with _child(before.resolve(), file) as old, _child(REPOSITORY, file) as new:
            for resolution in resolutions:
                for what, factor in zip(("geometry", "attributes"), _factors(name, resolution), strict=True):
                    pairs = [(old(what, resolution), new(what, resolution)) for _ in range(rounds + 1)][1:]
                    first, second = zip(*pairs, strict=True)
                    ratio = Spread.of_ratios(first, second)
                    judged: tuple[Cell, ...] = (None, None, None)
                    if factor is not None:
                        times = factor * min(first) / min(second)  # the fastest: load slows some runs threefold
                        judged = (factor, times, AIMS[resolution])
                        official.append(times)
                    report.tables["before"].add(
                        name, resolution, what, Spread.of(first), Spread.of(second), ratio, *judged
                    )
    return official


def _factors(name: str, resolution: int) -> tuple[float | None, float | None]:
    return OFFICIAL.get((name, resolution), (None, None))


@contextmanager
def _child(checkout: Path, file: Path) -> Iterator[Callable[[str, int], float]]:
    """A process that converts the clip in a file with a checkout. Calling it returns the CPU seconds."""
    environment = {**os.environ, "PYTHONPATH": str(checkout)}
    command = [sys.executable, "-c", CHILD, str(file)]
    with subprocess.Popen(
        command, cwd=checkout, env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        requests, answers = process.stdin, process.stdout
        answers.readline()

        def seconds(what: str, resolution: int) -> float:
            print(what, resolution, file=requests, flush=True)
            return float(answers.readline())

        yield seconds
        requests.close()


def _report_gpu(clips: Iterable[tuple[str, Clip]], resolutions: tuple[int, ...]) -> None:
    """Print wall-clock milliseconds per frame of clips of 16 frames, with attributes, and whether runs are equal."""
    print(f"{'mesh':24} {'R':>4} {'triangles':>9} {'voxels':>9} {'ms/frame':>8}  frames equal to the CPU's, twice")
    for name, clip in clips:
        still = clip.frames[len(clip.frames) // 2]
        scales = np.linspace(0.9, 1.0, 16, dtype=np.float32)
        frames = tuple(Frame(still.vertices * scale, still.normals, still.topology) for scale in scales)
        moving = Clip("", 0, np.arange(16.0), frames, clip.materials, clip.images)
        surface = prepare_surface(moving)
        for resolution in resolutions:
            convert_clip = partial(voxelize_clip, moving, resolution, surface=surface)
            found = convert_clip(device="gpu")
            seconds = min(alternate({"gpu": partial(convert_clip, device="gpu")}, 4, time.perf_counter)["gpu"])
            again, expected = convert_clip(device="gpu")[-1], voxelize_frame(frames[-1], surface, resolution, "cpu")
            equal = [difference_of(_arrays(expected), _arrays(found[-1])) or "yes"]
            equal.append("yes" if all(map(np.array_equal, _arrays(found[-1]), _arrays(again))) else "no")
            voxels, milliseconds = len(found[-1]), seconds / 16 * 1e3
            print(
                f"{name[:24]:24} {resolution:4} {len(still.faces):9} {voxels:9} {milliseconds:8.2f}  {', '.join(equal)}"
            )


def _arrays(ovoxel: OVoxel) -> tuple[np.ndarray, ...]:
    attributes = (ovoxel.base_color, ovoxel.metallic, ovoxel.roughness, ovoxel.alpha)
    return ovoxel.coords, ovoxel.dual_vertices, ovoxel.intersected, *attributes


def _clips(quick: bool, assets: list[Path]) -> Iterator[tuple[str, Clip]]:
    if quick:
        yield "coarse_sphere", _sphere(5)
        yield "coarse_torus", _torus(50)
        return
    yield "sphere", _sphere(7)
    yield "torus", _torus(200)
    for path in assets:
        yield path.stem, _load(path)


def _still(clip: Clip) -> Clip:
    """Return the frame in the middle of a clip."""
    frame = clip.frames[len(clip.frames) // 2]
    return Clip("", 0, np.zeros(1), (frame,), clip.materials, clip.images)


def _repeated(clip: Clip, count: int) -> Clip:
    return Clip("", 0, np.zeros(count), clip.frames[:1] * count, clip.materials, clip.images)


def _sphere(subdivisions: int) -> Clip:
    return _patterned(trimesh.creation.icosphere(subdivisions, radius=0.499995))


def _torus(sections: int) -> Clip:
    return _patterned(trimesh.creation.torus(0.35, 0.145, major_sections=sections, minor_sections=sections // 2))


def _patterned(mesh: trimesh.Trimesh) -> Clip:
    """Return a mesh with a 1024 x 1024 pattern shown from above."""
    vertices, faces = mesh.vertices.astype(np.float32), mesh.faces.astype(np.int32)
    uvs = (vertices[faces][..., :2] + np.float32(0.5))[None]
    y, x = np.mgrid[:1024, :1024].astype(np.uint32)
    pattern = np.stack([x ^ y, x * 3 + y, x + y * 5, x | y], axis=-1).astype(np.uint8)
    topology = Topology(faces, np.ascontiguousarray(uvs), np.zeros(len(faces), np.int32))
    material = Material(base_color_texture=Texture(0), metallic_roughness_texture=Texture(0))
    return Clip("", 0, np.zeros(1), (Frame(vertices, vertices * 2, topology),), (material,), (pattern,))


def _load(path: Path) -> Clip:
    if path.suffix == ".safetensors":
        return Clip.load(path)
    from helix4d.assets import bake, normalize

    return normalize(bake(path))[0]


if __name__ == "__main__":
    main()

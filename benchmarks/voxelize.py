"""Speed of conversion to O-Voxels: `python benchmarks/voxelize.py [--quick] [--gpu] [ASSET | CLIP.safetensors ...]`.

Prints, for an icosphere of 327,680 triangles and for the given assets, the triangles, voxels, seconds per frame, voxels
per second and core, and peak memory, for geometry alone and with attributes, at 256, 512 and 1024, on one thread and on
all. The plain loop of reference_converter.py converts the sphere in the same run, so that ratios hold on a busy
machine; the official converter's times are scaled by it. On an idle core the loop should take 1.7 to 2.5 s at 512, like
the official converter. Times are the best of several repeats: processor seconds for one thread, wall-clock seconds for
several. Needs trimesh (the extra `dev`). With `--gpu` it measures clips of 16 frames on a GPU instead.
"""

from __future__ import annotations

import argparse
import os
import resource
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import trimesh
from reference_converter import reference_dual_grid

from helix4d.assets import Clip, Frame, Material, Texture, Topology
from helix4d.voxelize import OVoxel, dual_grid, prepare_surface, voxelize_clip, voxelize_frame
from helix4d.voxelize.convert.conversion import convert
from helix4d.voxelize.convert.gpu_check import difference_of
from helix4d.voxelize.convert.grid import QuadricWeights
from helix4d.voxelize.convert.triangles import Triangles

REPEATS = 4
OFFICIAL_S = {
    "icosphere": (2.15, None),
    "sketchfab_scifi_crate": (3.0, 5.2),
    "gdquest_bee_bot": (0.6, 1.1),
}
"""Seconds of the official converter at 512 on one idle core: geometry alone, and with attributes where known."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("assets", nargs="*", type=Path, help="animated assets, or clips saved as safetensors")
    parser.add_argument("--quick", action="store_true", help="only at resolution 512")
    parser.add_argument("--gpu", action="store_true", help="milliseconds per frame of 16 frames on a GPU instead")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    arguments = parser.parse_args()
    resolutions = (512,) if arguments.quick else (256, 512, 1024)
    if arguments.gpu:
        _report_gpu(arguments.assets, resolutions)
        return
    dual_grid(*_icosphere(2), 64, device="cpu")  # compiles the kernels, or loads them from the cache
    voxelize_clip(_sphere_clip(2), 64, device="cpu")
    reference_dual_grid(*_icosphere(2), 64)
    print(f"{'mesh':24} {'R':>4} {'triangles':>9} {'voxels':>9} {'what':>10} {'s/frame':>8} {'Mvoxel/s':>8} {'MB':>6}")
    vertices, faces = _icosphere(7)
    loop = min(_cpu(lambda: reference_dual_grid(vertices, faces, 512)) for _ in range(3))
    slowdown = loop / OFFICIAL_S["icosphere"][0]
    _report("icosphere", _sphere_clip(7), resolutions, arguments.threads, slowdown)
    ours = _best(lambda: dual_grid(vertices, faces, 512, device="cpu"))
    print(f"reference loop on the sphere at 512: {loop:.2f} s; ours with welding: {ours:.3f} s; {loop / ours:.1f}x")
    for path in arguments.assets:
        _report(path.stem, _load(path), resolutions, arguments.threads, slowdown)


def _report(name: str, clip: Clip, resolutions: tuple[int, ...], threads: int, slowdown: float) -> None:
    surface = prepare_surface(clip)
    frame = clip.frames[len(clip.frames) // 2]
    triangles = surface.prepared(frame.topology).triangles
    bare = Triangles(triangles.faces, triangles.edges)
    for resolution in resolutions:
        geometry = _best(lambda r=resolution: convert(frame.vertices, bare, r, QuadricWeights(), "cpu"))
        everything = _best(lambda r=resolution: voxelize_frame(frame, surface, r, "cpu"))
        voxels = len(voxelize_frame(frame, surface, resolution, "cpu"))
        _print(name, resolution, frame, voxels, "geometry", geometry)
        _print(name, resolution, frame, voxels, "attributes", everything)
        if resolution == 512 and name in OFFICIAL_S:
            known = zip(("geometry", "attributes"), OFFICIAL_S[name], (geometry, everything), strict=True)
            for what, official, seconds in known:
                if official is not None:
                    print(f"{'':40} {official * slowdown / seconds:.1f} times official for {what}, scaled by the loop")
        if threads > 1:
            several = Clip("", 0, np.zeros(2 * threads), (frame,) * (2 * threads), clip.materials, clip.images)
            alone, together = (
                min(
                    _wall(lambda c=several, r=resolution, n=n: voxelize_clip(c, r, n, surface, "cpu"))
                    for _ in range(REPEATS)
                )
                for n in (1, threads)
            )
            _print(name, resolution, frame, voxels, f"{threads} threads", together / len(several.frames))
            print(f"{'':60} {alone / together:.2f} times the speed of one thread")


def _report_gpu(assets: list[Path], resolutions: tuple[int, ...]) -> None:
    """Print wall-clock milliseconds per frame of clips of 16 frames, with attributes, and whether runs are equal."""
    print(f"{'mesh':24} {'R':>4} {'triangles':>9} {'voxels':>9} {'ms/frame':>8}  frames equal to the CPU's, twice")
    for name, clip in (("icosphere", _sphere_clip(7)), *((path.stem, _load(path)) for path in assets)):
        still = clip.frames[len(clip.frames) // 2]
        scales = np.linspace(0.9, 1.0, 16, dtype=np.float32)
        frames = tuple(Frame(still.vertices * scale, still.normals, still.topology) for scale in scales)
        moving = Clip("", 0, np.arange(16.0), frames, clip.materials, clip.images)
        surface = prepare_surface(moving)
        for resolution in resolutions:
            convert_clip = partial(voxelize_clip, moving, resolution, surface=surface)
            found = convert_clip(device="gpu")
            seconds = min(_wall(lambda run=convert_clip: run(device="gpu")) for _ in range(REPEATS))
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


def _print(name: str, resolution: int, frame: Frame, voxels: int, what: str, seconds: float) -> None:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    rate = voxels / seconds / 1e6
    print(
        f"{name[:24]:24} {resolution:4} {len(frame.faces):9} {voxels:9} {what:>10} {seconds:8.3f} {rate:8.2f} {peak:6}",
        flush=True,
    )


def _best(run: Callable[[], object]) -> float:
    return min(_cpu(run) for _ in range(REPEATS))


def _cpu(run: Callable[[], object]) -> float:
    start = time.process_time()
    run()
    return time.process_time() - start


def _wall(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def _icosphere(subdivisions: int) -> tuple[np.ndarray, np.ndarray]:
    """(V, 3) float32 vertices and (F, 3) int32 faces that fill the cube."""
    mesh = trimesh.creation.icosphere(subdivisions, radius=0.499995)
    return mesh.vertices.astype(np.float32), mesh.faces.astype(np.int32)


def _sphere_clip(subdivisions: int) -> Clip:
    """Return the icosphere, with a 1024 x 1024 pattern shown from above."""
    vertices, faces = _icosphere(subdivisions)
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

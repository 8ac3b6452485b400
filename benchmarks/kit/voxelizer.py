"""The voxelizer on the GPU: agreement with the CPU, reproducibility, and milliseconds per frame with attributes."""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np

from benchmarks.kit.context import Context
from benchmarks.kit.results import Row, Verdict
from helix4d.assets import Clip, Frame, Material, Texture, Topology
from helix4d.voxelize import OVoxel, prepare_surface, voxelize_clip
from helix4d.voxelize.convert.gpu_check import difference_of

FACES, FRAMES = 300_000, 16
MOST_MS = 27.0
"""Target per frame at 512³ with attributes; a public CUDA converter reports 27 ms for geometry only on an RTX 4090."""


def compare(context: Context) -> Iterator[Row]:
    """Convert two frames on the CPU once and on the GPU twice, at 256³ and 512³."""
    clip = clip_of_blobs(context.pick(FACES, 500), 2)
    surface = prepare_surface(clip)
    for resolution in context.pick((256, 512), (16,)):
        on_cpu = voxelize_clip(clip, resolution, 2, surface, "cpu")
        once, again = (voxelize_clip(clip, resolution, 1, surface, "gpu") for _ in range(2))
        yield _equal(f"{resolution}³, GPU = CPU", on_cpu, once, exact=False)
        yield _equal(f"{resolution}³, GPU = GPU", once, again, exact=True)


def measure(context: Context) -> Iterator[Row]:
    """Convert 16 frames, twice; the second run is timed."""
    device = "gpu" if context.on_gpu else "cpu"
    clip = clip_of_blobs(context.pick(FACES, 500), context.pick(FRAMES, 2))
    surface = prepare_surface(clip)
    frames, faces = len(clip.frames), len(clip.frames[0].faces)
    for resolution in context.pick((256, 512), (16,)):
        voxels = sum(map(len, voxelize_clip(clip, resolution, 1, surface, device))) // frames
        start = time.perf_counter()
        voxelize_clip(clip, resolution, 1, surface, device)
        each_ms = 1000 * (time.perf_counter() - start) / frames
        judged = resolution == 512
        yield Row(
            f"{resolution}³, {frames} frames of {faces} faces, {voxels} voxels, attributes included: "
            f"{each_ms:.1f} ms per frame on the {device.upper()}",
            context.judge(each_ms <= MOST_MS) if judged else Verdict.MEASURED,
            f"at most {MOST_MS:.0f} ms" if judged else "",
            values={"ms_per_frame": each_ms, "voxels": voxels, "faces": faces},
        )


def clip_of_blobs(faces: int, frames: int) -> Clip:
    """Return a clip of one textured surface of about `faces` triangles that changes its shape from frame to frame."""
    rings = max(3, round((faces / 4) ** 0.5))
    around = 2 * rings
    polar, azimuth = np.meshgrid(np.linspace(0, np.pi, rings + 1), np.linspace(0, 2 * np.pi, around + 1), indexing="ij")
    places = np.arange((rings + 1) * (around + 1), dtype=np.int32).reshape(rings + 1, around + 1)
    a, b, c, d = (part.ravel() for part in (places[:-1, :-1], places[1:, :-1], places[1:, 1:], places[:-1, 1:]))
    triangles = np.concatenate([np.stack([a, b, c], axis=1), np.stack([a, c, d], axis=1)])
    uv = np.stack([azimuth / (2 * np.pi), polar / np.pi], axis=-1).reshape(-1, 2).astype(np.float32)
    topology = Topology(triangles, np.ascontiguousarray(uv[triangles][None]), np.zeros(len(triangles), np.int32))
    direction = np.stack([np.sin(polar) * np.cos(azimuth), np.sin(polar) * np.sin(azimuth), np.cos(polar)], axis=-1)
    shapes = []
    for frame in range(frames):
        phase = 2 * np.pi * frame / max(frames, 1)
        radius = 0.42 + 0.06 * np.sin(5 * azimuth + phase) * np.sin(polar) ** 2 * np.sin(3 * polar)
        vertices = (radius[..., None] * direction).reshape(-1, 3).astype(np.float32)
        shapes.append(Frame(vertices, direction.reshape(-1, 3).astype(np.float32), topology))
    y, x = np.mgrid[:1024, :1024].astype(np.uint32)
    pattern = np.stack([x ^ y, x * 3 + y, x + y * 5, x | y], axis=-1).astype(np.uint8)
    material = Material(base_color_texture=Texture(0), metallic_roughness_texture=Texture(0))
    return Clip("blobs", 0, np.zeros(frames), tuple(shapes), (material,), (pattern,))


def _equal(what: str, expected: list[OVoxel], found: list[OVoxel], exact: bool) -> Row:
    """Count differing values. Between CPU and GPU, rounding of the fields misses the target; anything else is wrong."""
    different, moved, tinted = 0, 0.0, 0
    for one, other in zip(map(_arrays, expected), map(_arrays, found), strict=True):
        if problem := difference_of(one, other):
            return Row(f"{what}: {problem}", Verdict.WRONG, "bit for bit")
        moved = max(moved, float(np.abs(one[1] - other[1]).max(initial=0)))
        tinted = max(tinted, int(np.abs(one[3].astype(int) - other[3].astype(int)).max(initial=0)))
        different += sum(int((a != b).sum()) for a, b in zip(one, other, strict=True))
    total = sum(array.size for voxels in expected for array in _arrays(voxels))
    figure = f"{what}: {different} of {total} values differ, by at most {moved:.1e} voxels and {tinted}/255"
    if different == 0:
        return Row(figure, Verdict.RIGHT, "bit for bit")
    return Row(
        figure,
        Verdict.WRONG if exact else Verdict.MISSED,
        "bit for bit",
        values={"different": different, "voxels": moved, "levels": tinted},
    )


def _arrays(voxels: OVoxel) -> tuple[np.ndarray, ...]:
    attributes = np.concatenate([voxels.base_color, voxels.metallic, voxels.roughness, voxels.alpha], axis=1)
    return voxels.coords, voxels.dual_vertices, voxels.intersected, attributes

"""Hours that ActionBench's geometry metrics take for 128 items × 16 frames, with exact and with pruned alignment.

    python benchmarks/metrics.py                         # two frames of two sample assets, a few minutes on one core
    python benchmarks/metrics.py --device cuda --frames 8
    python benchmarks/metrics.py --assets A.glb B.glb

The hours are extrapolated from the mean of a few frames, timed at the protocol's own 10,000 points (100,000 in the
distances). The prediction is the asset itself, sampled again, bent, scaled per axis, moved and turned. The last column
compares the frame's distance after pruned alignment with that after exact alignment. On a CPU, times are processor
seconds of one thread, which a busy machine disturbs least.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean

import numpy as np
import torch
from torch import Tensor

from helix4d.assets import Clip, bake, normalize
from helix4d.assets.samples import write_samples
from helix4d.evaluation import (
    EXACT,
    PRUNED,
    Protocol,
    Surface,
    align,
    chamfer_distance,
    motion_chamfer_distance,
    sample_surface,
    sample_tracked,
    subsample,
)
from helix4d.evaluation.geometry.alignment import axis_rotations

ITEMS, FRAMES = 128, 16
SAMPLES = ("ladybug", "treasure_chest")
PROTOCOL = Protocol()


@dataclass
class Times:
    """Seconds per frame of each part, and relative differences between the distances after the two alignments."""

    sampling: list[float] = field(default_factory=list)
    exact: list[float] = field(default_factory=list)
    pruned: list[float] = field(default_factory=list)
    distance: list[float] = field(default_factory=list)
    motion: list[float] = field(default_factory=list)
    differences: list[float] = field(default_factory=list)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--frames", type=int, default=2, help="number of frames to time per asset")
    parser.add_argument("--assets", type=Path, nargs="+", help="animated assets to use instead of the samples")
    args = parser.parse_args()
    if args.device == "cuda" and not torch.cuda.is_available():
        parser.error("no CUDA GPU found: run without --device cuda")
    torch.set_num_threads(1)
    device = torch.device(args.device)
    times = Times()
    print(f"{'asset':24} frame  exact s  pruned s  CD exact  CD pruned  difference")
    for name, clip in _clips(args.assets):
        _measure(name, clip, args.frames, device, times)
    _report(times, torch.cuda.get_device_name() if args.device == "cuda" else "one CPU thread")


def _clips(paths: Sequence[Path] | None) -> list[tuple[str, Clip]]:
    with tempfile.TemporaryDirectory() as folder:
        chosen = paths or [p for p in write_samples(Path(folder)) if p.stem in SAMPLES]
        return [(path.stem, normalize(bake(path, FRAMES))[0]) for path in chosen]


def _measure(name: str, clip: Clip, frames: int, device: torch.device, times: Times) -> None:
    surfaces = [Surface(frame.vertices, frame.topology.faces) for frame in clip.frames]
    truth = sample_tracked(surfaces, PROTOCOL.points, 1).to(device)
    few_true = subsample(truth, PROTOCOL.alignment_points, PROTOCOL.seed)
    for frame in np.linspace(0, FRAMES - 1, frames + 1).astype(int)[1:].tolist():
        predicted = _mispredicted(surfaces[frame])
        cloud, seconds = _timed(lambda s=predicted, f=frame: sample_surface(s, PROTOCOL.points, 44 + f), device)
        times.sampling.append(seconds)
        cloud = cloud.to(device)
        few = subsample(cloud, PROTOCOL.alignment_points, PROTOCOL.seed)
        distances = []
        for settings, spent in ((EXACT, times.exact), (PRUNED, times.pruned)):
            pose, seconds = _timed(lambda a=few, b=few_true[frame], s=settings: align(a, b, s), device)
            spent.append(seconds)
            moved = pose.apply(cloud)
            distance, seconds = _timed(lambda a=moved, b=truth[frame]: chamfer_distance(a, b), device)
            times.distance.append(seconds)
            distances.append(distance)
        _, seconds = _timed(lambda a=moved, b=truth[frame]: motion_chamfer_distance(a[None], b[None]), device)
        times.motion.append(seconds)
        times.differences.append(distances[1] / distances[0] - 1)
        print(
            f"{name:24} {frame:5d} {times.exact[-1]:8.1f} {times.pruned[-1]:9.1f} {distances[0]:9.5f} "
            f"{distances[1]:10.5f} {times.differences[-1]:+11.3%}",
            flush=True,
        )


def _report(times: Times, where: str) -> None:
    # A frame is sampled twice, for both kinds of points, and has two distances; CD-M finds its pairs once per item.
    rest = 2 * fmean(times.sampling) + 2 * fmean(times.distance) + fmean(times.motion) / FRAMES
    print(f"\n{where}; {len(times.exact)} frames timed at {PROTOCOL.alignment_points} points, hours extrapolated")
    print(f"sampling and distances: {rest:.2f} s per frame")
    for label, spent in (("exact", times.exact), ("pruned", times.pruned)):
        hours = ITEMS * FRAMES * (fmean(spent) + rest) / 3600
        print(f"{label:7} {fmean(spent):8.2f} s per frame: {hours:7.2f} hours for {ITEMS} items x {FRAMES} frames")
    print(f"pruned alignment is {fmean(times.exact) / fmean(times.pruned):.1f} times faster")
    worst = max(times.differences, key=abs)
    print(f"distances, pruned relative to exact: {fmean(times.differences):+.3%} on average, {worst:+.3%} at worst")


def _mispredicted(surface: Surface) -> Surface:
    """Bend by 3 % of the cube, scale by up to 10 %, move, and turn by 0.3 rad from one of the axis rotations."""
    points = surface.vertices.astype(np.float64)
    points += 0.03 * np.sin(6 * points[:, [1, 2, 0]])
    cosine, sine = np.cos(0.3), np.sin(0.3)
    turn = np.array([[cosine, -sine, 0], [sine, cosine, 0], [0, 0, 1]]) @ axis_rotations()[13].numpy()
    points = (points * [1.1, 0.95, 1.0] + [0.05, -0.03, 0.02]) @ turn
    return Surface(points.astype(np.float32), surface.faces)


def _timed(call: Callable[[], Tensor], device: torch.device) -> tuple[Tensor, float]:
    if device.type == "cpu":
        start = time.process_time()
        return call(), time.process_time() - start
    torch.cuda.synchronize()
    start = time.perf_counter()
    result = call()
    torch.cuda.synchronize()
    return result, time.perf_counter() - start


if __name__ == "__main__":
    main()

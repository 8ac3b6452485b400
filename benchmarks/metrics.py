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

import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import numpy as np
import torch
from torch import Tensor

from benchmarks.results import Column, Report, Spread, Table
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
QUICK = replace(PROTOCOL, points=PROTOCOL.points // 10, alignment_points=PROTOCOL.alignment_points // 10)


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
    report = Report("metrics", __doc__, quick="one frame per asset, alignment from a tenth of the points")
    report.parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    report.parser.add_argument("--frames", type=int, default=2, help="number of frames to time per asset")
    report.parser.add_argument("--assets", type=Path, nargs="+", help="animated assets to use instead of the samples")
    args = report.parse()
    if args.device == "cuda" and not torch.cuda.is_available():
        report.parser.error("no CUDA GPU found: run without --device cuda")
    torch.set_num_threads(1)
    device = torch.device(args.device)
    times = Times()
    protocol = QUICK if args.quick else PROTOCOL
    columns = (
        Column("exact, s", ".1f"),
        Column("pruned, s", ".1f"),
        Column("CD exact", ".5f"),
        Column("CD pruned", ".5f"),
    )
    table = report.table("frames", Column("asset"), Column("frame", "d"), *columns, Column("difference", "+.3%"))
    for name, clip in _clips(args.assets):
        _measure(name, clip, 1 if args.quick else args.frames, device, times, protocol, table)
    _summarize(report, times, protocol)
    report.save()


def _clips(paths: Sequence[Path] | None) -> list[tuple[str, Clip]]:
    with tempfile.TemporaryDirectory() as folder:
        chosen = paths or [p for p in write_samples(Path(folder)) if p.stem in SAMPLES]
        return [(path.stem, normalize(bake(path, FRAMES))[0]) for path in chosen]


def _measure(
    name: str, clip: Clip, frames: int, device: torch.device, times: Times, protocol: Protocol, table: Table
) -> None:
    surfaces = [Surface(frame.vertices, frame.topology.faces) for frame in clip.frames]
    truth = sample_tracked(surfaces, protocol.points, 1).to(device)
    few_true = subsample(truth, protocol.alignment_points, protocol.seed)
    for frame in np.linspace(0, FRAMES - 1, frames + 1).astype(int)[1:].tolist():
        predicted = _mispredicted(surfaces[frame])
        cloud, seconds = _timed(lambda s=predicted, f=frame: sample_surface(s, protocol.points, 44 + f), device)
        times.sampling.append(seconds)
        cloud = cloud.to(device)
        few = subsample(cloud, protocol.alignment_points, protocol.seed)
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
        table.add(name, frame, times.exact[-1], times.pruned[-1], *map(float, distances), float(times.differences[-1]))


def _summarize(report: Report, times: Times, protocol: Protocol) -> None:
    # A frame is sampled twice, for both kinds of points, and has two distances; CD-M finds its pairs once per item.
    rest = 2 * fmean(times.sampling) + 2 * fmean(times.distance) + fmean(times.motion) / FRAMES
    print(f"{len(times.exact)} frames timed at {protocol.alignment_points} points, hours extrapolated")
    hours = f"hours for {ITEMS} items of {FRAMES} frames"
    table = report.table("hours", Column("alignment"), Column("CPU s per frame", ".2f"), Column(hours, ".1f"))
    for label, spent in (("exact", times.exact), ("pruned", times.pruned)):
        table.add(label, Spread.of(spent), ITEMS * FRAMES * (fmean(spent) + rest) / 3600)
    report.value("rest_s", rest, ".2f")
    report.value("speedup_of_pruned", Spread.of_ratios(times.exact, times.pruned), ".1f")
    report.value("mean_difference", float(fmean(times.differences)), "+.3%")
    report.value("worst_difference", float(max(times.differences, key=abs)), "+.3%")


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

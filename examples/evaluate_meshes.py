"""Compare a folder of meshes, one per frame, with a folder of reference meshes: CD-3D, CD-4D and CD-M.

    python examples/evaluate_meshes.py predicted/ reference/ --glob "frame_*.glb"

The budget is small: fewer points, starts and steps than ActionBench's protocol, for a first look on a CPU. For benches
and tables that can be published use `helix4d evaluate`. Needs the extras `model` and `evaluation`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from helix4d.evaluation import AlignmentSettings, Protocol, Surface, measure_geometry, sample_surface, sample_tracked
from helix4d.evaluation.geometry.sampling import same_topology
from helix4d.evaluation.methods.adapters import prediction_files, read_prediction
from helix4d.evaluation.methods.methods import find_method
from helix4d.evaluation.metrics.geometry import clip_surfaces

QUICK = AlignmentSettings(steps=100, refined=1, coarse_points=200, coarse_steps=30)
TRUTH_SEED = 1  # differs from the seed of the prediction, so that equal meshes get different points


def read_surfaces(folder: Path, glob: str) -> list[Surface]:
    method = find_method("meshes", glob=glob)
    return clip_surfaces(read_prediction(folder, method, frames=len(prediction_files(folder, method))))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("predicted", type=Path, help="folder with a mesh for every frame, in natural order")
    parser.add_argument("reference", type=Path, help="folder with as many reference meshes")
    parser.add_argument("--glob", default="*.glb", help="file names in both folders")
    parser.add_argument("--points", type=int, default=20_000, help="points sampled on each mesh")
    args = parser.parse_args()

    reference = read_surfaces(args.reference, args.glob)
    tracked = same_topology(reference)  # points can be followed through the frames
    if tracked:
        truth = sample_tracked(reference, args.points, TRUTH_SEED)
    else:
        truth = torch.stack([sample_surface(surface, args.points, TRUTH_SEED) for surface in reference])
    protocol = Protocol(points=args.points, alignment_points=1_000, queries=args.points, alignment=QUICK)
    scores = measure_geometry(read_surfaces(args.predicted, args.glob), truth, protocol)

    for name in ("cd_3d", "cd_4d", "cd_m"):
        value = getattr(scores, name)
        reason = scores.reasons.get(name, "")
        if name == "cd_m" and not tracked:
            value, reason = None, "the topology of the reference changes from frame to frame"
        print(f"{name}  {reason if value is None else format(value, '.5f')}")


if __name__ == "__main__":
    main()

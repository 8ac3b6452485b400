"""Measures how much smaller frame 0 is than its clip, in 3D and in an image: `benchmarks/anchor_scale.py [ASSET ...]`.

For the sample assets and any given files, prints the longest side of frame 0's bounding box divided by that of all
frames, which is the correct scale of the anchor, and the same ratio measured in an image from the front, which is what
`--anchor-fit` sees.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np

from helix4d.assets import bake, normalize
from helix4d.assets.samples import write_samples
from helix4d.core import AssetError
from helix4d.render import orbit_camera, project

SIZE = 512


def main() -> None:
    """Print a table and its summary."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("assets", type=Path, nargs="*", help="animated assets besides the samples")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        paths = write_samples(Path(folder)) + arguments.assets
        print(f"{'asset':28} {'true ratio':>10} {'in image':>10}")
        measured = []
        for path in paths:
            try:
                clip, _ = normalize(bake(path))
            except AssetError as error:
                print(f"{path.stem[:28]:28} {error.code}")
                continue
            shown = [frame.vertices[np.unique(frame.topology.faces)] for frame in clip.frames]
            if not len(shown[0]):
                print(f"{path.stem[:28]:28} first frame empty")
                continue
            camera = orbit_camera(-90.0, 0.0, SIZE)
            pixels = [project(camera, points)[0] for points in shown]
            ratios = (_ratio(shown), _ratio(pixels))
            measured.append(ratios)
            print(f"{path.stem[:28]:28} {ratios[0]:10.3f} {ratios[1]:10.3f}", flush=True)
    true, pictured = np.array(measured).T
    print(f"{len(measured)} clips; in {np.mean(true < 0.9):.0%} the first frame is smaller than 0.9 of the clip")
    unfitted, fitted = np.abs(1 - true).mean(), np.abs(pictured - true).mean()
    print(f"mean |error| of the scale: {unfitted:.3f} unfitted, {fitted:.3f} fitted")


def _ratio(frames: list[np.ndarray]) -> float:
    """Longest side of frame 0's bounding box divided by that of all frames."""
    points = np.concatenate([frame for frame in frames if len(frame)])
    return float(np.ptp(frames[0], axis=0).max() / np.ptp(points, axis=0).max())


if __name__ == "__main__":
    main()

"""How much smaller frame 0 is than its clip, and whether pictures tell: `benchmarks/anchor_scale.py [ASSET ...]`.

For the sample assets, and files given: the longest side of frame 0's bounding box by the union's, which is what the
anchor's scale should be, and the ratio of the boxes in a picture from the front, which is what `--anchor-fit` sees.
"""

from __future__ import annotations

import sys
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
    with tempfile.TemporaryDirectory() as folder:
        paths = write_samples(Path(folder)) + [Path(argument) for argument in sys.argv[1:]]
        print(f"{'asset':28} {'true ratio':>10} {'pictured':>10}")
        found = []
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
            found.append(ratios)
            print(f"{path.stem[:28]:28} {ratios[0]:10.3f} {ratios[1]:10.3f}", flush=True)
    true, pictured = np.array(found).T
    print(f"{len(found)} clips; {np.mean(true < 0.9):.0%} have a first frame smaller than 0.9 of the clip")
    unfitted, fitted = np.abs(1 - true).mean(), np.abs(pictured - true).mean()
    print(f"mean |error| of the scale: {unfitted:.3f} unfitted, {fitted:.3f} fitted")


def _ratio(frames: list[np.ndarray]) -> float:
    """Frame 0's longest side by that of the union."""
    points = np.concatenate([frame for frame in frames if len(frame)])
    return float(np.ptp(frames[0], axis=0).max() / np.ptp(points, axis=0).max())


if __name__ == "__main__":
    main()

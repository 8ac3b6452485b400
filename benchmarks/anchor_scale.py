"""Measures how much smaller frame 0 is than its clip, in 3D and in an image: `benchmarks/anchor_scale.py [ASSET ...]`.

For the sample assets and any given files, prints the longest side of frame 0's bounding box divided by that of all
frames, which is the correct scale of the anchor, and the same ratio measured in an image from the front, which is what
`--anchor-fit` sees.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import numpy as np

from benchmarks.results import Column, Report
from helix4d.assets import bake, normalize
from helix4d.assets.samples import write_samples
from helix4d.core import AssetError
from helix4d.render import orbit_camera, project

SIZE = 512


def main() -> None:
    """Print a table and its summary."""
    report = Report("anchor_scale", __doc__, quick="only three sample assets")
    report.parser.add_argument("assets", type=Path, nargs="*", help="animated assets besides the samples")
    options = report.parse()
    columns = (Column("true ratio", ".3f"), Column("in the image", ".3f"), Column("note"))
    table = report.table("clips", Column("asset"), *columns)
    measured = []
    with tempfile.TemporaryDirectory() as folder:
        samples = write_samples(Path(folder))
        for path in samples[:3] if options.quick else [*samples, *options.assets]:
            try:
                ratios = _ratios(path)
            except AssetError as error:
                table.add(path.stem, None, None, str(error.code))
                continue
            table.add(path.stem, *(ratios or (None, None)), "" if ratios else "first frame empty")
            if ratios:
                measured.append(ratios)
    true, pictured = np.array(measured).T
    summary = report.table("summary", Column("measure"), Column("value", ".3f"))
    summary.add("clips", f"{len(measured)}")
    summary.add("share of assets whose first frame is smaller than 0.9 of the clip", f"{np.mean(true < 0.9):.0%}")
    summary.add("mean error of the scale, unfitted", float(np.abs(1 - true).mean()))
    summary.add("mean error of the scale, fitted", float(np.abs(pictured - true).mean()))
    report.save()


def _ratios(path: Path) -> tuple[float, float] | None:
    """Return the ratio in 3D and in an image from the front; None if nothing is visible in frame 0."""
    clip, _ = normalize(bake(path))
    shown = [frame.vertices[np.unique(frame.topology.faces)] for frame in clip.frames]
    if not len(shown[0]):
        return None
    camera = orbit_camera(-90.0, 0.0, SIZE)
    return _ratio(shown), _ratio([project(camera, points)[0] for points in shown])


def _ratio(frames: list[np.ndarray]) -> float:
    """Longest side of frame 0's bounding box divided by that of all frames."""
    points = np.concatenate([frame for frame in frames if len(frame)])
    return float(np.ptp(frames[0], axis=0).max() / np.ptp(points, axis=0).max())


if __name__ == "__main__":
    main()

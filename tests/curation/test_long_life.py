"""Two hundred assets in one process: memory stays constant, nothing is missing, the last image equals the first."""

from __future__ import annotations

import hashlib
import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from helix4d.core import sha256_file
from helix4d.curation.config import Limits, SampleConfig
from helix4d.curation.filters.thresholds import FilterConfig
from helix4d.curation.shards.ledger import Outcome
from helix4d.curation.shards.members import parse_clip
from helix4d.curation.work.jobs import AssetJob
from helix4d.curation.work.sandbox import Sandbox

ASSETS, SETTLED = 200, 30
GROWTH = 0.10
# Two frames may be alike.
CONFIG = SampleConfig(resolution=64, frames=2, views=2, image_size=128, filters=FilterConfig(min_motion=0))


def _check_sample(part: Path) -> str:
    """Check a part: every member once, different images per view, nothing empty. Returns its hash."""
    with tarfile.open(fileobj=io.BytesIO(part.read_bytes()), mode="r:") as archive:
        names = archive.getnames()
        members = {name.split(".", 1)[1]: archive.extractfile(name).read() for name in names}  # type: ignore[union-attr]
    assert len(set(names)) == len(names)
    clip = parse_clip(members["clip.json"], part)
    for frame in range(CONFIG.frames):
        images = [members.pop(f"view_{view:02d}_frame_{frame:02d}.webp") for view in range(CONFIG.views)]
        for image in images:
            rgba = np.asarray(Image.open(io.BytesIO(image)))
            assert rgba.shape == (CONFIG.image_size, CONFIG.image_size, 4)
            assert bool(rgba[..., 3].any()) == (clip["voxels"][frame] > 0), f"{part.name}, frame {frame}"
        if clip["voxels"][frame]:
            assert len({hashlib.sha256(image).hexdigest() for image in images}) == CONFIG.views, part.name
    assert not [name for name in members if name.endswith(".webp")]
    return sha256_file(part)


@pytest.mark.acceptance
def test_one_process_serves_two_hundred_assets(animated_assets: Path, tmp_path: Path) -> None:
    paths = sorted(animated_assets.glob("*.glb"))
    box = Sandbox(Limits(assets_per_process=ASSETS + 1, resting_gb=100, memory_gb=100), threads=1)
    resting, pids, peaks = [], [], []
    seen: dict[str, str] = {}
    for number in range(ASSETS):
        path = paths[number % len(paths)]
        part = tmp_path / "sample.part"
        job = AssetJob(path.name, path, sha256_file(path), part, CONFIG)
        end, peak = box.run(job.to_json(), lambda event: None)
        outcome = Outcome.from_json(end["outcome"])
        assert outcome.reason is None, f"{path.name}: {outcome.message}\n{box.log_tail()}"
        found = _check_sample(part)
        part.unlink()
        assert seen.setdefault(path.name, found) == found, f"{path.name} changed at asset {number + 1}"
        resting.append(box.resident_bytes())
        pids.append(box.pid)
        peaks.append(peak)
    box.close()
    assert len(set(pids)) == 1
    rows = "  ".join(f"{n}: {resting[n - 1] / 1e6:.0f}" for n in (1, 10, 30, 60, 90, 120, 150, 180, 200))
    print(f"\nresident MB at rest after asset {rows}; largest {max(peaks) / 1e6:.0f}")
    # One asset leaves another amount than the next: rounds over all assets are compared, and the two assets themselves.
    assert resting[-1] <= (1 + GROWTH) * resting[SETTLED - 1]
    assert max(resting[-len(paths) :]) <= (1 + GROWTH) * max(resting[SETTLED - len(paths) : SETTLED])

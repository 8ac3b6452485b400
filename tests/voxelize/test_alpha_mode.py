from __future__ import annotations

import numpy as np
import pytest

from helix4d.assets import AlphaMode
from helix4d.voxelize.mesh.alpha_mode import AlphaCounts, clip_alpha_mode


def counts(**shares: float) -> AlphaCounts:
    """1000 voxels, of which the given shares have the alpha in the name (a128=0.1); the others are opaque."""
    from dataclasses import replace

    from tests.voxelize.meshes import painted_sphere

    alpha = np.full((1000, 1), 255, np.uint8)
    start = 0
    for name, share in shares.items():
        alpha[start : start + int(share * 1000)] = int(name[1:])
        start += int(share * 1000)
    ovoxel = painted_sphere(32)
    parts = {name: getattr(ovoxel, name)[:1000] for name in ("coords", "dual_vertices", "intersected", "base_color")}
    parts |= {name: getattr(ovoxel, name)[:1000] for name in ("metallic", "roughness")}
    return AlphaCounts.of(replace(ovoxel, **parts, alpha=alpha))


@pytest.mark.parametrize(
    ("shares", "mode"),
    [
        ({}, AlphaMode.OPAQUE),
        ({"a251": 1.0}, AlphaMode.OPAQUE),
        ({"a0": 0.005}, AlphaMode.OPAQUE),
        ({"a0": 0.4, "a128": 0.02}, AlphaMode.MASK),
        ({"a5": 0.3}, AlphaMode.MASK),
        ({"a0": 0.1, "a128": 0.1}, AlphaMode.BLEND),
        ({"a30": 0.5}, AlphaMode.BLEND),
        ({"a128": 1.0}, AlphaMode.BLEND),
    ],
)
def test_the_mode_follows_the_voxels(shares: dict[str, float], mode: AlphaMode) -> None:
    assert counts(**shares).mode is mode


def test_one_mode_for_all_frames() -> None:
    """Frames of which each alone would be drawn in another mode."""
    frames = [counts(), counts(a0=0.3), counts(a0=0.1, a128=0.5)]
    assert [frame.mode for frame in frames] == [AlphaMode.OPAQUE, AlphaMode.MASK, AlphaMode.BLEND]
    assert clip_alpha_mode(frames) is AlphaMode.BLEND
    assert clip_alpha_mode(frames[:2]) is AlphaMode.MASK
    assert clip_alpha_mode([]) is AlphaMode.OPAQUE

"""Baking the rest pose of a glTF file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from helix4d.assets import bake, bake_still
from helix4d.core import AssetError, ReasonCode
from tests.assets.glb import TETRAHEDRON, moving_tetrahedron, tetrahedron


def test_a_static_file_is_a_clip_of_one_frame(tmp_path: Path) -> None:
    path = tetrahedron().write(tmp_path)
    clip = bake_still(path)
    expected = np.stack([TETRAHEDRON[:, 0], -TETRAHEDRON[:, 2], TETRAHEDRON[:, 1]], axis=1)
    assert (len(clip.frames), clip.index, clip.times.tolist()) == (1, -1, [0.0])
    for corner in clip.frames[0].vertices:
        assert np.abs(expected - corner).max(axis=1).min() < 1e-6
    with pytest.raises(AssetError) as found:
        bake(path)
    assert found.value.code is ReasonCode.NO_ANIMATION


def test_an_animated_file_is_baked_in_its_rest_pose(tmp_path: Path) -> None:
    path = moving_tetrahedron().write(tmp_path)
    np.testing.assert_array_equal(bake_still(path).frames[0].vertices, bake(path, 2).frames[0].vertices)


def test_broken_files_raise_the_same_errors_as_in_bake(tmp_path: Path) -> None:
    (tmp_path / "a.glb").write_bytes(b"")
    with pytest.raises(AssetError) as found:
        bake_still(tmp_path / "a.glb")
    assert found.value.code is ReasonCode.EMPTY_FILE
    with pytest.raises(AssetError, match=r"\.glb or \.gltf"):
        bake_still(tmp_path / "a.fbx")

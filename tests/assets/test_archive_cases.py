"""Archives of others that were once read wrongly: each gives the right answer of their index."""

from __future__ import annotations

import numpy as np
import pytest

from helix4d.assets import bake, check_clip
from tests.conftest import CASES, NO_CASES

pytestmark = pytest.mark.skipif(not (CASES / "files").is_dir(), reason=NO_CASES)


@pytest.mark.parametrize("name", ["zip_gbk_names.zip", "zip_backslash.zip", "zip_duplicate_member.zip"])
def test_the_members_are_found(name: str) -> None:
    """A unit cube that moves by 1, with a red picture of 4 x 4 pixels; buffer and picture are files of their own."""
    clip = bake(CASES / "files" / name, frames=3)
    check_clip(clip)
    assert clip.warnings == ()
    edges = [np.stack([frame.vertices.min(axis=0), frame.vertices.max(axis=0)]) for frame in clip.frames]
    for found, x in zip(edges, (0, 0.5, 1), strict=True):
        np.testing.assert_allclose(found, [[x - 0.5, -0.5, -0.5], [x + 0.5, 0.5, 0.5]], atol=1e-6)
    (material,), (image,) = clip.materials, clip.images
    assert material.base_color_texture is not None
    assert image.shape == (4, 4, 4)
    np.testing.assert_array_equal(image, np.broadcast_to([255, 0, 0, 255], image.shape))

"""Regression tests: videos that were once read incorrectly give the results in their index."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from helix4d.model.conditioning.images import union_box
from helix4d.model.conditioning.video_input import read_video
from tests.conftest import CASES, NO_CASES

pytest.importorskip("av", reason="av is not installed (extra 'model')")
pytestmark = pytest.mark.skipif(not (CASES / "video").is_dir(), reason=NO_CASES)


def opaque(image: Image.Image) -> np.ndarray:
    return np.full(image.size[::-1], 255, np.uint8)


@pytest.mark.parametrize("name", ["portrait_phone.mp4", "exif_stills"])
def test_frames_are_upright(name: str) -> None:
    """Red above blue at the left of the stored picture become blue left of red on top: it is turned clockwise."""
    frames = read_video(CASES / "video" / name, matting=opaque).frames
    assert {frame.size for frame in frames} == {(64, 128)}
    red, green, blue, _ = np.moveaxis(np.asarray(frames[0]).astype(int), 2, 0)
    for mark, columns in ((blue - red - green, slice(0, 32)), (red - blue - green, slice(32, 64))):
        rows, found = np.nonzero(mark > 128)
        assert len(rows) > 100
        assert rows.max() < 64
        assert columns.start <= found.min()
        assert found.max() < columns.stop


def test_the_alpha_of_vp9_is_used() -> None:
    def refuse(image: Image.Image) -> np.ndarray:
        raise AssertionError("matting of a video that has alpha")

    video = read_video(CASES / "video" / "alpha.webm", matting=refuse)
    assert not video.matted
    for frame in video.frames:
        assert set(np.unique(np.asarray(frame)[..., 3])) == {0, 255}


def test_frames_are_spaced_evenly_in_time() -> None:
    """30 frames, 21 of them in the first of 6.67 seconds."""
    video = read_video(CASES / "video" / "vfr.mp4", 6, opaque)
    np.testing.assert_allclose(video.times_s, np.linspace(0, 20 / 3, 6), atol=1e-3)
    assert video.indices == (0, 21, 23, 25, 27, 29)


def test_thin_smoke_is_an_object_and_its_box_is_that_of_all_alpha_that_shows() -> None:
    video = read_video(CASES / "video" / "thin_smoke")
    shows = np.stack([np.asarray(frame)[..., 3] > 0 for frame in video.frames])
    assert shows[0].any()
    assert max(np.asarray(frame)[..., 3].max() for frame in video.frames) < 204
    rows, columns = np.nonzero(shows.any(axis=(0, 2)))[0], np.nonzero(shows.any(axis=(0, 1)))[0]
    left, top, right, bottom = union_box(video.frames, video.alpha_threshold)
    assert (max(right - left, bottom - top)) == max(np.ptp(rows), np.ptp(columns))
    assert left <= columns[0]
    assert top <= rows[0]
    assert right >= columns[-1]
    assert bottom >= rows[-1]

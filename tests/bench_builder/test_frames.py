from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from helix4d.bench_builder import choose_frames, crop_frames, pad_still, shared_square
from helix4d.core import ConfigError, FormatError

GRAY = (128, 128, 128)


def _still(
    width: int, height: int, box: tuple[int, int, int, int], color: tuple[int, int, int] = (255, 0, 0)
) -> Image.Image:
    """A transparent image, green underneath, with one opaque rectangle."""
    pixels = np.zeros((height, width, 4), np.uint8)
    pixels[..., 1] = 255
    left, top, right, bottom = box
    pixels[top:bottom, left:right] = (*color, 255)
    return Image.fromarray(pixels)


def test_a_still_is_centered_and_its_longest_side_fills_the_stated_share() -> None:
    frame = np.asarray(pad_still(_still(300, 200, (10, 20, 110, 70)), 160, 0.5, GRAY))
    assert frame.shape == (160, 160, 3)
    rows, columns = np.nonzero((frame != GRAY).any(axis=2))
    assert (columns.min(), columns.max() + 1, rows.min(), rows.max() + 1) == (40, 120, 60, 100)
    assert (frame[60:100, 40:120] == (255, 0, 0)).all()


def test_colors_under_transparent_pixels_never_show() -> None:
    pixels = np.zeros((64, 64, 4), np.uint8)
    pixels[..., 1] = 255
    pixels[8:56, 8:56] = (200, 0, 0, 255)
    pixels[8:56:7, 8:56:5, 3] = 0  # holes with pure green beneath
    pixels[8:56:7, 8:56:5, :3] = (0, 255, 0)
    frame = np.asarray(pad_still(Image.fromarray(pixels), 160, 0.7, (128, 0, 128)))
    assert frame[..., 1].max() == 0


def test_translucent_pixels_are_blended_with_the_background() -> None:
    pixels = np.full((10, 10, 4), (255, 255, 255, 128), np.uint8)
    frame = np.asarray(pad_still(Image.fromarray(pixels), 32, 1.0, (0, 0, 0)))
    assert np.abs(frame.astype(int) - 128).max() <= 1


def test_a_still_without_alpha_is_entirely_object() -> None:
    frame = np.asarray(pad_still(Image.new("RGB", (40, 20), (0, 0, 255)), 80, 1.0, GRAY))
    assert (frame[20:60] == (0, 0, 255)).all()
    assert (frame[:20] == GRAY).all()


def test_a_transparent_still_is_refused() -> None:
    with pytest.raises(FormatError, match="fully transparent"):
        pad_still(Image.new("RGBA", (8, 8)), 16, 0.7, GRAY)


@pytest.mark.parametrize(
    ("generated", "expected"),
    [(17, range(16)), (16, range(16)), (81, range(0, 80, 5)), (121, range(0, 128, 8)), (31, range(0, 31, 2))],
)
def test_kept_frames_follow_the_documented_rule(generated: int, expected: range) -> None:
    assert choose_frames(generated, 16) == list(expected)


@given(st.integers(1, 400), st.integers(1, 400))
def test_kept_frames_start_with_the_first_and_are_evenly_spaced(generated: int, wanted: int) -> None:
    if wanted > generated:
        with pytest.raises(ConfigError, match=f"cannot keep {wanted} of {generated} generated frames"):
            choose_frames(generated, wanted)
        return
    frames = choose_frames(generated, wanted)
    assert len(frames) == wanted
    assert frames[0] == 0
    assert frames[-1] < generated
    strides = set(np.diff(frames).tolist())
    assert len(strides) <= 1
    if wanted > 1:
        assert (strides.pop() + 1) * (wanted - 1) >= generated, "a longer stride would have fitted"


def test_the_square_contains_the_object_of_all_frames() -> None:
    masks = np.zeros((3, 100, 100), np.uint8)
    masks[0, 40:60, 10:20] = 255
    masks[2, 40:50, 60:70] = 9
    masks[1, 0, 0] = 8  # haze
    assert shared_square(masks, margin=0.0) == (10, 20, 60)
    assert shared_square(masks, margin=0.05) == (7, 17, 66)


def test_a_square_may_extend_beyond_the_frame_and_is_transparent_there() -> None:
    frames = np.zeros((2, 20, 40, 4), np.uint8)
    frames[:, :, :] = (10, 20, 30, 255)
    square = shared_square(frames[..., 3], margin=0.0)
    assert square == (0, -10, 40)
    cropped = crop_frames(frames, square, 40)
    assert cropped.shape == (2, 40, 40, 4)
    assert (cropped[:, :10, :, 3] == 0).all()
    assert (cropped[:, 30:, :, 3] == 0).all()
    np.testing.assert_array_equal(cropped[:, 10:30], frames)


def test_cropping_resizes_every_frame_alike() -> None:
    frames = np.zeros((2, 64, 64, 4), np.uint8)
    frames[0, 16:48, 16:48] = (255, 0, 0, 255)
    frames[1, 24:40, 24:40] = (255, 0, 0, 255)
    cropped = crop_frames(frames, (16, 16, 32), 16)
    assert (cropped[0] == (255, 0, 0, 255)).all()
    assert (cropped[1, 6:10, 6:10] == (255, 0, 0, 255)).all()
    assert (cropped[1, :2, :, 3] == 0).all()
    assert (cropped[1][cropped[1][..., 3] > 0][:, 1:3] == 0).all()


def test_transparent_frames_are_refused() -> None:
    with pytest.raises(FormatError, match="matting removed the object"):
        shared_square(np.full((4, 8, 8), 8, np.uint8))


def test_arrays_of_other_shapes_or_types_are_refused() -> None:
    with pytest.raises(FormatError, match=r"expected uint8 masks \(T, H, W\), got float64 \(2, 3, 3\)"):
        shared_square(np.zeros((2, 3, 3)))  # type: ignore[arg-type]
    with pytest.raises(FormatError, match=r"expected uint8 frames"):
        crop_frames(np.zeros((2, 3, 3, 3), np.uint8), (0, 0, 3), 3)
    with pytest.raises(FormatError, match=r"expected uint8 masks"):
        shared_square(np.zeros((0, 3, 3), np.uint8))

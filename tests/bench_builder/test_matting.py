from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from helix4d.bench_builder.matting import load_matting, make_masks, matting_identity
from helix4d.core import ConfigError

GRAY = (128, 128, 128)


def _frames(count: int = 5) -> np.ndarray:
    """A red square on gray that moves to the right."""
    frames = np.full((count, 32, 32, 3), GRAY, np.uint8)
    for number, frame in enumerate(frames):
        frame[8:24, 4 + number : 20 + number] = (200, 20, 20)
    return frames


def test_distance_from_the_background_becomes_alpha() -> None:
    frames = _frames()
    masks = make_masks(frames, load_matting("color", GRAY))
    assert np.array_equal(masks == 255, (frames != GRAY).any(axis=3))
    assert set(np.unique(masks)) == {0, 255}


def test_alpha_is_partial_between_near_and_far() -> None:
    ramp = np.full((1, 1, 128, 3), 128, np.uint8)
    ramp[0, 0, :, 1] = np.arange(128, 256)
    (alpha,) = make_masks(ramp, load_matting("color", GRAY))[0]
    assert (alpha[:13] == 0).all()
    assert (alpha[60:] == 255).all()
    assert (np.diff(alpha.astype(int)) >= 0).all()
    assert 120 < alpha[36] < 135


def test_masks_are_smoothed_over_time_and_cleared_of_haze() -> None:
    forgotten = iter([255, 255, 0, 255, 255])

    def matting(image: Image.Image) -> np.ndarray:
        mask = np.full((32, 32), 7, np.uint8)
        mask[8:24, 8:24] = next(forgotten)
        return mask

    masks = make_masks(_frames(), matting)
    assert (masks[:, 8:24, 8:24] == 255).all()
    assert (masks[:, :8] == 0).all()


def test_a_matting_is_identified_by_its_name_and_the_hash_of_its_file(tmp_path: Path) -> None:
    file = tmp_path / "mine.onnx"
    file.write_bytes(b"a model")
    assert matting_identity("isnet-general-use") == ("isnet-general-use", None)
    assert matting_identity(f"dis_custom:{file}") == ("dis_custom", hashlib.sha256(b"a model").hexdigest())
    with pytest.raises(ConfigError, match=r"nowhere\.onnx does not exist"):
        matting_identity("dis_custom:nowhere.onnx")

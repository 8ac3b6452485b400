from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import CLIPImageProcessorPil

from helix4d.core import ConfigError
from helix4d.evaluation.learned.pictures import CLIP_PIXELS, cut_square, network_pixels, resize_bicubic


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


@pytest.mark.parametrize("shape", [(300, 300), (224, 224), (100, 100), (240, 380), (401, 224), (90, 53)])
def test_pixels_are_those_of_transformers(shape: tuple[int, int]) -> None:
    image = noise(*shape)
    expected = CLIPImageProcessorPil()(Image.fromarray(image), return_tensors="pt")["pixel_values"]
    assert torch.allclose(network_pixels([image], 224, CLIP_PIXELS), expected, rtol=0, atol=1e-6)


def test_the_square_holds_the_object_of_all_frames_over_the_background() -> None:
    frames = np.zeros((2, 40, 60, 4), np.uint8)
    frames[0, 10:20, 30:35] = (200, 0, 0, 255)
    frames[1, 20:30, 35:40] = (0, 200, 0, 255)
    square = cut_square(frames, background=7, margin=1.5)
    assert square.shape == (2, 30, 30, 3)
    assert (square[0, 5:15, 10:15] == (200, 0, 0)).all()
    assert (square[1, 15:25, 15:20] == (0, 200, 0)).all()
    assert (square == 7).all(axis=-1).sum() == 2 * 900 - 100


@pytest.mark.parametrize("alpha", [255, 90])
def test_scale_and_position_of_the_object_do_not_matter(alpha: int) -> None:
    """Also for smoke and glass, which are never opaque."""
    thing = np.concatenate([noise(40, 40), np.full((40, 40, 1), alpha, np.uint8)], axis=-1)
    small, large = np.zeros((1, 64, 64, 4), np.uint8), np.zeros((1, 300, 500, 4), np.uint8)
    small[0, 20:60, 5:45] = thing
    large[0, 100:220, 370:490] = thing.repeat(3, axis=0).repeat(3, axis=1)
    a, b = cut_square(small, margin=1.1), cut_square(large, margin=1.1)
    assert np.array_equal(a.repeat(3, axis=1).repeat(3, axis=2), b)


def test_a_square_that_exceeds_the_image_is_padded() -> None:
    frames = np.full((1, 20, 10, 4), 255, np.uint8)
    frames[..., :3] = 50
    square = cut_square(frames, background=0, margin=1.0)
    assert square.shape == (1, 20, 20, 3)
    assert (square[0, :, 5:15] == 50).all()
    assert (square[0, :, :5] == 0).all()
    assert (square[0, :, 15:] == 0).all()


def test_alpha_mixes_and_frames_without_an_object_become_background() -> None:
    frames = np.zeros((1, 4, 6, 4), np.uint8)
    assert (cut_square(frames, background=255) == 255).all()
    frames[...] = (0, 0, 0, 254)
    assert (cut_square(frames, background=255, margin=1.0)[0, 2] == 1).all()
    with pytest.raises(ConfigError, match="expected"):
        cut_square(frames[..., :3])


def test_an_image_of_the_right_size_is_unchanged() -> None:
    image = noise(224, 224)
    assert np.array_equal(resize_bicubic(image, 224), image)

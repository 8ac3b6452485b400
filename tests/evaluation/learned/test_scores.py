from __future__ import annotations

import numpy as np
import pytest
import torch

from helix4d.core import ConfigError
from helix4d.evaluation.learned.pictures import CLIP_PIXELS
from helix4d.evaluation.learned.scores import (
    UNIT_PIXELS,
    encode_clouds,
    encode_pictures,
    encode_video,
    mean_cosine,
    mean_distance,
)

CPU = torch.device("cpu")
RANDOM = np.random.default_rng(0)


def frames(count: int = 10, size: int = 40) -> np.ndarray:
    """Noise without background."""
    made = RANDOM.integers(0, 256, (count, size, size, 4), np.uint8)
    made[..., 3] = 255
    return made


def test_cosines_are_averaged_over_frames_and_views() -> None:
    reference = torch.tensor([[2.0, 0.0], [0.0, 3.0]])
    same, turned = reference * 5, reference.flip(-1)
    assert mean_cosine([same], reference) == 1
    assert mean_cosine([same, turned], reference) == 0.5
    assert mean_cosine([torch.stack([same[0], -same[1]])], reference) == 0
    with pytest.raises(ConfigError, match=r"all of the reference's shape \(2, 2\)"):
        mean_cosine([same[:1]], reference)
    with pytest.raises(ConfigError, match="at least one"):
        mean_cosine([], reference)


def test_every_picture_is_encoded_in_order_whatever_the_batches() -> None:
    pictures = frames()
    features = encode_pictures(lambda x: x.mean(dim=(2, 3)), pictures, 20, CLIP_PIXELS, CPU)
    one = [encode_pictures(lambda x: x.mean(dim=(2, 3)), pictures[t : t + 1], 20, CLIP_PIXELS, CPU) for t in range(10)]
    assert features.shape == (10, 3)
    assert torch.allclose(features, torch.cat(one))


def test_clouds_are_turned_and_keep_their_colors() -> None:
    clouds = RANDOM.random((9, 5, 6)).astype(np.float32)
    axes = np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])
    seen = encode_clouds(lambda x: x.flatten(1), clouds, axes, CPU).view(9, 5, 6).numpy()
    x, y, z = (clouds[..., i] for i in range(3))
    assert np.allclose(seen[..., :3], np.stack([x, z, -y], axis=-1))
    assert np.array_equal(seen[..., 3:], clouds[..., 3:])


def test_each_piece_of_a_video_is_one_input() -> None:
    pieces = frames(8).reshape(2, 4, *frames(1).shape[1:])
    seen: list[tuple[int, ...]] = []

    def network(x: torch.Tensor) -> torch.Tensor:
        seen.append(tuple(x.shape))
        return x.mean(dim=(2, 3, 4))

    assert encode_video(network, pieces, CPU).shape == (2, 3)
    assert seen == [(1, 3, 4, 224, 224)] * 2


def test_distances_are_averaged_over_frames() -> None:
    a, b = frames(9), frames(9)

    def distance(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return (x - y).abs().mean(dim=(1, 2, 3))

    each = [mean_distance(distance, a[t : t + 1], b[t : t + 1], 20, UNIT_PIXELS, CPU) for t in range(9)]
    assert mean_distance(distance, a, b, 20, UNIT_PIXELS, CPU) == pytest.approx(np.mean(each), rel=1e-5)
    assert mean_distance(distance, a, a, 20, UNIT_PIXELS, CPU) == 0
    with pytest.raises(ConfigError, match="the numbers must be equal"):
        mean_distance(distance, a, b[:3], 20, UNIT_PIXELS, CPU)

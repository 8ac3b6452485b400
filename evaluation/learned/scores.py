"""Learned scores as functions of images and point clouds, independent of where the networks come from."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from helix4d.core import ConfigError
from helix4d.evaluation.learned.pictures import PixelStatistics, cut_square, network_pixels
from helix4d.evaluation.learned.towers.i3d import video_pixels

_BATCH = 8

UNIT_PIXELS = PixelStatistics((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
"""Keeps [0, 1]."""
SIGNED_PIXELS = PixelStatistics((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
"""Maps [0, 1] to [-1, 1]."""

Encoder = Callable[[Tensor], Tensor]


def encode_pictures(
    tower: Encoder, frames: np.ndarray, size: int, statistics: PixelStatistics, device: torch.device
) -> Tensor:
    """(T, C) float32 features of (T, H, W, 4) uint8 frames, cropped around the object, over white."""
    return _batched(tower, network_pixels(cut_square(frames), size, statistics), device)


def encode_clouds(encoder: Encoder, clouds: np.ndarray, axes: np.ndarray, device: torch.device) -> Tensor:
    """(T, C) float32 features of (T, N, 6) clouds, with positions transformed by the rows of `axes` (3, 3)."""
    turned = np.concatenate([clouds[..., :3] @ axes.T, clouds[..., 3:]], axis=-1, dtype=np.float32)
    return _batched(encoder, torch.from_numpy(turned), device)


def encode_video(network: Encoder, pieces: np.ndarray, device: torch.device) -> np.ndarray:
    """Return (P, C) float32 features of the segments of a video (P, T, H, W, 4) uint8, cropped, over white.

    All segments share one crop around the object.
    """
    cut = cut_square(pieces.reshape(-1, *pieces.shape[2:]))
    features = []
    with torch.inference_mode():
        for piece in cut.reshape(*pieces.shape[:2], *cut.shape[1:]):
            pixels = video_pixels(torch.from_numpy(piece))
            features.append(network(pixels[None].to(device))[0].float().cpu().numpy())
    return np.stack(features)


def mean_cosine(features: Sequence[Tensor], reference: Tensor) -> float:
    """Mean cosine similarity, over views and frames, to the reference of the same frame.

    Args:
        features: (T, C) features of every view.
        reference: (T, C) features.

    Raises:
        ConfigError: if there are no views, or shapes differ.
    """
    if not features or any(view.shape != reference.shape for view in features):
        shapes = [tuple(view.shape) for view in features]
        raise ConfigError(
            f"features of shapes {shapes}: expected at least one, all of the reference's shape {tuple(reference.shape)}"
        )
    return float(torch.stack([F.cosine_similarity(view, reference, dim=-1) for view in features]).mean())


def mean_distance(
    distance: Callable[[Tensor, Tensor], Tensor],
    frames: np.ndarray,
    reference: np.ndarray,
    size: int,
    statistics: PixelStatistics,
    device: torch.device,
) -> float:
    """Mean image distance between the frames of two videos (T, H, W, 4) uint8, cropped around the object.

    Raises:
        ConfigError: if the numbers of frames differ.
    """
    if len(frames) != len(reference):
        raise ConfigError(f"{len(frames)} frames, but {len(reference)} reference frames: the numbers must be equal")
    a = network_pixels(cut_square(frames), size, statistics)
    b = network_pixels(cut_square(reference), size, statistics)
    with torch.inference_mode():
        parts = [
            distance(x.to(device), y.to(device)).float().cpu()
            for x, y in zip(a.split(_BATCH), b.split(_BATCH), strict=True)
        ]
    return float(torch.cat(parts).mean())


def _batched(encode: Encoder, inputs: Tensor, device: torch.device) -> Tensor:
    with torch.inference_mode():
        return torch.cat([encode(part.to(device)).float().cpu() for part in inputs.split(_BATCH)])

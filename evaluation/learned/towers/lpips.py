"""LPIPS 0.1 (Zhang et al. 2018) on AlexNet or VGG-16, with torchvision's `features.*` and lpips' `linN.model.1.weight`.

Source: richzhang/PerceptualSimilarity, lpips/lpips.py and lpips/pretrained_networks.py, spatial average.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

from torch import Tensor, nn

from helix4d.core import ConfigError
from helix4d.evaluation.learned.weights import load_named, read_tensors

_SHIFT, _SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
_EPS = 1e-10


@dataclass(frozen=True)
class Backbone:
    """Layers of a torchvision network up to its last tap.

    Args:
        layers: entries of `features`: (inputs, outputs, kernel, stride, padding) of a convolution, None for a ReLU, or
            (kernel, stride) of a maximum pooling.
        taps: indices of the entries whose outputs are compared.
    """

    layers: tuple[tuple[int, ...] | None, ...]
    taps: tuple[int, ...]

    @property
    def channels(self) -> tuple[int, ...]:
        """Number of channels of each tap."""
        convolutions = [(index, layer[1]) for index, layer in enumerate(self.layers) if layer and len(layer) == 5]
        return tuple([out for index, out in convolutions if index < tap][-1] for tap in self.taps)


_RELU, _THREE = None, (3, 2)
ALEX = Backbone(
    (
        (3, 64, 11, 4, 2), _RELU, _THREE, (64, 192, 5, 1, 2), _RELU, _THREE, (192, 384, 3, 1, 1), _RELU,
        (384, 256, 3, 1, 1), _RELU, (256, 256, 3, 1, 1), _RELU,
    ),
    (1, 4, 7, 9, 11),
)  # fmt: skip


def _vgg() -> Backbone:
    layers: list[tuple[int, ...] | None] = []
    inputs = 3
    for width, count in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
        layers += [(2, 2)] if layers else []
        for _ in range(count):
            layers += [(inputs, width, 3, 1, 1), None]
            inputs = width
    return Backbone(tuple(layers), (3, 8, 15, 22, 29))


VGG = _vgg()


class Lpips(nn.Module):
    """A metric: two batches (B, 3, H, W) in [-1, 1] → (B,) distances."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.features = nn.Sequential(*(_layer(layer) for layer in backbone.layers))
        for index, channels in enumerate(backbone.channels):
            self.add_module(f"lin{index}", _Weights(channels))
        self._taps = backbone.taps

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        if a.shape != b.shape or a.ndim != 4 or a.shape[1] != 3:
            raise ConfigError(f"images of shapes {tuple(a.shape)} and {tuple(b.shape)}: expected two of (B, 3, H, W)")
        distance = a.new_zeros(len(a))
        for index, (x, y) in enumerate(zip(self._tapped(a), self._tapped(b), strict=True)):
            weighted: Tensor = self.get_submodule(f"lin{index}")((_unit(x) - _unit(y)).square())
            distance = distance + weighted.mean(dim=(1, 2, 3))
        return distance

    def _tapped(self, pixels: Tensor) -> list[Tensor]:
        shape = (3, 1, 1)
        x = (pixels - pixels.new_tensor(_SHIFT).view(shape)) / pixels.new_tensor(_SCALE).view(shape)
        outputs = []
        for index, layer in enumerate(self.features):
            x = layer(x)
            if index in self._taps:
                outputs.append(x)
        return outputs


class _Weights(nn.Module):
    """(B, C, H, W) → (B, 1, H, W), weighted by learned weights; `model.0` is a dropout in training."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.model = nn.Sequential(nn.Identity(), nn.Conv2d(channels, 1, 1, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.model(x)
        return out


def _layer(layer: tuple[int, ...] | None) -> nn.Module:
    if layer is None:
        return nn.ReLU()
    if len(layer) == 2:
        return nn.MaxPool2d(*layer)
    inputs, outputs, kernel, stride, padding = layer
    return nn.Conv2d(inputs, outputs, kernel, stride, padding)


def _unit(x: Tensor) -> Tensor:
    """Normalize the channels of each pixel to unit length."""
    return x / (x.square().sum(dim=1, keepdim=True).sqrt() + _EPS)


def load_lpips(features: Path, weights: Path, backbone: Backbone = ALEX) -> Lpips:
    """Load the metric from torchvision's classifier and lpips' own small file.

    Raises:
        FormatError: if either does not match `backbone`.
    """
    tensors = read_tensors(features) | read_tensors(weights)
    origin = f"{features.name} with {weights.name}"
    return load_named(partial(Lpips, backbone), tensors, origin, unused=("classifier.",))

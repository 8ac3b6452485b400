"""Evaluates signals for the texels of an image, so that channels of several graphs become one image."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from helix4d.assets.blender import signals
from helix4d.assets.blender.coordinates import Placement
from helix4d.assets.blender.signals import Channel, Constant, Signal, Texel, VertexColor
from helix4d.assets.pictures import to_srgb
from helix4d.core.arrays import FloatArray, UInt8Array

_TEXELS_AT_ONCE = 1 << 18


@dataclass(frozen=True, eq=False)
class Paint:
    """One channel of an image: a channel of a signal, encoded in sRGB or linear."""

    signal: Signal
    index: int = 0
    is_srgb: bool = False


def painted(paints: Sequence[Paint | None], warn: Callable[[str], None]) -> tuple[UInt8Array, Placement] | None:
    """Return an (H, W, 4) image and its placement; None if no signal reads an image.

    An image that already has the channels is returned itself. Otherwise images are resized to the largest, those with
    another placement than the first are replaced by their mean color, and color attributes by white, with warnings.

    Args:
        paints: what red, green, blue and alpha show; None for a channel that is not used.
        warn: receives messages.
    """
    used = [paint for paint in paints if paint is not None]
    found = [leaf for paint in used for leaf in signals.leaves(paint.signal)]
    texels = [leaf for leaf in found if isinstance(leaf, Texel)]
    if not texels:
        return None
    place = texels[0].placement
    if all(paint is None or _is_channel(paint, texels[0], number) for number, paint in enumerate(paints)):
        return texels[0].pixels, place
    if any(texel.placement != place for texel in texels):
        warn("combines images with different texture coordinates: all but one are replaced by their mean color")
    if any(isinstance(leaf, VertexColor) for leaf in found):
        warn("a color attribute is combined with an image other than by multiplication, which is not supported")
    together = [texel for texel in texels if texel.placement == place]
    height, width = max((texel.pixels.shape[:2] for texel in together), key=lambda shape: shape[0] * shape[1])
    sources = {id(texel): _resized(texel.pixels, height, width, place.nearest) for texel in together}
    image = np.empty((height, width, 4), np.uint8)
    step = max(_TEXELS_AT_ONCE // width, 1)
    for start in range(0, height, step):
        rows = slice(start, start + step)
        image[rows] = _evaluated(paints, lambda leaf: _rows(leaf, sources, rows)).reshape(-1, width, 4)  # noqa: B023
    return image, place


def constant_of(signal: Signal, warn: Callable[[str], None]) -> tuple[float, float, float, float]:
    """Return the value of a signal without images; color attributes are replaced by white, with a warning."""
    if any(isinstance(leaf, VertexColor) for leaf in signals.leaves(signal)):
        warn("a color attribute is used other than by multiplication, which is not supported: replaced by white")
    red, green, blue, alpha = (float(v) for v in signals.evaluate(signal, lambda _: np.ones((1, 4)))[0])
    return red, green, blue, alpha


def _is_channel(paint: Paint, texel: Texel, number: int) -> bool:
    """Return whether a paint is an unchanged channel of an image, in the same channel and byte for byte."""
    if isinstance(paint.signal, Constant):
        return paint.signal.value[paint.index] == 1.0 and bool((texel.pixels[..., number] == 255).all())
    channel = paint.signal if isinstance(paint.signal, Channel) else Channel(paint.signal, paint.index)
    signal, index = channel.source, channel.index
    encoded = paint.is_srgb != texel.is_data or number == 3
    return signal is texel and index == number and encoded and (number == 3 or not texel.is_premultiplied)


def _resized(pixels: UInt8Array, height: int, width: int, nearest: bool) -> UInt8Array:
    if pixels.shape[:2] == (height, width):
        return pixels
    how = Image.Resampling.NEAREST if nearest else Image.Resampling.BILINEAR
    # Channel by channel, as alpha may be unrelated data.
    planes = [Image.fromarray(pixels[..., n]).resize((width, height), how) for n in range(4)]
    return np.stack([np.asarray(plane) for plane in planes], axis=-1)


def _rows(leaf: Texel | VertexColor, sources: dict[int, UInt8Array], rows: slice) -> FloatArray:
    if isinstance(leaf, VertexColor):
        return np.ones((1, 4))
    if id(leaf) in sources:
        return signals.linear(leaf, sources[id(leaf)][rows].reshape(-1, 4))
    return signals.linear(leaf, _mean(leaf.pixels))


def _mean(pixels: UInt8Array) -> UInt8Array:
    return np.asarray(np.rint(pixels.reshape(-1, 4).mean(axis=0, keepdims=True)), np.uint8)


def _evaluated(paints: Sequence[Paint | None], texels: Callable[[Texel | VertexColor], FloatArray]) -> UInt8Array:
    """Return the (N, 4) bytes of the texels that `texels` provides."""
    values: dict[int, FloatArray] = {}
    columns: list[FloatArray] = []
    for paint in paints:
        if paint is None:
            columns.append(np.ones(1))
            continue
        if id(paint.signal) not in values:
            values[id(paint.signal)] = signals.evaluate(paint.signal, texels)
        column = np.clip(values[id(paint.signal)][:, paint.index], 0.0, 1.0)
        columns.append(to_srgb(np.asarray(column, np.float64)) if paint.is_srgb else column)
    size = max(map(len, columns))
    stacked = np.stack([np.broadcast_to(column, (size,)) for column in columns], axis=1)
    return np.asarray(np.rint(255 * stacked), np.uint8)

"""What drives an input of a shader, as an expression of constants, images and vertex colors, and its evaluation.

All values are linear RGBA; a number has three equal channels and alpha 1. Nodes compute every texel by itself, so an
expression of images with one placement can be evaluated for all texels at once, and is an image again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from helix4d.assets.blender.coordinates import Placement
from helix4d.assets.pictures import to_linear
from helix4d.core.arrays import Float32Array, FloatArray, UInt8Array

LUMINANCE = np.array([0.2126, 0.7152, 0.0722])
"""Weights with which Blender converts a color to a number."""
_BYTES = (np.arange(256) / 255).astype(np.float32)
_LINEAR = to_linear(np.arange(256) / 255).astype(np.float32)

_MOST_FACTORS = 50
"""Maximum number of products to split: repeated squaring yields more factors than fit in memory."""

Function = Callable[..., FloatArray]
"""Maps (N, 4) arrays, or (1, 4) ones that are broadcast, to one."""


@dataclass(frozen=True, eq=False)
class Constant:
    """The same RGBA everywhere."""

    value: tuple[float, float, float, float]

    @property
    def rgb(self) -> tuple[float, float, float]:
        """The color without alpha."""
        return self.value[:3]


@dataclass(frozen=True, eq=False)
class Texel:
    """The color of an image.

    Attributes:
        pixels: (H, W, 4) uint8, shared by all uses of the image.
        placement: texture coordinates of the image.
        is_data: the bytes are linear values rather than sRGB.
        is_premultiplied: colors are multiplied by alpha, which Blender does where the graph does not use alpha.
    """

    pixels: UInt8Array
    placement: Placement
    is_data: bool
    is_premultiplied: bool = False


@dataclass(frozen=True, eq=False)
class VertexColor:
    """A color attribute of the mesh; "" is the one that is active for rendering."""

    name: str


@dataclass(frozen=True, eq=False)
class Channel:
    """One channel of a signal as a number: 0 to 2 are red, green and blue, 3 is alpha."""

    source: Signal
    index: int


@dataclass(frozen=True, eq=False)
class Computed:
    """A function of other signals.

    Attributes:
        function: the function.
        inputs: its arguments.
        is_product: it multiplies its two inputs.
        is_binary: its value is 0 or 1.
    """

    function: Function
    inputs: tuple[Signal, ...]
    is_product: bool = False
    is_binary: bool = False


Signal = Constant | Texel | VertexColor | Channel | Computed
BLACK, WHITE = Constant((0.0, 0.0, 0.0, 1.0)), Constant((1.0, 1.0, 1.0, 1.0))


def number(value: float) -> Constant:
    """Return a number as a signal."""
    return Constant((value, value, value, 1.0))


def channel(source: Signal, index: int) -> Signal:
    """Return one channel of a signal."""
    return number(source.value[index]) if isinstance(source, Constant) else Channel(source, index)


def computed(function: Function, *inputs: Signal, is_product: bool = False, is_binary: bool = False) -> Signal:
    """Return a function of signals; a constant if all of these are."""
    signal = Computed(function, inputs, is_product, is_binary)
    if not all(isinstance(source, Constant) for source in inputs):
        return signal
    red, green, blue, alpha = (float(value) for value in evaluate(signal, lambda _: np.zeros((1, 4)))[0])
    return Constant((red, green, blue, alpha))


def product(one: Signal, two: Signal) -> Signal:
    """Return the product of two signals, with the alpha of the first."""
    for constant, other in ((one, two), (two, one)):
        if isinstance(constant, Constant) and constant.rgb == (1.0, 1.0, 1.0):
            return other
    return computed(_multiply, one, two, is_product=True)


def mixture(factor: Signal, one: Signal, two: Signal) -> Signal:
    """Return one · (1 − factor) + two · factor."""
    if one is two or (isinstance(one, Constant) and isinstance(two, Constant) and one.value == two.value):
        return one
    return computed(_mix, factor, one, two)


def complement(signal: Signal) -> Signal:
    """Return 1 − signal."""
    is_binary = isinstance(signal, Computed) and signal.is_binary
    return computed(_complement, signal, is_binary=is_binary)


def luminance(signal: Signal) -> Signal:
    """Return a color as a number."""
    return computed(_gray, signal)


def average(signal: Signal) -> Signal:
    """Return a vector as a number."""
    return computed(_average, signal)


def leaves(signal: Signal) -> Iterator[Texel | VertexColor]:
    """Yield the images and vertex colors of an expression, each once."""
    seen: set[int] = set()
    pending: list[Signal] = [signal]
    while pending:
        current = pending.pop()
        if id(current) in seen:
            continue
        seen.add(id(current))
        if isinstance(current, Computed):
            pending.extend(current.inputs)
        elif isinstance(current, Channel):
            pending.append(current.source)
        elif not isinstance(current, Constant):
            yield current


@dataclass(frozen=True, eq=False)
class Factors:
    """A signal as a product.

    Attributes:
        factor: constant RGB.
        color: a color attribute, or None.
        rest: everything else, or None.
    """

    factor: tuple[float, float, float]
    color: VertexColor | None
    rest: Signal | None


def factors(signal: Signal) -> Factors:
    """Split a signal into a constant, one color attribute, and what remains."""
    factor = np.ones(3)
    color: VertexColor | None = None
    rest: Signal | None = None
    pending: list[Signal] = [signal]
    split = 0
    while pending:
        current = pending.pop()
        if isinstance(current, Computed) and current.is_product and split < _MOST_FACTORS:
            pending.extend(current.inputs)
            split += 1
        elif isinstance(current, Constant):
            factor = factor * current.rgb
        elif isinstance(current, VertexColor) and color is None:
            color = current
        else:
            rest = current if rest is None else product(current, rest)
    red, green, blue = (float(value) for value in factor)
    return Factors((red, green, blue), color, rest)


def evaluate(signal: Signal, texels: Callable[[Texel | VertexColor], FloatArray]) -> FloatArray:
    """Evaluate an expression.

    Args:
        signal: the expression.
        texels: returns the (N, 4) linear values of an image, or the value that replaces a color attribute.

    Returns:
        (N, 4), or (1, 4) for a constant.
    """
    known: dict[int, FloatArray] = {}

    def value(current: Signal) -> FloatArray:
        if id(current) not in known:
            known[id(current)] = _value(current)
        return known[id(current)]

    def _value(current: Signal) -> FloatArray:
        if isinstance(current, Constant):
            return np.array([current.value])
        if isinstance(current, Channel):
            column = value(current.source)[:, current.index : current.index + 1]
            return np.concatenate([np.repeat(column, 3, axis=1), np.ones_like(column)], axis=1)
        if isinstance(current, Computed):
            with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
                return np.nan_to_num(np.clip(current.function(*map(value, current.inputs)), -1e6, 1e6))
        return texels(current)

    return value(signal)


def linear(texel: Texel, rows: UInt8Array) -> Float32Array:
    """Return (N, 4) linear values of (N, 4) uint8 texels."""
    colors = rows[:, :3]
    if texel.is_premultiplied:  # as bytes: Cycles does so before it makes them linear
        colors = np.rint(colors * (rows[:, 3:] / 255.0)).astype(np.uint8)
    return np.concatenate([(_BYTES if texel.is_data else _LINEAR)[colors], _BYTES[rows[:, 3:]]], axis=1)


def with_alpha(color: FloatArray, alpha_of: FloatArray) -> FloatArray:
    """Return (N, 4) from (N, 3) colors and the alpha of (N, 4) or (1, 4) values."""
    return np.concatenate([color, np.broadcast_to(alpha_of[:, 3:], (len(color), 1))], axis=1)


def _multiply(one: FloatArray, two: FloatArray) -> FloatArray:
    return with_alpha(one[:, :3] * two[:, :3], one)


def _mix(factor: FloatArray, one: FloatArray, two: FloatArray) -> FloatArray:
    return with_alpha(one[:, :3] * (1 - factor[:, :3]) + two[:, :3] * factor[:, :3], one)


def _complement(value: FloatArray) -> FloatArray:
    return with_alpha(1 - value[:, :3], value)


def _gray(value: FloatArray) -> FloatArray:
    gray = value[:, :3] @ LUMINANCE
    return np.stack([gray, gray, gray, np.ones_like(gray)], axis=1)


def _average(value: FloatArray) -> FloatArray:
    mean = value[:, :3].mean(axis=1)
    return np.stack([mean, mean, mean, np.ones_like(mean)], axis=1)

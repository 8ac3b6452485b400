"""A tiny matting model: an ONNX file, written byte by byte, whose mask is the distance from mid-gray.

It has the inputs and outputs of rembg's `u2net_custom`, so it runs through the same code as a trained model.
"""

from __future__ import annotations

import struct
from pathlib import Path

SIDE = 320
"""Pixels per side of the images that `u2net_custom` passes to its model."""

_FLOAT = 1
_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def write_matting_model(path: Path) -> Path:
    """Mean over the channels of |normalized color - normalized gray|, one channel, the size of the input."""
    gray = [(0.5 - mean) / deviation for mean, deviation in zip(_MEAN, _DEVIATION, strict=True)]
    axis = _text(1, "axes") + _number(8, 1) + _number(20, 7)  # AttributeProto: ints = [1], type INTS
    graph = [
        _field(1, _node("Sub", ["image", "gray"], "difference")),
        _field(1, _node("Abs", ["difference"], "distance")),
        _field(1, _node("ReduceMean", ["distance"], "mask", axis)),
        _text(2, "distance from gray"),
        _field(5, _tensor("gray", [1, 3, 1, 1], gray)),
        _field(11, _value("image", [1, 3, SIDE, SIDE])),
        _field(12, _value("mask", [1, 1, SIDE, SIDE])),
    ]
    opset = _text(1, "") + _number(2, 13)
    path.write_bytes(_number(1, 8) + _field(7, b"".join(graph)) + _field(8, opset))
    return path


def _node(operator: str, inputs: list[str], output: str, attribute: bytes | None = None) -> bytes:
    given = b"".join(_text(1, name) for name in inputs) + _text(2, output) + _text(4, operator)
    return given if attribute is None else given + _field(5, attribute)


def _tensor(name: str, shape: list[int], values: list[float]) -> bytes:
    dimensions = b"".join(_number(1, size) for size in shape)
    return dimensions + _number(2, _FLOAT) + _text(8, name) + _field(9, struct.pack(f"<{len(values)}f", *values))


def _value(name: str, shape: list[int]) -> bytes:
    dimensions = b"".join(_field(1, _number(1, size)) for size in shape)
    return _text(1, name) + _field(2, _field(1, _number(1, _FLOAT) + _field(2, dimensions)))


# Protocol buffers: a tag, then a varint, or a length and that many bytes.


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _text(field: int, text: str) -> bytes:
    return _field(field, text.encode())


def _field(field: int, data: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(data)) + data


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*encoded, value])

"""KTX2 textures, encoded by another package (alktx2 0.1.7) from the colors below."""

from __future__ import annotations

import base64
import contextlib
import importlib.util
import struct
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helix4d.assets import Clip, Limits, bake, validate
from helix4d.assets.gltf.images import header_size
from helix4d.assets.gltf.ktx2 import decode_ktx2
from helix4d.core import AssetError, ConfigError, ReasonCode
from tests.assets.glb import moving_tetrahedron

needs_decoder = pytest.mark.skipif(
    importlib.util.find_spec("opengl_basisu") is None, reason="needs opengl_basisu, of the extra curate"
)
COLORS = np.array(
    [
        [[255, 0, 0, 255], [0, 255, 0, 255], [0, 0, 255, 255]],
        [[255, 255, 255, 255], [128, 64, 32, 255], [40, 80, 160, 0]],
    ]
)
"""Colors of blocks of 4 × 4 pixels."""
_ETC1S = (
    "q0tUWCAyMLsNChoKAAAAAAEAAAAMAAAACAAAAAAAAAAAAAAAAQAAAAEAAAABAAAAaAAAADwAAACkAAAAJAAAAMgAAAAAAAAAnAAA"
    "AAAAAABkAQAAAAAAAAYAAAAAAAAAAAAAAAAAAAA8AAAAAAAAAAIAOACjAQIAAwMAAAgIAAAAAAAAAAA/AAAAAAAAAAAA/////0AA"
    "Pw8AAAAAAAAAAP////8fAAAAS1RYd3JpdGVyAEJhc2lzIFVuaXZlcnNhbCAyLjEwAAAHAAMANAAAAA0AAAAzAAAAAAAAAAAAAAAA"
    "AAAABAAAAAQAAAACAAAAIMDcgAEAACAAJi6wG5oBxA0YAAAAgjnASFMBYAIAAAAAAAAhAJgAAAAAAABAEOedUzCRAVRVVVUFAAAA"
    "qKqqqgIAwYQAAQAAABA0ov9PAw+ACQABAACAMEy6EQFxAwYAAIBgoaPRCU4xAEwACAAAAAAgBAIYDHUB/SY="
)
_UASTC = (
    "q0tUWCAyMLsNChoKAAAAAAEAAAAMAAAACAAAAAAAAAAAAAAAAQAAAAEAAAACAAAAaAAAACwAAACUAAAAJAAAAAAAAAAAAAAAAAAA"
    "AAAAAAC4AAAAAAAAAEUAAAAAAAAAYAAAAAAAAAAsAAAAAAAAAAIAKACmAQIAAwMAABAAAAAAAAAAAAB/AwAAAAAAAAAA/////x8A"
    "AABLVFh3cml0ZXIAQmFzaXMgVW5pdmVyc2FsIDIuMTAAACi1L/0gYOUBALQC9x8A4B96ABfgH+AfAg8A4P8fAuAB9////x987xcQ"
    "COQ/gogABQoUIGFxAwagEJ59sOMBhFKQzC4mDQ=="
)
FILES = {"ETC1S": base64.b64decode(_ETC1S), "UASTC": base64.b64decode(_UASTC)}


def _textured(folder: Path, data: bytes, texture: dict[str, Any] | None = None) -> Path:
    builder = moving_tetrahedron()
    builder.gltf["images"] = [{"bufferView": builder.view(data), "mimeType": "image/ktx2"}]
    builder.gltf["textures"] = [texture or {"extensions": {"KHR_texture_basisu": {"source": 0}}}]
    builder.gltf["materials"] = [{"pbrMetallicRoughness": {"baseColorTexture": {"index": 0}}}]
    builder.gltf["extensionsUsed"] = builder.gltf["extensionsRequired"] = ["KHR_texture_basisu"]
    builder.primitive["material"] = 0
    builder.primitive["attributes"]["TEXCOORD_0"] = builder.accessor(np.zeros((4, 2)))
    return builder.write(folder)


def _bake(folder: Path, data: bytes) -> Clip:
    return bake(_textured(folder, data), 2)


def _changed(data: bytes, offset: int, value: int, layout: str = "<I") -> bytes:
    changed = bytearray(data)
    struct.pack_into(layout, changed, offset, value)
    return bytes(changed)


@needs_decoder
@pytest.mark.parametrize("codec", FILES)
def test_colors_and_alpha_arrive(tmp_path: Path, codec: str) -> None:
    clip = _bake(tmp_path, FILES[codec])
    assert not clip.warnings
    expected = COLORS.repeat(4, axis=0).repeat(4, axis=1)
    assert np.abs(clip.images[0].astype(int) - expected).max() <= 4


@pytest.mark.parametrize("codec", FILES)
def test_the_size_is_limited_before_decoding(tmp_path: Path, codec: str) -> None:
    assert header_size(FILES[codec]) == (12, 8)
    path = _textured(tmp_path, FILES[codec])
    validate(path)
    with pytest.raises(AssetError) as caught:
        validate(path, Limits(image_pixels=95))
    assert caught.value.code is ReasonCode.TEXTURE_TOO_LARGE


@needs_decoder
def test_large_images_are_reduced(tmp_path: Path) -> None:
    clip = bake(_textured(tmp_path, FILES["UASTC"]), 2, limits=Limits(image_side=6))
    assert clip.images[0].shape == (4, 6, 4)
    assert "reduced by a factor of 2" in clip.warnings[0]


@needs_decoder
@pytest.mark.parametrize("codec", FILES)
def test_damaged_files_are_a_warning(tmp_path: Path, codec: str) -> None:
    data, random = FILES[codec], np.random.default_rng(0)
    for size in range(12, len(data), 9):
        with pytest.raises(ValueError, match=r"."):
            decode_ktx2(data[:size])
    for _ in range(100):
        damaged = bytearray(data)
        for place in random.integers(12, len(data), 4):
            damaged[place] = random.integers(256)
        with contextlib.suppress(ValueError):  # anything else, or a crash, fails
            assert decode_ktx2(bytes(damaged)).dtype == np.uint8
    warning = _bake(tmp_path, data[:150]).warnings[0]
    assert warning.startswith("images[0]: cannot be decoded")


@needs_decoder
@pytest.mark.parametrize(
    ("offset", "value", "layout", "message"),
    [
        (28, 4, "<I", "not a single 2D image"),
        (32, 2, "<I", "not a single 2D image"),
        (36, 6, "<I", "not a single 2D image"),
        (20, 0, "<I", "not a single 2D image"),
        (96, 1 << 40, "<Q", "unpacks to 1,099,511,627,776 bytes"),
        (12, 37, "<I", "vkFormat 37"),
    ],
)
def test_other_kinds_of_ktx2(tmp_path: Path, offset: int, value: int, layout: str, message: str) -> None:
    data = _changed(FILES["UASTC"], offset, value, layout)
    with pytest.raises(ValueError, match=message):
        decode_ktx2(data)


def test_another_source_comes_first(tmp_path: Path) -> None:
    texture = {"source": 0, "extensions": {"KHR_texture_basisu": {"source": 7}}}
    validate(_textured(tmp_path, FILES["UASTC"], texture))
    with pytest.raises(AssetError, match="source 7 does not exist"):
        validate(_textured(tmp_path, FILES["UASTC"], {"extensions": texture["extensions"]}))


def test_the_message_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opengl_basisu", None)
    with pytest.raises(
        ConfigError, match=r"reading KTX2 textures: cannot import opengl_basisu\. Install the extra 'curate'"
    ):
        decode_ktx2(FILES["UASTC"])

"""Any mutated file results in a `Clip` or an `AssetError`."""

from __future__ import annotations

import json
import struct
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from helix4d.assets import Clip, bake, content_hash, list_clips, validate
from helix4d.core import AssetError, ReasonCode
from tests.assets.glb import Builder, tetrahedron


def rich() -> Builder:
    """A file with many features: skin, morph targets, sparse accessor, material, image, several clips."""
    builder = tetrahedron()
    attributes = builder.primitive["attributes"]
    attributes["TEXCOORD_0"] = builder.accessor(np.zeros((4, 2)))
    attributes["COLOR_0"] = builder.accessor(np.full((4, 4), 200), "u1", normalized=True)
    attributes["JOINTS_0"] = builder.accessor([[0, 1, 0, 0]] * 4, "u1")
    attributes["WEIGHTS_0"] = builder.accessor([[0.5, 0.5, 0, 0]] * 4)
    delta = builder.accessor(np.ones((4, 3)))
    builder.gltf["accessors"][delta]["sparse"] = {
        "count": 1,
        "indices": {"bufferView": builder.view(struct.pack("<H", 2)), "componentType": 5123},
        "values": {"bufferView": builder.view(struct.pack("<3f", 1, 2, 3))},
    }
    builder.primitive["targets"] = [{"POSITION": delta}]
    builder.primitive["material"] = 0
    builder.gltf["meshes"][0]["weights"] = [0.25]
    inverse = builder.accessor(np.tile(np.eye(4), (2, 1, 1)).reshape(2, 16))
    builder.gltf["skins"] = [{"joints": [1, 2], "inverseBindMatrices": inverse}]
    builder.gltf["nodes"] = [
        {"mesh": 0, "skin": 0, "name": "a"},
        {"children": [2], "rotation": [0, 0, 0, 1]},
        {"matrix": np.eye(4).reshape(-1).tolist()},
        {"mesh": 0, "scale": [-1, 1, 1], "extensions": {"KHR_node_visibility": {"visible": True}}},
    ]
    builder.gltf["scenes"][0]["nodes"] = [0, 1, 3]
    with tempfile.NamedTemporaryFile(suffix=".png") as stream:
        Image.new("RGBA", (4, 4), (10, 20, 30, 240)).save(stream.name)
        image = builder.view(Path(stream.name).read_bytes())
    builder.gltf["images"] = [{"bufferView": image, "mimeType": "image/png"}]
    builder.gltf["samplers"] = [{"wrapS": 33071}]
    builder.gltf["textures"] = [{"source": 0, "sampler": 0}]
    texture = {"index": 0, "extensions": {"KHR_texture_transform": {"offset": [0.5, 0], "rotation": 1}}}
    builder.gltf["materials"] = [
        {
            "pbrMetallicRoughness": {"baseColorFactor": [1, 0, 0, 1], "baseColorTexture": texture},
            "normalTexture": {"index": 0, "scale": 2},
            "alphaMode": "MASK",
            "extensions": {
                "KHR_materials_pbrSpecularGlossiness": {"diffuseTexture": {"index": 0}, "specularFactor": [1, 1, 1]},
                "KHR_materials_volume": {"thicknessFactor": 1, "attenuationDistance": 2},
            },
        }
    ]
    builder.channel(1, "translation", [0, 1], [[0, 0, 0], [2, 0, 0]])
    builder.channel(0, "weights", [0, 0.5, 1], [[0], [1], [0]])
    builder.channel(2, "rotation", [0, 1], [[0, 0, 0, 1]] * 6, "CUBICSPLINE", animation=1)
    builder.channel(3, "scale", [0, 1], [[1, 1, 1], [-2, 1, 1]], "STEP", animation=1)
    builder.gltf["asset"]["extras"] = {"author": "someone"}
    return builder


def _places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if path:
        yield path
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, entry in entries:
        yield from _places(entry, (*path, key))


_JSON = json.dumps(rich().gltf)
_PLACES = list(_places(json.loads(_JSON)))
_BYTES = rich().bytes()
_VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 70000),
    st.sampled_from([2**31, 2**53, 2**63, 10**40, -1, 5120, 5126, 1e308, 1e-320, 0.5, -0.0]),
    st.sampled_from(["", "x", "../a", "POSITION", "MAT4", "STEP", "\ud800", "/etc/passwd", "data:,"]),
    st.sampled_from([[], {}, [[]], [{}], [0], [0, 0], [-1], ["a"], [None], {"a": 1}, {"extensions": []}]),
)


def _outcome(data: bytes, name: str = "test.glb") -> Clip | AssetError:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(data)
        content_hash(path)
        found: Clip | AssetError
        try:
            list_clips(path)
            validate(path)
            found = bake(path, frames=3)
        except AssetError as error:
            return error
        found.save(Path(folder) / "clip")
        return found


def _mutated(changes: list[tuple[tuple[Any, ...], Any]]) -> bytes:
    builder = rich()
    for path, value in changes:
        parent: Any = builder.gltf
        try:
            for key in path[:-1]:
                parent = parent[key]
            parent[path[-1]] = value
        except (KeyError, IndexError, TypeError):
            continue
    return builder.bytes()


def test_the_unmutated_file_is_a_clip() -> None:
    assert isinstance(_outcome(_BYTES), Clip)


@settings(max_examples=500, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.tuples(st.sampled_from(_PLACES), _VALUES), min_size=1, max_size=3))
def test_any_value_anywhere_in_the_json(changes: list[tuple[tuple[Any, ...], Any]]) -> None:
    _outcome(_mutated(changes))


@pytest.mark.parametrize("value", [None, True, -1, 1.5, 10**30, "x", [], {}, [[]], [None], {"a": []}], ids=repr)
def test_each_place_of_the_json_with_the_same_wrong_value(value: Any) -> None:
    for path in _PLACES:
        _outcome(_mutated([(path, value)]))


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.lists(st.tuples(st.integers(0, len(_BYTES) - 1), st.integers(0, 255)), min_size=1, max_size=8),
    st.integers(0, len(_BYTES)),
    st.booleans(),
)
def test_any_bytes_changed_or_truncated(changes: list[tuple[int, int]], length: int, cut: bool) -> None:
    data = bytearray(_BYTES)
    for place, value in changes:
        data[place] = value
    _outcome(bytes(data[:length] if cut else data))


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200), st.sampled_from([b"", b"glTF", b"glTF\x02\0\0\0", b"{"]))
def test_any_bytes_at_all(data: bytes, start: bytes) -> None:
    assert isinstance(_outcome(start + data), AssetError)


@pytest.mark.parametrize("depth", [200, 5_000, 200_000])
def test_deeply_nested_json_is_refused(depth: int) -> None:
    text = '{"asset":{"version":"2.0","extras":' + "[" * depth + "]" * depth + "}}"
    found = _outcome(text.encode(), "test.gltf")
    assert isinstance(found, AssetError)
    assert found.code is ReasonCode.INVALID_GLTF


def test_nan_in_json_is_refused() -> None:
    found = _outcome(b'{"asset":{"version":"2.0"},"nodes":[{"translation":[NaN,0,0]}]}', "test.gltf")
    assert isinstance(found, AssetError)
    assert found.code is ReasonCode.INVALID_GLTF

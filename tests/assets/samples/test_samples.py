"""The sample assets are valid glTF, deterministic, and demonstrate the features that they claim."""

from __future__ import annotations

import io
import json
import struct
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import trimesh
from PIL import Image

from helix4d.assets.samples import SAMPLES, write_samples

_COMPONENTS = {5120: np.int8, 5121: np.uint8, 5122: np.int16, 5123: np.uint16, 5125: np.uint32, 5126: np.float32}
_WIDTHS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4, "MAT4": 16}


class Asset:
    """A parsed GLB; every access checks bounds."""

    def __init__(self, data: bytes) -> None:
        magic, version, length = struct.unpack_from("<4sII", data)
        assert (magic, version, length) == (b"glTF", 2, len(data))
        json_bytes, kind = struct.unpack_from("<I4s", data, 12)
        assert kind == b"JSON"
        assert json_bytes % 4 == 0
        self.document: dict[str, Any] = json.loads(data[20 : 20 + json_bytes])
        binary_bytes, kind = struct.unpack_from("<I4s", data, 20 + json_bytes)
        assert kind == b"BIN\0"
        assert binary_bytes % 4 == 0
        assert 28 + json_bytes + binary_bytes == len(data)
        self.binary = data[28 + json_bytes :]
        (buffer,) = self.document["buffers"]
        assert 0 <= binary_bytes - buffer["byteLength"] < 4

    def __getitem__(self, kind: str) -> list[dict[str, Any]]:
        return self.document.get(kind, [])

    def view(self, index: int) -> bytes:
        view = self["bufferViews"][index]
        start, length = view["byteOffset"], view["byteLength"]
        assert start % 4 == 0
        assert start + length <= self.document["buffers"][0]["byteLength"]
        return self.binary[start : start + length]

    def accessor(self, index: int) -> np.ndarray:
        """Return the (count, width) numbers as stored."""
        accessor = self["accessors"][index]
        dtype, width = np.dtype(_COMPONENTS[accessor["componentType"]]), _WIDTHS[accessor["type"]]
        values = np.zeros((accessor["count"], width), dtype)
        if "bufferView" in accessor:
            data = self.view(accessor["bufferView"])
            stride = self["bufferViews"][accessor["bufferView"]].get("byteStride", dtype.itemsize * width)
            assert (accessor["count"] - 1) * stride + dtype.itemsize * width <= len(data)
            values = np.ndarray(values.shape, dtype, data, strides=(stride, dtype.itemsize)).copy()
        if "sparse" in accessor:
            sparse = accessor["sparse"]
            where = np.frombuffer(self.view(sparse["indices"]["bufferView"]), "<u2")
            assert len(where) == sparse["count"] > 0
            assert (np.diff(where.astype(int)) > 0).all()
            assert where.max() < accessor["count"]
            values[where] = np.frombuffer(self.view(sparse["values"]["bufferView"]), dtype).reshape(-1, width)
        assert np.isfinite(values).all()
        return values

    def primitives(self) -> list[dict[str, Any]]:
        return [primitive for mesh in self["meshes"] for primitive in mesh["primitives"]]

    def triangles(self) -> int:
        """Count the triangles in the scene, including instances."""
        counts = [
            sum(self["accessors"][primitive["indices"]]["count"] // 3 for primitive in mesh["primitives"])
            for mesh in self["meshes"]
        ]
        return sum(counts[node["mesh"]] for node in self["nodes"] if "mesh" in node)

    def durations(self) -> list[float]:
        return [
            max(float(self.accessor(sampler["input"])[-1, 0]) for sampler in animation["samplers"])
            for animation in self["animations"]
        ]


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    return {name: build() for name, build in SAMPLES.items()}


@pytest.fixture(params=sorted(SAMPLES))
def asset(request: pytest.FixtureRequest, files: dict[str, bytes]) -> Asset:
    return Asset(files[request.param])


def test_samples_are_written_under_their_names_with_reproducible_bytes(tmp_path, files):
    paths = write_samples(tmp_path)
    assert [path.stem for path in paths] == sorted(SAMPLES)
    for path in paths:
        assert path.read_bytes() == files[path.stem]


def test_samples_are_small(files):
    assert len(files) >= 8
    assert max(map(len, files.values())) < 1_500_000
    assert sum(map(len, files.values())) < 6_000_000


def test_sizes_and_durations(asset):
    assert 500 <= asset.triangles() <= 20_000
    for duration_s in asset.durations():
        assert 0.2 <= duration_s <= 5.0


def test_assets_state_their_origin(asset):
    header = asset.document["asset"]
    assert header["version"] == "2.0"
    assert "Helix4D" in header["generator"]
    assert header["extras"]["license"] == "CC0-1.0"
    assert header["extras"]["title"]
    assert header["extras"]["author"]
    assert header["extras"]["demonstrates"]


def test_accessors_are_in_bounds_with_exact_minima_and_maxima(asset):
    for index, accessor in enumerate(asset["accessors"]):
        values = asset.accessor(index)
        if "min" in accessor:
            assert accessor["min"] == values.min(axis=0).tolist()
            assert accessor["max"] == values.max(axis=0).tolist()
    for view in asset["bufferViews"]:
        assert view.get("byteStride", 4) % 4 == 0


def test_primitives_are_well_formed(asset):
    for primitive in asset.primitives():
        attributes = primitive["attributes"]
        count = asset["accessors"][attributes["POSITION"]]["count"]
        for index in attributes.values():
            assert asset["accessors"][index]["count"] == count
            assert asset["bufferViews"][asset["accessors"][index]["bufferView"]]["target"] == 34962
        assert {"min", "max"} <= asset["accessors"][attributes["POSITION"]].keys()
        indices = asset.accessor(primitive["indices"]).astype(int)
        assert asset["bufferViews"][asset["accessors"][primitive["indices"]]["bufferView"]]["target"] == 34963
        assert len(indices) % 3 == 0
        assert indices.max() < count
        assert len(np.unique(indices)) == count
        normals = asset.accessor(attributes["NORMAL"])
        unit = normals / np.iinfo(normals.dtype).max if normals.dtype != np.float32 else normals
        assert np.allclose(np.linalg.norm(unit, axis=1), 1.0, atol=0.02)
        assert primitive["material"] < len(asset["materials"])
        for target in primitive.get("targets", ()):
            for index in target.values():
                assert asset["accessors"][index]["count"] == count
            assert {"min", "max"} <= asset["accessors"][target["POSITION"]].keys()


def test_triangles_face_along_their_normals(asset):
    for primitive in asset.primitives():
        positions = asset.accessor(primitive["attributes"]["POSITION"]).astype(np.float64)
        normals = asset.accessor(primitive["attributes"]["NORMAL"]).astype(np.float64)
        corners = asset.accessor(primitive["indices"]).astype(int).reshape(-1, 3)
        points = positions[corners]
        area = np.cross(points[:, 1] - points[:, 0], points[:, 2] - points[:, 0])
        facing = np.einsum("ij,ij->i", area, normals[corners].mean(axis=1)) > 0
        size = np.linalg.norm(area, axis=1)
        assert size[facing].sum() > 0.98 * size.sum()


def test_skins_have_normalized_weights_and_existing_joints(asset):
    for node in asset["nodes"]:
        if "skin" not in node:
            continue
        skin = asset["skins"][node["skin"]]
        assert len(asset.accessor(skin["inverseBindMatrices"])) == len(skin["joints"])
        for primitive in asset["meshes"][node["mesh"]]["primitives"]:
            weights = asset.accessor(primitive["attributes"]["WEIGHTS_0"])
            joints = asset.accessor(primitive["attributes"]["JOINTS_0"])
            assert np.allclose(weights.sum(axis=1), 1.0, atol=1e-6)
            assert (weights >= 0).all()
            assert joints.max() < len(skin["joints"])
            assert (joints[weights == 0] == 0).all()


def test_nodes_form_trees(asset):
    children = [child for node in asset["nodes"] for child in node.get("children", ())]
    assert len(children) == len(set(children))
    roots = asset["scenes"][0]["nodes"]
    assert sorted(children + roots) == list(range(len(asset["nodes"])))
    reached, front = set(), list(roots)
    while front:
        reached.add(front[-1])
        front.extend(asset["nodes"][front.pop()].get("children", ()))
    assert len(reached) == len(asset["nodes"])


def test_animations_are_well_formed(asset):
    widths = {"translation": 3, "scale": 3, "rotation": 4}
    for animation in asset["animations"]:
        targets = [(c["target"]["node"], c["target"]["path"]) for c in animation["channels"]]
        assert len(targets) == len(set(targets))
        for channel, (node, path) in zip(animation["channels"], targets, strict=True):
            sampler = animation["samplers"][channel["sampler"]]
            times = asset.accessor(sampler["input"])
            assert {"min", "max"} <= asset["accessors"][sampler["input"]].keys()
            assert times[0, 0] >= 0
            assert all(a < b for a, b in pairwise(times[:, 0]))
            values = asset.accessor(sampler["output"])
            cubic = 3 if sampler["interpolation"] == "CUBICSPLINE" else 1
            if path == "weights":
                targets_count = len(asset["meshes"][asset["nodes"][node]["mesh"]]["primitives"][0]["targets"])
                assert values.size == len(times) * cubic * targets_count
                continue
            assert values.shape == (len(times) * cubic, widths[path])
            keys = values[1::3] if cubic == 3 else values
            if path == "rotation":
                assert np.allclose(np.linalg.norm(keys, axis=1), 1.0, atol=1e-5)
                assert all(a @ b >= 0 for a, b in pairwise(keys))


def test_images_decode_and_extensions_are_declared(asset):
    for image in asset["images"]:
        picture = Image.open(io.BytesIO(asset.view(image["bufferView"])))
        assert picture.format == "PNG"
        assert max(picture.size) <= 512
    used = set(asset.document.get("extensionsUsed", ()))
    assert used == _extensions(asset.document) | set(asset.document.get("extensionsRequired", ()))


def test_trimesh_loads_it(files):
    for name, data in files.items():
        scene = trimesh.load(io.BytesIO(data), file_type="glb")
        assert sum(len(geometry.faces) for geometry in scene.geometry.values()) > 500, name


def test_the_samples_together_cover_all_features(files):
    assets = {name: Asset(data) for name, data in files.items()}
    text = {name: json.dumps(asset.document) for name, asset in assets.items()}
    assert sum("skins" in asset.document for asset in assets.values()) >= 2
    assert any(len(asset["skins"][0]["joints"]) >= 10 for asset in assets.values() if asset["skins"])
    assert sum('"targets"' in document for document in text.values()) >= 2
    for extension in (
        "KHR_materials_transmission",
        "KHR_materials_volume",
        "KHR_materials_ior",
        "KHR_materials_emissive_strength",
        "KHR_texture_transform",
        "KHR_mesh_quantization",
    ):
        assert any(extension in asset.document.get("extensionsUsed", ()) for asset in assets.values()), extension
    for word in ('"BLEND"', '"MASK"', '"STEP"', '"LINEAR"', '"CUBICSPLINE"', '"sparse"', '"COLOR_0"', '"doubleSided"'):
        assert any(word in document for document in text.values()), word
    textured = [
        name
        for name, asset in assets.items()
        if any(
            "normalTexture" in material
            and {"baseColorTexture", "metallicRoughnessTexture"} <= material["pbrMetallicRoughness"].keys()
            for material in asset["materials"]
        )
    ]
    assert len(textured) >= 3
    assert any(len(asset["animations"]) >= 3 for asset in assets.values())


def test_shards_have_their_own_nodes_and_closed_surfaces(files):
    asset = Asset(files["shattering_vase"])
    assert len(asset["nodes"]) >= 20
    for mesh in asset["meshes"]:
        points = []
        for primitive in mesh["primitives"]:
            positions = asset.accessor(primitive["attributes"]["POSITION"])
            points.append(positions[asset.accessor(primitive["indices"]).astype(int).reshape(-1, 3)])
        weld_m = 2e-5
        corners = np.round(np.concatenate(points).reshape(-1, 3).astype(np.float64) / weld_m)
        vertices, numbers = np.unique(corners, axis=0, return_inverse=True)
        piece = trimesh.Trimesh(vertices * weld_m, numbers.reshape(-1, 3), process=False)
        assert piece.is_watertight
        assert piece.volume > 0


def test_emerging_parts_start_at_scale_zero_beside_something_visible(files):
    asset = Asset(files["sprout"])
    (animation,) = asset["animations"]
    growing = {
        channel["target"]["node"]
        for channel in animation["channels"]
        if channel["target"]["path"] == "scale"
        and (asset.accessor(animation["samplers"][channel["sampler"]]["output"])[1] == 0).all()
    }
    roots = set(asset["scenes"][0]["nodes"])
    assert growing & roots
    assert any("mesh" in asset["nodes"][root] for root in roots - growing)


def _extensions(value: Any) -> set[str]:
    """Return the names of all extensions in a nested value."""
    if isinstance(value, list):
        return set().union(*map(_extensions, value)) if value else set()
    if not isinstance(value, dict):
        return set()
    here = set(value.get("extensions", {}))
    return here.union(*map(_extensions, value.values())) if value else here

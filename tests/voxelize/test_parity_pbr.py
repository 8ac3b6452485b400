"""Attributes agree with the official converter."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open

from helix4d.assets import AlphaMode, Clip, Frame, Material, Texture, Topology
from helix4d.voxelize import OVoxel, voxelize_clip
from tests.conftest import NO_PARITY, PARITY, files

FIXTURES = files(PARITY / "ovoxel", "pbr_*.safetensors")
NAMES = ("base_color", "metallic", "roughness", "alpha")


@pytest.mark.parametrize("path", FIXTURES, ids=lambda path: path.stem)
def test_attributes(path: Path) -> None:
    clip, tensors = _load(path)
    for resolution in sorted(int(name.split("_")[1]) for name in tensors if name.startswith("coords_")):
        ours = voxelize_clip(clip, resolution)[0]
        expected = {name: tensors[f"{name}_{resolution}"] for name in ("coords", *NAMES)}
        order, common = _matched(ours, expected["coords"], resolution)
        assert len(ours) + len(expected["coords"]) - 2 * len(order) <= len(expected["coords"]) / 20000
        for name in NAMES:
            error = np.abs(getattr(ours, name)[order].astype(int) - expected[name][common].astype(int)).max(axis=1)
            within = float((error <= 2).mean())
            assert within >= 0.995, f"{name} at {resolution}: {within:.5f} within 2/255, worst {error.max()}"


@pytest.mark.skipif(bool(FIXTURES), reason="fixtures are present")
def test_fixtures_are_present() -> None:
    pytest.skip(NO_PARITY)


def _matched(ours: OVoxel, coords: np.ndarray, resolution: int) -> tuple[np.ndarray, np.ndarray]:
    def keys(values: np.ndarray) -> np.ndarray:
        x, y, z = values.astype(np.int64).T
        return (x * resolution + y) * resolution + z

    _, order, common = np.intersect1d(keys(ours.coords), keys(coords), return_indices=True)
    return order, common


def _load(path: Path) -> tuple[Clip, dict[str, np.ndarray]]:
    """A clip of one frame; single-channel textures are packed into glTF's two RGBA images per material."""
    with safe_open(str(path), "numpy") as reader:
        tensors = {name: reader.get_tensor(name) for name in reader.keys()}  # noqa: SIM118 (not a dict)
        described = json.loads(reader.metadata()["materials"])
    images: list[np.ndarray] = []
    materials = []
    for number, values in enumerate(described):
        color = _packed(tensors, number, {"base": [0, 1, 2], "alpha": [3]})
        surface = _packed(tensors, number, {"roughness": [1], "metallic": [2]})
        numbers: list[int | None] = []
        for image in (color, surface):
            numbers.append(None if image is None else len(images))
            if image is not None:
                images.append(image)
        materials.append(
            Material(
                base_color=tuple(values["base"]),
                alpha=values["alpha"],
                metallic=values["metallic"],
                roughness=values["roughness"],
                alpha_mode=AlphaMode(values["mode"]),
                alpha_cutoff=values["cutoff"],
                base_color_texture=None if numbers[0] is None else Texture(numbers[0]),
                metallic_roughness_texture=None if numbers[1] is None else Texture(numbers[1]),
            )
        )
    uvs = tensors["uvs"].copy()
    uvs[..., 1] = 1 - uvs[..., 1]
    topology = Topology(tensors["faces"], uvs[None], tensors["material_ids"])
    vertices = tensors["vertices"]
    frame = Frame(vertices, np.zeros_like(vertices), topology)
    return Clip("", 0, np.zeros(1), (frame,), tuple(materials), tuple(images)), tensors


def _packed(tensors: dict[str, np.ndarray], material: int, channels: dict[str, list[int]]) -> np.ndarray | None:
    present = {name: tensors.get(f"mat{material}.{name}") for name in channels}
    found = {name: texture for name, texture in present.items() if texture is not None}
    if not found:
        return None
    size = next(iter(found.values())).shape[:2]
    assert all(texture.shape[:2] == size for texture in found.values()), "textures of one image differ in size"
    image = np.full((*size, 4), 255, np.uint8)
    for name, texture in found.items():
        image[..., channels[name]] = texture.reshape(*size, -1)
    return image

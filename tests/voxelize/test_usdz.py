from __future__ import annotations

import time
import zipfile
from pathlib import Path

import numpy as np
import pytest

from helix4d.assets import AlphaMode, bake_clips
from helix4d.core import ConfigError
from helix4d.voxelize.mesh.baking import BakedMesh, bake_mesh
from helix4d.voxelize.mesh.usdz import clip_usdz
from tests.packages import skip_without
from tests.voxelize.meshes import painted_sphere, surface

skip_without("xatlas", "pxr")
RADII = (0.3, 0.4, 0.45)


@pytest.fixture(scope="module")
def meshes() -> list[BakedMesh | None]:
    """A sphere of three sizes, with an empty frame in between, half of it translucent."""
    made: list[BakedMesh | None] = []
    for radius in RADII:
        ovoxel = painted_sphere(radius=radius)
        ovoxel.alpha[ovoxel.coords[:, 0] < 16] = 100
        made.append(bake_mesh(*surface(ovoxel), ovoxel, 64))
    return [made[0], None, *made[1:]]


@pytest.mark.parametrize("mode", list(AlphaMode))
def test_our_reader_finds_each_frame_and_its_material(mode: AlphaMode, meshes, tmp_path: Path) -> None:
    path = tmp_path / "clip.usdz"
    path.write_bytes(clip_usdz(meshes, 8.0, mode))
    (clip,) = bake_clips(path, frames=5)
    assert clip.times[-1] == pytest.approx(4 / 8)
    for frame, mesh in zip(clip.frames, [*meshes, meshes[-1]], strict=True):
        if mesh is None:
            assert len(frame.faces) == 0
            continue
        seen = frame.vertices[frame.faces].mean(axis=1)
        assert np.sort(seen, axis=0) == pytest.approx(np.sort(mesh.vertices[mesh.faces].mean(axis=1), axis=0), abs=1e-5)
    assert {material.alpha_mode for material in clip.materials} == {mode}
    images = [image for image in clip.images if np.array_equal(image[..., :3], meshes[0].base_color[..., :3])]
    assert len(images) == 1
    uvs = np.sort(clip.frames[0].topology.uvs[0].mean(axis=1), axis=0)
    assert uvs == pytest.approx(np.sort(meshes[0].uvs[meshes[0].faces].mean(axis=1), axis=0), abs=1e-5)


def test_a_package_is_valid_and_reproducible(meshes, tmp_path: Path) -> None:
    from pxr import Usd, UsdValidation

    data = clip_usdz(meshes, 8.0, AlphaMode.BLEND)
    time.sleep(2.1)  # the resolution of dates in ZIP
    assert data == clip_usdz(meshes, 8.0, AlphaMode.BLEND)
    path = tmp_path / "clip.usdz"
    path.write_bytes(data)
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
    assert entries[0].filename == "clip.usdc"
    assert {entry.compress_type for entry in entries} == {zipfile.ZIP_STORED}
    stage = Usd.Stage.Open(str(path))
    validators = UsdValidation.ValidationRegistry().GetOrLoadAllValidators()
    assert len(validators) > 20
    assert [e.GetMessage() for e in UsdValidation.ValidationContext(validators).Validate(stage)] == []
    assert (stage.GetTimeCodesPerSecond(), stage.GetEndTimeCode()) == (8.0, 4.0)


def test_nothing_to_write_is_refused() -> None:
    with pytest.raises(ConfigError, match="expected a mesh and a positive rate"):
        clip_usdz([None], 8.0, AlphaMode.OPAQUE)

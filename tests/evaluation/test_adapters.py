"""Reading files of every layout as frames in our axes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from helix4d.assets import AlphaMode, Clip, Frame, Material, Texture, Topology, bake, normalize
from helix4d.assets.samples import SAMPLES
from helix4d.core import AssetError, ConfigError
from helix4d.evaluation import Surface, sample_surface
from helix4d.evaluation.methods.adapters import (
    PredictionError,
    fingerprint,
    join_stills,
    lost_textures,
    read_prediction,
)
from helix4d.evaluation.methods.methods import METHODS, axes_matrix, find_method, judged_frames
from tests.evaluation.predictions import write_glb, write_run_file, write_stills
from tests.evaluation.shapes import moved, tripod
from tests.packages import needs

ACTIONMESH = METHODS["actionmesh"]


def sliding(count: int) -> list[Surface]:
    return [moved(tripod(), (0.1 * frame, 0, 0)) for frame in range(count)]


def z_up(points: np.ndarray) -> np.ndarray:
    return np.stack([points[:, 0], -points[:, 2], points[:, 1]], axis=1)


def shown(frame: Frame) -> np.ndarray:
    """Corners (F, 3, 3) in canonical order."""
    corners = frame.triangles().reshape(len(frame.faces), 9)
    return corners[np.lexsort(corners.round(5).T)]


def expected(surface: Surface) -> np.ndarray:
    corners = z_up(surface.vertices)[surface.faces].reshape(len(surface.faces), 9)
    return corners[np.lexsort(corners.round(5).T)]


def test_stills_are_in_natural_order_and_the_first_are_used(tmp_path: Path) -> None:
    surfaces = sliding(12)
    write_stills(tmp_path, surfaces)  # mesh_10 sorts before mesh_2 by name
    clip = read_prediction(tmp_path, ACTIONMESH, 11)
    assert len(clip.frames) == 11
    for frame, surface in zip(clip.frames, surfaces, strict=False):
        np.testing.assert_allclose(shown(frame), expected(surface), atol=1e-6)
    assert all(frame.topology is clip.frames[0].topology for frame in clip.frames)


def test_axes_can_be_specified(tmp_path: Path) -> None:
    write_stills(tmp_path, sliding(1))
    clip = read_prediction(tmp_path, find_method("actionmesh", axes="x,y,z"), 1)
    np.testing.assert_allclose(np.sort(clip.frames[0].vertices, axis=0), np.sort(tripod().vertices, axis=0), atol=1e-6)
    turned = read_prediction(tmp_path, find_method("actionmesh", axes="-z,-x,y"), 1).frames[0].vertices
    np.testing.assert_allclose(turned[:, 0], -clip.frames[0].vertices[:, 2], atol=1e-6)
    np.testing.assert_allclose(turned[:, 2], clip.frames[0].vertices[:, 1], atol=1e-6)


@pytest.mark.parametrize("axes", ["x,y", "x,y,y", "x,z,y", "x,y,w", "", "-x,y,z"])
def test_invalid_and_mirrored_axes_are_rejected(axes: str) -> None:
    with pytest.raises(ConfigError, match="signed axes"):
        axes_matrix(axes)


def test_six_uniformly_spaced_frames(tmp_path: Path) -> None:
    mesh4d = METHODS["mesh4d"]
    assert judged_frames(mesh4d, 16) == [0, 3, 6, 9, 12, 15]
    surfaces = sliding(16)
    write_stills(tmp_path / "all", surfaces)
    write_stills(tmp_path / "six", [surfaces[number] for number in judged_frames(mesh4d, 16)])
    a, b = (read_prediction(tmp_path / name, mesh4d, 16) for name in ("all", "six"))
    assert len(a.frames) == len(b.frames) == 6
    for x, y in zip(a.frames, b.frames, strict=True):
        np.testing.assert_array_equal(x.vertices, y.vertices)
    write_stills(tmp_path / "seven", surfaces[:7])
    with pytest.raises(PredictionError, match="only 7 of 16 frames"):
        read_prediction(tmp_path / "seven", mesh4d, 16)


def test_one_animated_file_is_sampled(tmp_path: Path) -> None:
    (tmp_path / "output_animation.glb").write_bytes(SAMPLES["flag"]())
    clip = read_prediction(tmp_path, METHODS["motion-3-to-4"], 4)
    truth = bake(tmp_path / "output_animation.glb", frames=4)
    for frame, true in zip(clip.frames, truth.frames, strict=True):
        np.testing.assert_array_equal(frame.vertices, true.vertices)
    (tmp_path / "output_animation.fbx").write_bytes(b"x")
    with pytest.raises(PredictionError, match="expected one animation"):
        read_prediction(tmp_path, METHODS["motion-3-to-4"], 4)


def test_our_frames_without_surface_are_empty_and_missing_ones_an_error(tmp_path: Path) -> None:
    ours = METHODS["helix4d"]
    write_stills(tmp_path, sliding(3), "frame_0{}.glb")
    (tmp_path / "frame_01.glb").unlink()
    write_glb(tmp_path / "clip.glb", tripod())
    write_run_file(tmp_path, [36, 0, 36])
    clip = read_prediction(tmp_path, ours, 3)
    assert [len(frame.faces) for frame in clip.frames] == [36, 0, 36]
    write_run_file(tmp_path, [36, 36, 36])
    with pytest.raises(PredictionError, match=r"frame_01\.glb is missing"):
        read_prediction(tmp_path, ours, 3)


@needs("trimesh")
@pytest.mark.parametrize("suffix", ["ply", "obj"])
def test_other_mesh_formats(tmp_path: Path, suffix: str) -> None:
    import trimesh

    surface = tripod()
    trimesh.Trimesh(surface.vertices, surface.faces, process=False).export(tmp_path / f"a.{suffix}")
    clip = read_prediction(tmp_path, METHODS["ss4d"], 1)
    np.testing.assert_allclose(shown(clip.frames[0]), expected(surface), atol=1e-5)
    (tmp_path / f"a.{suffix}").write_bytes(b"ply\nnonsense")
    with pytest.raises(AssetError, match=f"a.{suffix}"):
        read_prediction(tmp_path, METHODS["ss4d"], 1)


def _replaced(path: Path) -> Path:
    path.unlink()
    return path


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder: (folder / "mesh_1.glb").write_bytes(b""), "mesh_1.glb"),
        (lambda folder: (folder / "mesh_1.glb").write_bytes(b"glTF junk"), "mesh_1.glb"),
        (lambda folder: (folder / "mesh_2.glb").unlink(), "only 2 of 3 frames"),
        (lambda folder: _replaced(folder / "mesh_2.glb").symlink_to("nowhere"), "only 2 of 3 frames"),
        (lambda folder: _replaced(folder / "mesh_2.glb").mkdir(), "only 2 of 3 frames"),
        (lambda folder: [path.unlink() for path in folder.glob("*")], "no mesh file in the item's folder matches"),
    ],
)
def test_missing_and_broken_files_are_reported(tmp_path: Path, spoil: object, message: str) -> None:
    write_stills(tmp_path, sliding(3))
    before = fingerprint(tmp_path, ACTIONMESH)
    spoil(tmp_path)  # type: ignore[operator]
    assert fingerprint(tmp_path, ACTIONMESH) != before
    with pytest.raises((AssetError, PredictionError), match=message):
        read_prediction(tmp_path, ACTIONMESH, 3)


@needs("trimesh")
def test_external_files_are_part_of_the_fingerprint(tmp_path: Path) -> None:
    import trimesh

    method = find_method("other", glob="*.gltf")
    for name, data in trimesh.exchange.gltf.export_gltf(trimesh.Scene(trimesh.creation.box())).items():
        (tmp_path / name).write_bytes(data)
    before = fingerprint(tmp_path, method)
    (buffer,) = (path for path in tmp_path.glob("*.bin") if path.stat().st_size == 8 * 3 * 4)  # the positions
    buffer.write_bytes((2 * np.frombuffer(buffer.read_bytes(), np.float32)).tobytes())
    assert np.abs(read_prediction(tmp_path, method, 1).frames[0].vertices).max() == 1
    assert fingerprint(tmp_path, method) != before


def test_another_mesh_next_to_the_frames_is_rejected(tmp_path: Path) -> None:
    write_stills(tmp_path, sliding(3), "frame_{}.glb")
    write_glb(tmp_path / "canonical.glb", tripod())
    with pytest.raises(PredictionError, match=r"canonical\.glb.*--glob"):
        read_prediction(tmp_path, METHODS["ss4d"], 3)
    clip = read_prediction(tmp_path, find_method("ss4d", glob="frame_*.glb"), 3)
    assert len(clip.frames) == 3
    (tmp_path / "canonical.glb").rename(tmp_path / "frame_all.glb")  # after the evaluated frames
    assert len(read_prediction(tmp_path, METHODS["ss4d"], 3).frames) == 3


@needs("trimesh")
def test_unread_textures_are_reported(tmp_path: Path) -> None:
    """Rendering white instead of the method's colors would misrepresent it."""
    import trimesh

    (tmp_path / "a.obj").write_text("v 0 0 0\nv 1 0 0\nv 0 1 0\nvt 0 0\nvt 1 0\nvt 0 1\nusemtl m\nf 1/1 2/2 3/3\n")
    assert "textures of .obj files" in (lost_textures(read_prediction(tmp_path, METHODS["ss4d"], 1)) or "")
    (tmp_path / "a.obj").write_text("v 0 0 0 1 0 0\nv 1 0 0 0 1 0\nv 0 1 0 0 0 1\nf 1 2 3\n")
    assert lost_textures(read_prediction(tmp_path, METHODS["ss4d"], 1)) is None
    (tmp_path / "a.obj").unlink()
    box = trimesh.creation.box()
    red = trimesh.visual.material.PBRMaterial(baseColorTexture=Image.new("RGB", (4, 4), "red"))
    box.visual = trimesh.visual.TextureVisuals(np.zeros((8, 2)), material=red)
    for name, data in trimesh.exchange.gltf.export_gltf(trimesh.Scene(box)).items():
        (tmp_path / name).write_bytes(data)
    document = json.loads((tmp_path / "model.gltf").read_text())
    document["images"] = [{"uri": "red.png"}]
    (tmp_path / "model.gltf").write_text(json.dumps(document))
    Image.new("RGB", (4, 4), "red").save(tmp_path / "red.png")
    assert lost_textures(read_prediction(tmp_path, METHODS["ss4d"], 1)) is None
    (tmp_path / "red.png").unlink()
    assert "missing ('red.png')" in (lost_textures(read_prediction(tmp_path, METHODS["ss4d"], 1)) or "")


def test_empty_frames_in_run_json_are_part_of_the_fingerprint(tmp_path: Path) -> None:
    write_stills(tmp_path, sliding(2), "frame_0{}.glb")
    prints = {fingerprint(tmp_path, METHODS["helix4d"])}
    for faces in ([36, 36], [36, 0]):
        write_run_file(tmp_path, faces)
        prints.add(fingerprint(tmp_path, METHODS["helix4d"]))
    assert len(prints) == 3


def test_materials_and_images_of_stills_are_kept_separate() -> None:
    def still(shade: int, faces: int = 1) -> Clip:
        topology = Topology(
            np.tile(np.array([[0, 1, 2]], np.int32), (faces, 1)),
            np.zeros((1, faces, 3, 2), np.float32),
            np.zeros(faces, np.int32),
        )
        frame = Frame(np.eye(3, dtype=np.float32), np.eye(3, dtype=np.float32), topology)
        image = np.full((2, 2, 4), shade, np.uint8)
        material = Material(base_color_texture=Texture(0), alpha_mode=AlphaMode.BLEND)
        return Clip("", -1, np.zeros(1), (frame,), (material,), (image,))

    clip = join_stills([still(1), still(1), None, still(2), still(2, faces=2)])
    shades = []
    for frame in clip.frames:
        for material in frame.topology.material_ids[:1]:
            texture = clip.materials[material].base_color_texture
            assert texture is not None
            shades.append(int(clip.images[texture.image][0, 0, 0]))
    assert shades == [1, 1, 2, 2]
    assert clip.frames[0].topology is clip.frames[1].topology
    assert clip.frames[3].topology is not clip.frames[1].topology
    assert len(clip.images) == 3
    with pytest.raises(AssetError, match="no frame has a surface"):
        join_stills([None, None])


@needs("trimesh")
def test_points_equal_those_of_the_official_reader_and_sampler(tmp_path: Path) -> None:
    import trimesh

    path = tmp_path / "asset.glb"
    path.write_bytes(SAMPLES["ladybug"]())
    frame = normalize(bake(path, frames=1))[0].frames[0]
    write_stills(tmp_path / "out", [Surface(frame.vertices, frame.faces)])
    official = trimesh.load(tmp_path / "out" / "mesh_0.glb", force="mesh")
    points, _ = trimesh.sample.sample_surface(official, 5000, seed=44)
    (ours,) = read_prediction(tmp_path / "out", ACTIONMESH, 1).frames
    found = sample_surface(Surface(ours.vertices, ours.faces), 5000, 44).numpy()
    np.testing.assert_allclose(found, z_up(points), atol=1e-6)


def test_unknown_methods_need_a_glob() -> None:
    with pytest.raises(ConfigError, match="--glob"):
        find_method("new")
    assert find_method("new", glob="*.glb").label == "new"
    with pytest.raises(ConfigError, match="must not point outside"):
        find_method("new", glob="../*.glb")

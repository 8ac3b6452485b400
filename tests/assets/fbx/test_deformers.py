"""Blend shapes and skins of FBX files, written by hand, against independent arithmetic; and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from helix4d.assets import Clip, bake
from helix4d.core import AssetError, ReasonCode
from tests.assets.fbx.ascii import TRIANGLES, AsciiFbx
from tests.assets.fbx.test_transforms import METERS, POINTS, affine, assert_shows, placed, turn

pytest.importorskip("ufbx", reason="ufbx is not installed (extra 'curate')")

OFFSETS = np.array([[0, 0, 1], [0, 0, 0], [2, 0, 0], [0, -1, 0]], np.float64)


def morphed(path: Path, full_weights: list[float], targets: list[np.ndarray], frames: int) -> Clip:
    """Bake a channel whose percentage goes from 0 to 100 in a second."""
    file = AsciiFbx()
    mesh = file.mesh(file.node("part"))
    channel = file.channel(mesh, full_weights)
    for target in targets:
        file.shape(channel, range(4), target.tolist())
    layer = file.take("morph", 0, 1)
    file.animate(layer, channel, "DeformPercent", {"DeformPercent": [(0, 0), (1, 100)]})
    return bake(file.write(path), frames)


def test_a_blend_shape_is_added_by_its_percentage(tmp_path: Path) -> None:
    clip = morphed(tmp_path / "a.fbx", [100.0], [OFFSETS], 5)
    for frame in range(5):
        assert_shows(clip, frame, placed(np.eye(4), POINTS + frame / 4 * OFFSETS))
        corners = clip.frames[frame].triangles()
        flat = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        flat /= np.linalg.norm(flat, axis=1, keepdims=True)
        normals = clip.frames[frame].normals[clip.frames[frame].faces].mean(axis=1)
        assert (np.einsum("fi,fi->f", flat, normals) > 0.99).all()  # facets stay facets, turned by the shape


def test_in_between_shapes_have_weights_of_their_own(tmp_path: Path) -> None:
    """Between 0 and 25 % the first target fades in; from there to 100 % it turns into the second."""
    second = OFFSETS[::-1].copy()
    clip = morphed(tmp_path / "a.fbx", [25.0, 100.0], [OFFSETS, second], 9)
    for frame in range(9):
        at = frame / 8
        weights = (at / 0.25, 0.0) if at <= 0.25 else ((1 - at) / 0.75, (at - 0.25) / 0.75)
        assert_shows(clip, frame, placed(np.eye(4), POINTS + weights[0] * OFFSETS + weights[1] * second))


def skinned(path: Path, method: str, scale: float = 1.0, weights: tuple[float, ...] = (1.0, 0.5, 0.25, 0.0)) -> Clip:
    """Bake a mesh on two bones; the second is at (0, 2, 0) and turns by 90° about y while it moves up by 1."""
    file = AsciiFbx()
    node = file.node("part")
    mesh = file.mesh(node)
    still = file.node("still", sub="LimbNode")
    bone = file.node("bone", sub="LimbNode", Lcl_Translation=(0.0, 2.0, 0.0), Lcl_Scaling=(scale, scale, scale))
    skin = file.skin(mesh, method)
    first = {n: 1.0 - w for n, w in enumerate(weights) if w < 1.0}
    file.cluster(skin, still, first, [1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1])
    file.cluster(
        skin, bone, {n: w for n, w in enumerate(weights) if w}, [1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 2, 0, 1]
    )
    layer = file.take("turn", 0, 1)
    file.animate(layer, bone, "Lcl Rotation", {"X": [(0, 0)], "Y": [(0, 0), (1, 90)], "Z": [(0, 0)]})
    file.animate(layer, bone, "Lcl Translation", {"X": [(0, 0)], "Y": [(0, 2), (1, 3)], "Z": [(0, 0)]})
    return bake(file.write(path), 3)


def bone_matrix(frame: int, scale: float) -> np.ndarray:
    linear = turn(1, 45.0 * frame) * scale
    return affine(linear, (0, 2 + frame / 2, 0)) @ affine(shift=(0, -2, 0))


@pytest.mark.parametrize("scale", [1.0, 1.5])
def test_linear_skins(tmp_path: Path, scale: float) -> None:
    clip = skinned(tmp_path / "a.fbx", "Linear", scale)
    for frame in range(3):
        expected = []
        for point, weight in zip(POINTS, (1.0, 0.5, 0.25, 0.0), strict=True):
            matrix = weight * bone_matrix(frame, scale) + (1 - weight) * np.eye(4)
            expected.append((matrix @ [*point, 1])[:3])
        assert_shows(clip, frame, placed(np.eye(4), np.array(expected)))


def test_dual_quaternions_keep_the_distance_from_the_axis(tmp_path: Path) -> None:
    """A vertex with half the weight turns by half the angle on a screw; linear skinning would pull it inward."""
    clip = skinned(tmp_path / "a.fbx", "DualQuaternion")
    for frame in range(3):
        expected = []
        for point, weight in zip(POINTS, (1.0, 0.5, 0.25, 0.0), strict=True):
            angle, rise = 45.0 * frame, frame / 2
            # Unit dual quaternions of screws about one axis: cos, sin and the pitch are blended, then normalized.
            half = np.radians(angle) / 2
            real = np.array([(1 - weight) + weight * np.cos(half), weight * np.sin(half)])
            length = np.linalg.norm(real)
            turned = 2 * np.degrees(np.arctan2(real[1], real[0]))
            dual = np.array([-weight * rise / 2 * np.sin(half), weight * rise / 2 * np.cos(half)]) / length
            real /= length
            lifted = 2 * (dual[1] * real[0] - dual[0] * real[1])
            expected.append(turn(1, turned) @ point + [0, lifted, 0])
        assert_shows(clip, frame, placed(np.eye(4), np.array(expected)))


def test_vertices_without_weights_stay_with_their_node(tmp_path: Path) -> None:
    file = AsciiFbx()
    node = file.node("part", Lcl_Translation=(0.0, 0.0, 5.0))
    mesh = file.mesh(node)
    bone = file.node("bone", sub="LimbNode")
    skin = file.skin(mesh)
    file.cluster(skin, bone, {0: 0.25, 1: 2.0}, [1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1])
    layer = file.take("move", 0, 1)
    file.animate(layer, bone, "Lcl Translation", {"X": [(0, 0), (1, 4)]})
    clip = bake(file.write(tmp_path / "a.fbx"), 2)
    for frame in range(2):
        expected = POINTS.copy()
        expected[:2] += [4.0 * frame, 0, 0]  # weights that do not add up to 1 count by their shares
        expected[2:] += [0, 0, 5]
        assert_shows(clip, frame, placed(np.eye(4), expected))


def test_polygons_are_cut_where_they_are_concave(tmp_path: Path) -> None:
    file = AsciiFbx()
    node = file.node("part")
    arrow = [(0, 0, 0), (3, 0, 0), (3, 3, 0), (1.5, 0.7, 0), (0, 3, 0)]
    file.mesh(node, arrow, [(0, 1, 2, 3, 4)])
    layer = file.take("move", 0, 1)
    file.animate(layer, node, "Lcl Translation", {"Z": [(0, 0), (1, 4)]})
    clip = bake(file.write(tmp_path / "a.fbx"), 2)
    corners = clip.frames[0].triangles() / METERS
    doubled = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    assert (doubled[:, 1] < 0).all()  # Z of the file is −Y of the clip
    x, y = np.array(arrow)[:, 0], np.array(arrow)[:, 1]
    assert -doubled[:, 1].sum() / 2 == pytest.approx((x * np.roll(y, -1) - y * np.roll(x, -1)).sum() / 2, rel=1e-5)


def refused(file: AsciiFbx, path: Path) -> AssetError:
    with pytest.raises(AssetError) as caught:
        bake(file.write(path), 2)
    return caught.value


def test_a_face_with_a_vertex_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    file = AsciiFbx()
    node = file.node("part")
    file.mesh(node, TRIANGLES[0], [(0, 1, 7)])
    layer = file.take("move", 0, 1)
    file.animate(layer, node, "Lcl Translation", {"X": [(0, 0), (1, 4)]})
    assert refused(file, tmp_path / "a.fbx").code is ReasonCode.CORRUPT_FILE


def test_a_geometry_cache_is_refused(tmp_path: Path) -> None:
    file = AsciiFbx()
    node = file.node("part")
    mesh = file.mesh(node)
    cache = file.element("Cache", "cache", "VertexCache", '\t\tVersion: 100\n\t\tCacheAbsoluteFileName: "/etc/a.pc2"')
    deformer = file.element("Deformer", "cache", "VertexCacheDeformer", "\t\tVersion: 100")
    file.connect(deformer, mesh)
    file.connect(cache, deformer)
    error = refused(file, tmp_path / "a.fbx")
    assert error.code is ReasonCode.UNSUPPORTED_EXTENSION
    assert "geometry cache" in str(error)


def test_files_without_a_mesh_or_an_animation(tmp_path: Path) -> None:
    file = AsciiFbx()
    node = file.node("empty", sub="Null")
    layer = file.take("move", 0, 1)
    file.animate(layer, node, "Lcl Translation", {"X": [(0, 0), (1, 4)]})
    assert refused(file, tmp_path / "a.fbx").code is ReasonCode.NO_MESH
    still = AsciiFbx()
    still.mesh(still.node("part"))
    still.take("empty", 0, 1)
    assert refused(still, tmp_path / "b.fbx").code is ReasonCode.NO_ANIMATION


def test_constraints_and_coarser_levels_of_detail_are_reported(tmp_path: Path) -> None:
    file = AsciiFbx()
    group = file.node("group", sub="LodGroup")
    attribute = file.element("NodeAttribute", "", "LodGroup", '\t\tTypeFlags: "LodGroup"')
    file.connect(attribute, group)
    for number in range(2):
        file.mesh(file.node(f"level {number}", group, Lcl_Translation=(0.0, 10.0 * number, 0.0)))
    constraint = file.element("Constraint", "aim", "Aim", '\t\tType: "Aim"\n\t\tMultiLayer: 0')
    file.connect(constraint, 0)
    layer = file.take("move", 0, 1)
    file.animate(layer, group, "Lcl Translation", {"X": [(0, 0), (1, 4)]})
    clip = bake(file.write(tmp_path / "a.fbx"), 2)
    assert_shows(clip, 0, placed(np.eye(4)))
    assert any("level 1: is a coarser level of detail" in text for text in clip.warnings)
    assert any("constraints are not evaluated" in text for text in clip.warnings)

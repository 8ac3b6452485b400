"""The glTF evaluator against closed forms, Z up."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import meshoptimizer
import numpy as np
import pytest

from helix4d.assets import bake, list_clips
from helix4d.assets.gltf import GltfAsset
from helix4d.assets.gltf.animation import hermite, slerp
from helix4d.assets.gltf.compression import decode_color_filter, decode_meshopt
from helix4d.assets.gltf.geometry import triangulate
from helix4d.assets.gltf.parse.model import Meshopt
from helix4d.assets.gltf.scene import cofactor, compose, determinants
from helix4d.assets.gltf.writer import GlbBuilder, Mesh, Part, Track
from helix4d.assets.limits import DEFAULT_LIMITS
from helix4d.assets.surface import motion_of_times
from helix4d.assets.triangles import areas, face_areas
from helix4d.core import AssetError, ReasonCode
from helix4d.core.processes import child_environment
from tests.assets.glb import TETRAHEDRON, TETRAHEDRON_FACES, Builder, moving_tetrahedron, tetrahedron


def _volume(triangles: np.ndarray) -> float:
    """Signed volume, positive if the triangles face outward."""
    corners = triangles.astype(np.float64)
    return float(np.einsum("fi,fi->", corners[:, 0], np.cross(corners[:, 1], corners[:, 2])) / 6)


def _z_up(points: np.ndarray) -> np.ndarray:
    return np.stack([points[:, 0], -points[:, 2], points[:, 1]], axis=1)


def test_translation_is_linear_and_axes_are_converted_to_z_up(tmp_path: Path) -> None:
    clip = bake(moving_tetrahedron().write(tmp_path), frames=5)
    np.testing.assert_allclose(clip.times, [0, 0.25, 0.5, 0.75, 1])
    for time, frame in zip(clip.times, clip.frames, strict=True):
        np.testing.assert_allclose(frame.vertices, _z_up(TETRAHEDRON + [2 * time, 0, 0]), atol=1e-6)
        assert _volume(frame.triangles()) > 0
        np.testing.assert_allclose(np.linalg.norm(frame.normals, axis=1), 1, atol=1e-6)
    assert all(frame.topology is clip.frames[0].topology for frame in clip.frames)


def test_step_and_cubic_interpolation_and_times_outside_the_keys(tmp_path: Path) -> None:
    builder = tetrahedron()
    builder.channel(0, "translation", [0, 1, 2], [[0, 0, 0], [1, 0, 0], [2, 0, 0]], "STEP")
    values = [[0, 0, 0], [0, 0, 0], [6, 0, 0], [-3, 0, 0], [1, 0, 0], [0, 0, 0]]
    builder.channel(0, "translation", [0.5, 1.5], values, "CUBICSPLINE", animation=1)
    builder.channel(0, "scale", [0, 2], [[1, 1, 1], [1, 1, 1]], animation=1)
    path = builder.write(tmp_path)
    assert [frame.vertices[0, 0] for frame in bake(path, 5, 0).frames] == [0, 0, 1, 1, 2]
    found = [float(frame.vertices[0, 0]) for frame in bake(path, 9, 1).frames]
    middle = float(hermite(np.array(0.0), np.array(6.0), np.array(1.0), np.array(-3.0), 0.5, 1.0))
    assert middle == pytest.approx(0.5 + 6 / 8 + 3 / 8)
    assert found[:3] == [0, 0, 0]
    assert found[4] == pytest.approx(middle)
    assert found[6:] == [1, 1, 1]


def test_slerp_takes_the_shorter_arc_at_constant_speed() -> None:
    start, end = np.array([0.0, 0, 0, 1]), np.array([0.0, 0, np.sin(0.5), np.cos(0.5)])
    for share in (0.0, 0.3, 1.0):
        wanted = [0, 0, np.sin(0.5 * share), np.cos(0.5 * share)]
        np.testing.assert_allclose(slerp(start, end, share), wanted, atol=1e-12)
        np.testing.assert_allclose(np.abs(slerp(start, -end, share)), wanted, atol=1e-12)


def test_normalized_integer_rotations(tmp_path: Path) -> None:
    builder = tetrahedron()
    turn = builder.accessor([[0, 0, 0, 32767], [0, 23170, 0, 23170]], "i2", normalized=True)
    builder.channel(0, "rotation", [0, 1], turn)
    clip = bake(builder.write(tmp_path), 2)
    # 90 degrees about glTF's y: x goes to -z.
    np.testing.assert_allclose(clip.frames[1].vertices, _z_up(TETRAHEDRON @ compose_y90().T), atol=1e-5)


def compose_y90() -> np.ndarray:
    return compose(np.zeros((1, 3)), np.array([[0, np.sqrt(0.5), 0, np.sqrt(0.5)]]), np.ones((1, 3)))[0, :3, :3]


def test_a_mirroring_node_flips_triangles(tmp_path: Path) -> None:
    for normals in (True, False):
        builder = tetrahedron(normals)
        builder.gltf["nodes"][0]["scale"] = [-1, 2, 1]
        builder.channel(0, "translation", [0, 1], [[0, 0, 0], [2, 0, 0]])
        frame = bake(builder.write(tmp_path), 2).frames[0]
        assert _volume(frame.triangles()) == pytest.approx(2 / 6)
        outwards = frame.triangles().mean(axis=1) - frame.triangles().mean(axis=(0, 1))
        assert ((frame.normals[frame.faces] * outwards[:, None]).sum(axis=-1) > 0).all()


def test_an_animation_that_mirrors_midway_gets_two_topologies(tmp_path: Path) -> None:
    builder = tetrahedron()
    builder.channel(0, "scale", [0, 1], [[1, 1, 1], [-1, 1, 1]], "STEP")
    frames = bake(builder.write(tmp_path), 2).frames
    assert frames[0].topology is not frames[1].topology
    assert _volume(frames[1].triangles()) == pytest.approx(1 / 6)


def _skinned(joint_scale: float = 1.0) -> Builder:
    builder = tetrahedron()
    builder.primitive["attributes"]["JOINTS_0"] = builder.accessor([[0, 1, 9, 0]] * 4, "u1")
    builder.primitive["attributes"]["WEIGHTS_0"] = builder.accessor([[1, 0, 0, 0]] * 3 + [[0.4, 0.4, 0, 0]])
    inverse = np.tile(np.eye(4), (2, 1, 1))
    inverse[:, 3, 0] = -1  # column-major: translation by -1 along x
    builder.gltf["skins"] = [{"joints": [1, 2], "inverseBindMatrices": builder.accessor(inverse.reshape(2, 16))}]
    builder.gltf["nodes"] = [
        {"mesh": 0, "skin": 0, "translation": [100, 0, 0]},
        {"scale": [joint_scale] * 3, "children": [2]},
        {},
    ]
    builder.gltf["scenes"][0]["nodes"] = [0, 1]
    builder.channel(2, "translation", [0, 1], [[0, 0, 0], [0, 0, 4]])
    return builder


def test_skins_ignore_their_node_and_honor_joint_scale_with_normalized_weights(tmp_path: Path) -> None:
    frames = bake(_skinned(joint_scale=2).write(tmp_path), 2).frames
    rest = (TETRAHEDRON - [1, 0, 0]) * 2
    np.testing.assert_allclose(frames[0].vertices, _z_up(rest), atol=1e-6)
    moved = rest.copy()
    moved[3] += [0, 0, 4]  # half of 4, in a joint scaled by 2
    np.testing.assert_allclose(frames[1].vertices, _z_up(moved), atol=1e-6)


def _on_one_joint(weights: np.ndarray, joints: np.ndarray) -> Builder:
    """The tetrahedron, skinned to one moving joint."""
    builder = tetrahedron()
    builder.primitive["attributes"] |= {
        "JOINTS_0": builder.accessor(joints, "u1"),
        "WEIGHTS_0": builder.accessor(weights),
    }
    builder.gltf["nodes"] = [{"mesh": 0, "skin": 0}, {}]
    builder.gltf["scenes"] = [{"nodes": [0, 1]}]
    builder.gltf["skins"] = [{"joints": [1]}]
    builder.channel(1, "translation", [0, 1], [[0, 0, 0], [0, 1, 0]])
    return builder


def test_invalid_joints_of_zero_weight_are_ignored_even_beside_a_vertex_without_weights(tmp_path: Path) -> None:
    weights, joints = np.tile([1.0, 0, 0, 0], (4, 1)), np.tile([0, 200, 0, 0], (4, 1))
    weights[2] = 0.0
    clip = bake(_on_one_joint(weights, joints).write(tmp_path), 2)
    np.testing.assert_allclose(clip.frames[1].vertices, _z_up(TETRAHEDRON + [0, 1, 0]), atol=1e-6)


def test_only_visible_geometry_can_lose_precision(tmp_path: Path) -> None:
    far = 1e6  # float32 steps are 1/16 there
    hidden = moving_tetrahedron()
    hidden.gltf["meshes"].append({"primitives": [{"attributes": {"POSITION": hidden.accessor(far * TETRAHEDRON[:3])}}]})
    hidden.gltf["nodes"].append({"mesh": 1, "extensions": {"KHR_node_visibility": {"visible": False}}})
    hidden.gltf["scenes"] = [{"nodes": [0, 1]}]
    assert len(bake(hidden.write(tmp_path), 2).frames[0].faces) == 4

    def with_a_far_joint(followed: int) -> Path:
        builder = _on_one_joint(np.tile([1.0, 0, 0, 0], (4, 1)), np.tile([followed, 0, 0, 0], (4, 1)))
        matrices = np.tile(np.eye(4), (2, 1, 1))
        matrices[1, 3, :3] = far
        builder.gltf["nodes"].append({"translation": [-far] * 3})
        builder.gltf["skins"] = [{"joints": [1, 2], "inverseBindMatrices": builder.accessor(matrices.reshape(2, 16))}]
        builder.channel(2, "scale", [0, 1], [[1, 1, 1], [1, 1, 1]])
        return builder.write(tmp_path)

    assert len(bake(with_a_far_joint(0), 2).frames[0].faces) == 4
    with pytest.raises(AssetError) as caught:
        bake(with_a_far_joint(1), 2)
    assert caught.value.code is ReasonCode.PRECISION_LOSS


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_non_finite_weights_are_refused(tmp_path: Path, value: float) -> None:
    weights = np.tile([1.0, 0, 0, 0], (4, 1))
    weights[2, 1] = value
    with pytest.raises(AssetError) as caught:
        bake(_on_one_joint(weights, np.zeros((4, 4))).write(tmp_path), 2)
    assert caught.value.code is ReasonCode.NON_FINITE_GEOMETRY


def test_unused_vertices_may_be_non_finite(tmp_path: Path) -> None:
    builder = moving_tetrahedron()
    stray = np.full((1, 3), np.nan)
    attributes = builder.primitive["attributes"]
    normals = np.tile([0.0, 1.0, 0.0], (4, 1))
    attributes["POSITION"] = builder.accessor(np.concatenate([TETRAHEDRON, stray]))
    attributes["NORMAL"] = builder.accessor(np.concatenate([normals, stray]))
    builder.primitive["targets"] = [{"POSITION": builder.accessor(np.concatenate([np.zeros((4, 3)), stray]))}]
    builder.gltf["meshes"][0]["weights"] = [1.0]
    clip = bake(builder.write(tmp_path), 2)
    assert not clip.warnings
    np.testing.assert_allclose(clip.frames[0].vertices[:4], _z_up(TETRAHEDRON), atol=1e-6)
    np.testing.assert_allclose(clip.frames[0].normals[:4], _z_up(normals), atol=1e-6)
    assert np.isfinite(clip.frames[0].vertices).all()


def test_a_joint_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    builder = _skinned()
    builder.primitive["attributes"]["JOINTS_0"] = builder.accessor([[2, 0, 0, 0]] * 4, "u1")
    with pytest.raises(AssetError, match="joint 2 of a vertex is out of range") as caught:
        bake(builder.write(tmp_path))
    assert caught.value.code is ReasonCode.INVALID_ACCESSOR


def test_morph_weights_of_mesh_node_and_animation(tmp_path: Path) -> None:
    builder = tetrahedron()
    up = builder.accessor(np.tile([0, 1.0, 0], (4, 1)))
    far = builder.accessor(np.tile([1.0, 0, 0], (4, 1)))
    builder.primitive["targets"] = [{"POSITION": up}, {"POSITION": far}]
    builder.gltf["meshes"][0]["weights"] = [1, 0]
    builder.gltf["nodes"] = [{"mesh": 0}, {"mesh": 0, "weights": [0, 3]}, {"mesh": 0}]
    builder.gltf["scenes"][0]["nodes"] = [0, 1, 2]
    builder.channel(2, "weights", [0, 1], [[0], [0], [2], [4]])
    frames = bake(builder.write(tmp_path), 2).frames
    first = [TETRAHEDRON + [0, 1, 0], TETRAHEDRON + [3, 0, 0]]
    np.testing.assert_allclose(frames[0].vertices, _z_up(np.concatenate([*first, TETRAHEDRON])), atol=1e-6)
    last = np.concatenate([*first, TETRAHEDRON + [4, 2, 0]])
    np.testing.assert_allclose(frames[1].vertices, _z_up(last), atol=1e-6)


def test_morphed_bytes_do_not_depend_on_the_threads_of_blas() -> None:
    program = (
        "import hashlib, numpy as np\n"
        "from helix4d.assets.gltf.scene import morph_values\n"
        "for targets, count in ((8, 29_131), (52, 29_131), (2, 100_003)):\n"
        "    deltas = np.random.default_rng(0).random((targets, count, 3))\n"
        "    values = morph_values(np.zeros((count, 3)), deltas, np.linspace(0.1, 0.9, targets))\n"
        "    print(hashlib.sha256(values.tobytes()).hexdigest())\n"
    )
    one, two = (
        subprocess.check_output(
            [sys.executable, "-c", program], env=child_environment(OPENBLAS_NUM_THREADS=threads), timeout=100
        )
        for threads in ("1", "2")
    )
    assert one == two
    assert len(one.split()) == 3


def test_sparse_and_quantized_positions(tmp_path: Path) -> None:
    builder = moving_tetrahedron()
    quantized = builder.accessor(np.round(TETRAHEDRON * 100), "i2", normalized=False)
    builder.gltf["accessors"][quantized]["sparse"] = {
        "count": 1,
        "indices": {"bufferView": builder.view(np.uint8([3]).tobytes()), "componentType": 5121},
        "values": {"bufferView": builder.view(np.int16([0, 0, 250]).tobytes())},
    }
    builder.primitive["attributes"]["POSITION"] = quantized
    wanted = TETRAHEDRON * 100
    wanted[3, 2] = 250
    np.testing.assert_allclose(bake(builder.write(tmp_path)).frames[0].vertices, _z_up(wanted), atol=1e-4)


def test_strips_fans_and_leftovers() -> None:
    numbers = np.arange(5)
    assert triangulate(numbers, 4).tolist() == [[0, 1, 2]]
    assert triangulate(numbers, 5).tolist() == [[0, 1, 2], [1, 3, 2], [2, 3, 4]]
    assert triangulate(numbers, 6).tolist() == [[1, 2, 0], [2, 3, 0], [3, 4, 0]]
    assert triangulate(numbers[:2], 5).shape == (0, 3)


def test_instances_hierarchy_and_matrices(tmp_path: Path) -> None:
    builder = tetrahedron()
    matrix = np.eye(4)
    matrix[:3, 3] = [0, 5, 0]
    builder.gltf["nodes"] = [
        {"children": [1], "scale": [2, 2, 2]},
        {"children": [2], "matrix": matrix.T.reshape(-1).tolist()},
        {
            "mesh": 0,
            "extensions": {
                "EXT_mesh_gpu_instancing": {"attributes": {"TRANSLATION": builder.accessor([[0, 0, 0], [7, 0, 0]])}}
            },
        },
    ]
    builder.channel(0, "translation", [0, 1], [[0, 0, 0], [1, 0, 0]])
    frame = bake(builder.write(tmp_path), 2).frames[1]
    one = (TETRAHEDRON + [0, 5, 0]) * 2 + [1, 0, 0]
    two = (TETRAHEDRON + [7, 5, 0]) * 2 + [1, 0, 0]
    np.testing.assert_allclose(frame.vertices, _z_up(np.concatenate([one, two])), atol=1e-5)


def test_a_chain_of_many_nodes_needs_no_recursion(tmp_path: Path) -> None:
    builder = tetrahedron()
    depth = 3000
    builder.gltf["nodes"] = [{"children": [n + 1], "translation": [1, 0, 0]} for n in range(depth)] + [{"mesh": 0}]
    builder.channel(0, "translation", [0, 1], [[1, 0, 0], [3, 0, 0]])
    assert bake(builder.write(tmp_path), 1).frames[0].vertices[0, 0] == depth


def test_animation_pointers_and_visibility(tmp_path: Path) -> None:
    builder = tetrahedron()
    builder.gltf["nodes"] = [{"mesh": 0}, {"mesh": 0, "translation": [5, 0, 0]}]
    builder.gltf["scenes"][0]["nodes"] = [0, 1]
    builder.channel(0, "pointer", [0, 1], [[0, 0, 0], [2, 0, 0]])
    builder.channel(0, "pointer", [0, 0.6], builder.accessor([1, 0], "u1"), "STEP")
    builder.channel(0, "pointer", [0, 2], [[0], [1]])
    pointers = [
        "/nodes/0/translation",
        "/nodes/1/extensions/KHR_node_visibility/visible",
        "/materials/0/pbrMetallicRoughness/metallicFactor",
    ]
    for channel, pointer in zip(builder.gltf["animations"][0]["channels"], pointers, strict=True):
        channel["target"] = {"path": "pointer", "extensions": {"KHR_animation_pointer": {"pointer": pointer}}}
    clip = bake(builder.write(tmp_path), 3)
    assert [len(frame.faces) for frame in clip.frames] == [8, 8, 4]
    assert clip.times[-1] == 1  # ignored channels do not extend the time range
    np.testing.assert_allclose(clip.frames[1].vertices[0], [1, 0, 0])
    assert "metallicFactor" in clip.warnings[0]


def test_normals_of_length_zero_are_replaced_by_triangle_normals(tmp_path: Path) -> None:
    builder = moving_tetrahedron()
    normals = np.tile([0.0, 0.0, 2.0], (4, 1))
    normals[[0, 3]] = 0.0
    builder.primitive["attributes"]["NORMAL"] = builder.accessor(normals)
    builder.gltf["nodes"][0]["scale"] = [1.0, -1.0, 1.0]
    clip = bake(builder.write(tmp_path), 2)
    corner, tip = np.array([-1.0, -1.0, -1.0]), np.array([0.0, 0.0, 1.0])  # three triangles of equal area around each
    mirror = [1, -1, 1]
    expected = [corner / np.sqrt(3) * mirror, tip, tip, tip * mirror]
    np.testing.assert_allclose(clip.frames[0].normals, _z_up(np.array(expected)), atol=1e-6)
    assert len(clip.frames[0].vertices) == 4
    assert "2 of 4 normals have length 0" in clip.warnings[0]


def test_a_primitive_without_normals_gets_flat_normals(tmp_path: Path) -> None:
    builder = tetrahedron(normals=False)
    builder.channel(0, "rotation", [0, 1], [[0, 0, 0, 1], [0, 1, 0, 0]])
    for frame in bake(builder.write(tmp_path), 3).frames:
        corners = frame.triangles()
        cross = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        cross /= np.linalg.norm(cross, axis=1, keepdims=True)
        np.testing.assert_allclose(frame.normals[frame.faces], np.repeat(cross[:, None], 3, axis=1), atol=1e-5)


@pytest.mark.parametrize("extension", ["EXT_meshopt_compression", "KHR_meshopt_compression"])
def test_meshopt(tmp_path: Path, extension: str) -> None:
    builder = Builder()
    vertices = meshoptimizer.encode_vertex_buffer(TETRAHEDRON, 4, 12)
    indices = meshoptimizer.encode_index_buffer(TETRAHEDRON_FACES.astype(np.uint32).reshape(-1), 12, 4)
    builder.gltf["buffers"] = [{}, {"byteLength": 48 + 24, "extensions": {extension: {"fallback": True}}}]
    offset = 0
    for data, stride, count, mode in ((vertices, 12, 4, "ATTRIBUTES"), (indices, 2, 12, "TRIANGLES")):
        number = builder.view(bytes(data))
        packed = builder.gltf["bufferViews"][number]
        packed.update(byteStride=stride, count=count, mode=mode)
        builder.gltf["bufferViews"][number] = {
            "buffer": 1,
            "byteOffset": offset,
            "byteLength": stride * count,
            "extensions": {extension: packed},
        }
        offset += stride * count
    builder.gltf["accessors"] = [
        {"bufferView": 0, "componentType": 5126, "count": 4, "type": "VEC3"},
        {"bufferView": 1, "componentType": 5123, "count": 12, "type": "SCALAR"},
    ]
    builder.gltf["meshes"][0]["primitives"] = [{"attributes": {"POSITION": 0}, "indices": 1}]
    builder.gltf["extensionsRequired"] = [extension]
    builder.channel(0, "translation", [0, 1], [[0, 0, 0], [2, 0, 0]])
    frame = bake(builder.write(tmp_path), 2).frames[0]
    assert areas(frame.triangles()).sum() == pytest.approx(1.5 + np.sqrt(3) / 2)
    assert _volume(frame.triangles()) == pytest.approx(1 / 6)


def test_broken_meshopt_data_is_refused() -> None:
    with pytest.raises((ValueError, RuntimeError)):
        decode_meshopt(b"\xa0\x01\x02", Meshopt(0, 0, 3, 12, 4, "ATTRIBUTES", "NONE"))


def test_meshopt_color_filter() -> None:
    # Full 8-bit depth: alpha 127 of 7 bits plus the depth marker; gray 200 has no chroma.
    encoded = np.array([200, 0, 0, 255], np.uint8)
    assert decode_color_filter(encoded, 4).tolist() == [200, 200, 200, 255]


def test_an_animation_that_moves_nothing_visible_is_no_motion(tmp_path: Path) -> None:
    builder = tetrahedron()
    builder.gltf["nodes"].append({"name": "camera"})
    builder.channel(1, "translation", [0, 1], [[0, 0, 0], [2, 0, 0]])
    with pytest.raises(AssetError, match="do not move anything visible") as caught:
        bake(builder.write(tmp_path))
    assert caught.value.code is ReasonCode.NO_MOTION


def test_clips_are_selected_by_motion_length_name_and_index(tmp_path: Path) -> None:
    builder = tetrahedron()
    for number, (length, distance) in enumerate([(1, 0.1), (3, 1), (2, 5)]):
        builder.channel(0, "translation", [0, length], [[0, 0, 0], [distance, 0, 0]], animation=number)
    path = builder.write(tmp_path)
    assert [info.name for info in list_clips(path)] == ["clip 0", "clip 1", "clip 2"]
    chosen = {clip: bake(path, 2, clip).index for clip in ("most-moving", "longest", "first", "clip 1", 1)}
    assert chosen == {"most-moving": 2, "longest": 1, "first": 0, "clip 1": 1, 1: 1}
    with pytest.raises(AssetError, match=r"no clip .run."):
        bake(path, clip="run")


def test_materials_that_differ_only_in_name_are_merged(tmp_path: Path) -> None:
    builder = GlbBuilder("test", {})
    corners = np.float64([[0, 0, 0], [1, 0, 0], [0, 1, 0]])
    mesh = Mesh(corners, np.float64([[0, 0, 1]] * 3), corners[:, :2], np.array([[0, 1, 2]]))
    colors = [(1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (1.0, 0.0, 0.0)]
    materials = [builder.material(f"material {number}", color) for number, color in enumerate(colors)]
    node = builder.node("", mesh=builder.mesh("", [Part(mesh, material) for material in materials]))
    builder.animation("move", [Track(node, "translation", np.array([0.0, 1.0]), np.eye(3)[:2])])
    path = tmp_path / "materials.glb"
    path.write_bytes(builder.build())
    clip = bake(path, frames=2)
    assert [material.name for material in clip.materials] == ["material 0", "material 1"]
    assert clip.frames[0].topology.material_ids.tolist() == [0, 1, 0]


def test_500_equal_materials_are_one(tmp_path: Path) -> None:
    builder = GlbBuilder("test", {})
    corners = np.float64([[0, 0, 0], [1, 0, 0], [0, 1, 0]])
    mesh = Mesh(corners, np.float64([[0, 0, 1]] * 3), corners[:, :2], np.array([[0, 1, 2]]))
    materials = [builder.material(f"material {number}", (0.2, 0.4, 0.6)) for number in range(500)]
    nodes = [builder.node("", mesh=builder.mesh("", [Part(mesh, material)])) for material in materials]
    builder.animation("move", [Track(nodes[0], "translation", np.array([0.0, 1.0]), np.eye(3)[:2])])
    path = tmp_path / "materials.glb"
    path.write_bytes(builder.build())
    clip = bake(path, frames=2)
    assert [material.name for material in clip.materials] == ["material 0"]
    assert clip.frames[0].topology.material_ids.tolist() == [0] * 500


def test_determinants_have_the_sign_that_lapack_finds() -> None:
    random = np.random.default_rng(0)
    matrices = random.normal(size=(300, 3, 3))
    matrices[::3, 2] = matrices[::3, 0] + matrices[::3, 1]  # singular up to rounding
    matrices[::7] = 0.0
    np.testing.assert_array_equal(np.sign(determinants(matrices)), np.sign(np.linalg.det(matrices)))


def test_batched_normal_matrices_equal_those_of_each_part() -> None:
    matrices = np.random.default_rng(0).normal(size=(50, 3, 3))
    expected = [np.linalg.det(matrix) * np.linalg.inv(matrix).T for matrix in matrices]
    np.testing.assert_allclose(cofactor(matrices), expected, rtol=1e-9, atol=1e-12)
    np.testing.assert_array_equal(cofactor(matrices)[7], cofactor(matrices[7:8])[0])


def test_selecting_measures_the_triangles_of_each_frame_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []

    def counted(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
        calls.append(1)
        return face_areas(vertices, faces)

    monkeypatch.setattr("helix4d.assets.clip.face_areas", counted)
    motion_of_times(0.0, 1.0, GltfAsset(moving_tetrahedron().write(tmp_path), DEFAULT_LIMITS).poser(0))
    assert len(calls) == 16

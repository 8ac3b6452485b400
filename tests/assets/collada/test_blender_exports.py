"""Positions of every frame of documents that Blender writes, against Blender's own evaluation of the same scene."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import bpy
import numpy as np
import pytest

from helix4d.assets import bake
from tests.assets.collada.documents import assert_shows

FRAMES = 9


def empty() -> None:
    bpy.ops.wm.read_factory_settings(use_empty=True)
    scene = bpy.context.scene
    scene.render.fps = 24
    scene.frame_start, scene.frame_end = 0, FRAMES - 1


def cube(name: str, parent: Any = None, location: tuple[float, float, float] = (0, 0, 0)) -> Any:
    bpy.ops.mesh.primitive_cube_add(size=2, location=location)
    item = bpy.context.object
    item.name, item.parent = name, parent
    return item


def key(item: Any, path: str, values: dict[int, Any]) -> None:
    for frame, value in values.items():
        setattr(item, path, value)
        item.keyframe_insert(path, frame=frame)


def moving() -> None:
    item = cube("Box", location=(1, 2, 3))
    item.rotation_mode = "XYZ"
    key(item, "location", {0: (1, 2, 3), 8: (4, -2, 0)})


def turning() -> None:
    """Moved, turned and scaled at once: the order of transforms matters."""
    item = cube("Box")
    key(item, "location", {0: (1, 2, 3), 8: (4, -2, 0)})
    key(item, "rotation_euler", {0: (0, 0.3, 0), 4: (1.5, -0.5, 2), 8: (3, 0.2, -1)})
    key(item, "scale", {0: (1, 2, 0.5), 8: (2, 0.5, 1)})


def quaternions() -> None:
    item = cube("Box", location=(3, 0, 0))
    item.rotation_mode = "QUATERNION"
    key(item, "rotation_quaternion", {0: (1, 0, 0, 0), 8: (0.5, 0.5, -0.5, 0.5)})


def hierarchy() -> None:
    grandparent = bpy.data.objects.new("Empty", None)
    bpy.context.scene.collection.objects.link(grandparent)
    parent = cube("Parent", grandparent, (3, 0, 0))
    child = cube("Child", parent, (0, 4, 1))
    child.scale = (0.5, 0.5, 2)
    key(grandparent, "location", {0: (0, 0, 0), 8: (0, 5, 2)})
    key(parent, "rotation_euler", {0: (0, 0, 0), 8: (0, 0.7, 3)})
    key(child, "location", {0: (0, 4, 1), 8: (2, 4, -1)})


def mirrored() -> None:
    item = cube("Box", location=(1, 0, 0))
    item.scale = (-1, 2, 1)
    key(item, "rotation_euler", {0: (0, 0, 0), 8: (0, 0, 2)})


def shared_mesh() -> None:
    first = cube("One")
    for number in range(3):
        other = bpy.data.objects.new(f"Other {number}", first.data)
        bpy.context.scene.collection.objects.link(other)
        key(other, "location", {0: (0, 4 * number + 4, 0), 8: (number, 4 * number + 4, 5)})


def armature(scale: float = 1.0, names: tuple[str, str] = ("Root", "Tip")) -> Any:
    bpy.ops.object.armature_add()
    rig = bpy.context.object
    bpy.ops.object.mode_set(mode="EDIT")
    root = rig.data.edit_bones[0]
    root.name, root.head, root.tail = names[0], (0, 0, 0), (0.2, 0, 1.5)
    tip = rig.data.edit_bones.new(names[1])
    tip.head, tip.tail, tip.parent = (0.2, 0, 1.5), (0, 0.5, 3), root
    bpy.ops.object.mode_set(mode="OBJECT")
    rig.scale = (scale,) * 3
    for bone in rig.pose.bones:
        bone.rotation_mode = "XYZ"
    return rig


def tube(rig: Any, location: tuple[float, float, float] = (0, 0, 1.5), influences: int = 2) -> Any:
    bpy.ops.mesh.primitive_cylinder_add(vertices=8, radius=0.6, depth=3, location=location)
    item = bpy.context.object
    item.parent = rig
    for bone in list(rig.data.bones)[:influences]:
        group = item.vertex_groups.new(name=bone.name)
        for vertex in item.data.vertices:
            share = min(max(vertex.co.z / 3 + 0.5, 0), 1)
            group.add([vertex.index], share if bone.parent else 1 - share, "REPLACE")
    item.modifiers.new("rig", "ARMATURE").object = rig
    return item


def pose(rig: Any, tip: str = "Tip") -> None:
    bones = rig.pose.bones
    key(bones[0], "rotation_euler", {0: (0, 0, 0), 8: (0.3, 0.2, 0.5)})
    key(bones[0], "location", {0: (0, 0, 0), 8: (0, 1, 0.5)})
    key(bones[tip], "rotation_euler", {0: (0, 0, 0), 8: (1.2, 0.4, -0.6)})


def skinned() -> None:
    rig = armature()
    tube(rig)
    pose(rig)


def skinned_with_names() -> None:
    """Names that are no identifiers, and two skins of one skeleton."""
    rig = armature(names=("Root bone.L", "Tip bone.001"))
    tube(rig)
    tube(rig, (0, 0, 1.4))
    pose(rig, "Tip bone.001")


def skinned_and_scaled() -> None:
    rig = armature(0.5)
    rig.location, rig.rotation_euler = (3, 1, 0), (0, 0, 1)
    bpy.context.view_layer.update()
    item = tube(rig)
    item.parent = None  # Blender writes the bind shape of a child relative to its parent, which must not be moved then
    item.matrix_world = rig.matrix_world @ item.matrix_world
    pose(rig)
    key(rig.pose.bones["Tip"], "scale", {0: (1, 1, 1), 8: (1.5, 0.7, 1.5)})


def moving_skeleton() -> None:
    rig = armature()
    tube(rig)
    pose(rig)
    key(rig, "location", {0: (0, 0, 0), 8: (5, 0, 0)})


SCENES = (
    *(moving, turning, quaternions, hierarchy, mirrored, shared_mesh),
    *(skinned, skinned_with_names, skinned_and_scaled, moving_skeleton),
)
WRITTEN = [
    pytest.param(build, transforms, id=f"{build.__name__}-{transforms}")
    for build in SCENES
    for transforms in ("matrix", "decomposed")
    if (build, transforms) != (skinned_with_names, "decomposed")  # Blender writes no channels then
]


def evaluated() -> list[np.ndarray]:
    """Return the (N, 3) world positions of all vertices in each frame."""
    scene, found = bpy.context.scene, []
    for number in range(FRAMES):
        scene.frame_set(number)
        graph = bpy.context.evaluated_depsgraph_get()
        points = []
        for item in scene.objects:
            if item.type == "MESH":
                shape = item.evaluated_get(graph)
                mesh = shape.to_mesh()
                world = np.array(shape.matrix_world)
                points.append(np.array([vertex.co for vertex in mesh.vertices]) @ world[:3, :3].T + world[:3, 3])
                shape.to_mesh_clear()
        found.append(np.concatenate(points))
    scene.frame_set(0)
    return found


def export(path: Path, **options: Any) -> Path:
    bpy.ops.wm.collada_export(filepath=str(path), include_animations=True, apply_modifiers=False, **options)
    return path


@pytest.mark.parametrize(("build", "transforms"), WRITTEN)
def test_frames_equal_blenders(tmp_path: Path, build: Callable[[], None], transforms: str) -> None:
    empty()
    build()
    expected = evaluated()
    options = {f"export_{kind}_transformation_type_selection": transforms for kind in ("object", "animation")}
    clip = bake(export(tmp_path / "a.dae", **options), FRAMES)
    np.testing.assert_allclose(clip.times, np.arange(FRAMES) / 24, atol=1e-5)
    assert_shows(clip, expected)


def test_units(tmp_path: Path) -> None:
    empty()
    hierarchy()
    expected = evaluated()
    bpy.context.scene.unit_settings.scale_length = 0.01
    clip = bake(export(tmp_path / "a.dae"), FRAMES)
    assert_shows(clip, [points * 0.01 for points in expected])


def test_smooth_curves(tmp_path: Path) -> None:
    """Between the keys, curves are Blender's own Bézier curves."""
    empty()
    moving()
    scene, expected = bpy.context.scene, []
    for number in range(17):
        scene.frame_set(number // 2, subframe=number % 2 / 2)
        expected.append(np.array([bpy.context.object.matrix_world @ v.co for v in bpy.context.object.data.vertices]))
    scene.frame_set(0)
    options = {f"export_{kind}_transformation_type_selection": "decomposed" for kind in ("object", "animation")}
    path = export(tmp_path / "a.dae", keep_smooth_curves=True, keep_keyframes=True, sampling_rate=-1, **options)
    assert "BEZIER" in path.read_text()
    assert_shows(bake(path, 17), expected)

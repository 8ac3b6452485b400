"""Scenes that the tests build in Blender and export as FBX, for comparison with Blender's own evaluation."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import bpy
import numpy as np

FRAMES = 9
"""Scenes are animated over this many frames, from frame 1."""
ONE_TAKE = {"bake_anim_use_all_actions": False, "bake_anim_use_nla_strips": False, "bake_anim_simplify_factor": 0.0}
"""Options of the exporter for one take with everything that moves, keyed at every frame."""
SCENES: dict[str, Callable[[], dict[str, Any]]] = {}
"""Functions that fill an empty scene, and return options of the exporter."""


def scene(build: Callable[[], dict[str, Any]]) -> Callable[[], dict[str, Any]]:
    """Register a scene."""
    SCENES[build.__name__] = build
    return build


def export(name: str, path: Path) -> list[np.ndarray]:
    """Write a scene as FBX; return the (F, 3, 3) triangles of each frame as Blender evaluates them."""
    bpy.ops.wm.read_factory_settings(use_empty=True)
    bpy.context.scene.frame_start, bpy.context.scene.frame_end = 1, FRAMES
    options = SCENES[name]()
    expected = [_evaluated(frame) for frame in range(1, FRAMES + 1)]
    bpy.context.scene.frame_set(1)
    bpy.ops.export_scene.fbx(filepath=str(path), **{**ONE_TAKE, **options})
    return expected


def _evaluated(frame: int) -> np.ndarray:
    bpy.context.scene.frame_set(frame)
    found = [np.zeros((0, 3, 3))]
    for instance in bpy.context.evaluated_depsgraph_get().object_instances:
        if instance.object.type != "MESH":
            continue
        mesh = instance.object.to_mesh()
        mesh.calc_loop_triangles()
        points = np.array([vertex.co for vertex in mesh.vertices])
        faces = np.array([triangle.vertices for triangle in mesh.loop_triangles])
        world = np.array(instance.matrix_world)
        faces = faces[:, ::-1] if np.linalg.det(world) < 0 else faces
        found.append((points @ world[:3, :3].T + world[:3, 3])[faces])
        instance.object.to_mesh_clear()
    return np.concatenate(found)


def cube(name: str = "cube", size: float = 2.0, at: tuple[float, float, float] = (0, 0, 0)) -> Any:
    """Add a box with sides of different lengths."""
    bpy.ops.mesh.primitive_cube_add(size=size, location=at)
    found = bpy.context.object
    found.name = name
    found.data.transform(np.diag([1.0, 0.7, 0.4, 1.0]).tolist())
    return found


def key(owner: Any, prop: str, values: dict[int, Any]) -> None:
    """Key a property linearly: frame -> value."""
    for frame, value in values.items():
        setattr(owner, prop, value)
        owner.keyframe_insert(prop, frame=frame)
    data = owner.id_data.animation_data
    for curve in data.action.fcurves:
        for point in curve.keyframe_points:
            point.interpolation = "LINEAR"


def material(name: str, color: tuple[float, float, float] = (0.8, 0.1, 0.2)) -> Any:
    """Return a new material."""
    found = bpy.data.materials.new(name)
    found.use_nodes = True
    found.node_tree.nodes["Principled BSDF"].inputs["Base Color"].default_value = (*color, 1.0)
    return found


def tower(segments: int = 6) -> Any:
    """Add a square column along z, from 0 to 3, with vertices at several heights."""
    ring = np.array([[-0.3, -0.2], [0.3, -0.2], [0.3, 0.2], [-0.3, 0.2]])
    points = [(*xy, 3.0 * n / segments) for n in range(segments + 1) for xy in ring]
    sides = [(4 * n + k, 4 * n + (k + 1) % 4, 4 * n + 4 + (k + 1) % 4, 4 * n + 4 + k)
             for n in range(segments) for k in range(4)]  # fmt: skip
    top = 4 * segments
    mesh = bpy.data.meshes.new("tower")
    mesh.from_pydata(points, [], [(3, 2, 1, 0), *sides, (top, top + 1, top + 2, top + 3)])
    found = bpy.data.objects.new("tower", mesh)
    bpy.context.scene.collection.objects.link(found)
    return found


def armature(bones: int = 3) -> Any:
    """Add a chain of bones along z, each 1 long."""
    data = bpy.data.armatures.new("rig")
    found = bpy.data.objects.new("rig", data)
    bpy.context.scene.collection.objects.link(found)
    bpy.context.view_layer.objects.active = found
    bpy.ops.object.mode_set(mode="EDIT")
    above = None
    for number in range(bones):
        bone = data.edit_bones.new(f"bone{number}")
        bone.head, bone.tail, bone.parent = (0, 0, number), (0, 0, number + 1), above
        above = bone
    bpy.ops.object.mode_set(mode="OBJECT")
    return found


def bind(mesh: Any, rig: Any, spread: float = 0.5) -> None:
    """Skin a mesh with weights that fall off with the distance in z from each bone's middle."""
    groups = [mesh.vertex_groups.new(name=bone.name) for bone in rig.data.bones]
    for vertex in mesh.data.vertices:
        for number, group in enumerate(groups):
            weight = np.exp(-(((vertex.co.z - number - 0.5) / spread) ** 2))
            if weight > 0.01:
                group.add([vertex.index], float(weight), "REPLACE")
    mesh.modifiers.new("rig", "ARMATURE").object = rig
    mesh.parent = rig


def bend(rig: Any, prop: str = "rotation_euler") -> None:
    """Animate a rig's bones."""
    for number, bone in enumerate(rig.pose.bones):
        bone.rotation_mode = "XYZ"
        key(bone, prop, {1: (0, 0, 0), FRAMES: (0.3 * number, 0.2, 0.9)})


@scene
def full_turns() -> dict[str, Any]:
    key(cube(), "rotation_euler", {1: (0, 0, 0), FRAMES: (0, 0, 4 * np.pi)})
    return {}


@scene
def moved_turned_and_scaled() -> dict[str, Any]:
    box = cube()
    key(box, "location", {1: (0, 0, 0), FRAMES: (3, -1, 2)})
    key(box, "rotation_euler", {1: (0, 0, 0), FRAMES: (1, 0.5, -0.7)})
    key(box, "scale", {1: (1, 1, 1), FRAMES: (2, 0.5, 1.5)})
    return {}


@scene
def quaternions() -> dict[str, Any]:
    box = cube()
    box.rotation_mode = "QUATERNION"
    key(box, "rotation_quaternion", {1: (1, 0, 0, 0), FRAMES: (0.5, 0.5, 0.5, -0.5)})
    return {}


@scene
def euler_zyx() -> dict[str, Any]:
    box = cube()
    box.rotation_mode = "ZYX"
    key(box, "rotation_euler", {1: (0.2, 0.3, 0.4), FRAMES: (1.2, -0.8, 2.0)})
    return {}


@scene
def hierarchy() -> dict[str, Any]:
    above = None
    for number in range(4):
        box = cube(f"box{number}", 1.0, (1.0, 0.5 * number, 0.2))
        box.parent, box.scale = above, (1.0, 0.8, 1.2)
        key(box, "rotation_euler", {1: (0, 0, 0), FRAMES: (0.4, 0.1 * number, 0.5)})
        above = box
    return {}


@scene
def parents_that_are_empty() -> dict[str, Any]:
    empty = bpy.data.objects.new("empty", None)
    bpy.context.scene.collection.objects.link(empty)
    empty.location, empty.scale = (2, 0, 1), (0.5, 0.5, 2.0)
    bpy.context.view_layer.update()
    box = cube(at=(1, 1, 1))
    box.parent, box.matrix_parent_inverse = empty, empty.matrix_world.inverted()
    key(empty, "rotation_euler", {1: (0, 0, 0), FRAMES: (0, 0, 2)})
    return {}


@scene
def mirrored() -> dict[str, Any]:
    box = cube()
    box.scale = (-1, 1, 1)
    key(box, "location", {1: (0, 0, 0), FRAMES: (0, 0, 3)})
    return {}


@scene
def skin() -> dict[str, Any]:
    mesh, rig = tower(), armature()
    bind(mesh, rig)
    bend(rig)
    return {}


@scene
def skin_of_a_placed_rig() -> dict[str, Any]:
    mesh, rig = tower(), armature()
    bind(mesh, rig)
    rig.location, rig.scale, rig.rotation_euler = (1, 2, 3), (0.5, 0.5, 0.5), (0.3, 0.2, 1.0)
    bend(rig)
    key(rig, "location", {1: (1, 2, 3), FRAMES: (2, 2, 3)})
    return {}


@scene
def skin_with_scaled_bones() -> dict[str, Any]:
    mesh, rig = tower(), armature()
    bind(mesh, rig)
    key(rig.pose.bones[0], "scale", {1: (1, 1, 1), FRAMES: (1.5, 1.5, 1.5)})
    key(rig.pose.bones[2], "scale", {1: (1, 1, 1), FRAMES: (0.5, 2.0, 0.5)})
    return {"add_leaf_bones": False}


@scene
def rigid_skin() -> dict[str, Any]:
    mesh, rig = tower(), armature()
    bind(mesh, rig, 0.15)
    bend(rig, "location")
    return {"primary_bone_axis": "X", "secondary_bone_axis": "Z"}


@scene
def object_on_a_bone() -> dict[str, Any]:
    rig = armature()
    bend(rig)
    box = cube(size=0.5)
    box.parent, box.parent_type, box.parent_bone = rig, "BONE", "bone2"
    return {}


@scene
def shapes() -> dict[str, Any]:
    mesh = tower()
    mesh.shape_key_add(name="Basis")
    for number, axis in enumerate((0, 1)):
        target = mesh.shape_key_add(name=f"target{number}")
        for point in target.data:
            point.co[axis] += 0.5 * point.co[2] ** (number + 1)
        key(target, "value", {1: 0.0, FRAMES: 0.4 + 0.5 * number})
    return {}


@scene
def shapes_on_a_skin() -> dict[str, Any]:
    mesh, rig = tower(), armature()
    mesh.shape_key_add(name="Basis")
    target = mesh.shape_key_add(name="wide")
    for point in target.data:
        point.co.x *= 2
    key(target, "value", {1: 0.0, FRAMES: 1.0})
    bind(mesh, rig)
    bend(rig)
    return {}


@scene
def instances() -> dict[str, Any]:
    first = cube()
    first.data.materials.append(material("red"))
    for number in range(3):
        other = bpy.data.objects.new(f"copy{number}", first.data)
        other.location = (0, 3.0 * number + 3, 0)
        bpy.context.scene.collection.objects.link(other)
        key(other, "rotation_euler", {1: (0, 0, 0), FRAMES: (0, number, 1)})
    return {}


@scene
def concave_polygon() -> dict[str, Any]:
    mesh = bpy.data.meshes.new("arrow")
    points = [(0, 0, 0), (3, 0, 0), (3, 3, 0.0), (1.5, 0.7, 0.0), (0, 3, 0)]
    mesh.from_pydata(points, [], [(0, 1, 2, 3, 4)])
    found = bpy.data.objects.new("arrow", mesh)
    bpy.context.scene.collection.objects.link(found)
    key(found, "location", {1: (0, 0, 0), FRAMES: (0, 0, 2)})
    return {}


@scene
def unit_of_a_centimeter() -> dict[str, Any]:
    bpy.context.scene.unit_settings.scale_length = 0.01
    key(cube(size=100.0), "location", {1: (0, 0, 0), FRAMES: (200, 0, 0)})
    return {"apply_unit_scale": True, "apply_scale_options": "FBX_SCALE_UNITS"}


@scene
def scale_in_the_unit() -> dict[str, Any]:
    key(cube(), "location", {1: (0, 0, 0), FRAMES: (2, 0, 0)})
    return {"apply_scale_options": "FBX_SCALE_ALL"}


@scene
def z_up() -> dict[str, Any]:
    key(cube(), "location", {1: (0, 0, 0), FRAMES: (2, 1, 0)})
    return {"axis_forward": "Y", "axis_up": "Z"}


@scene
def x_up_and_baked_axes() -> dict[str, Any]:
    box = cube()
    key(box, "location", {1: (0, 0, 0), FRAMES: (2, 1, 0)})
    return {"axis_forward": "-Y", "axis_up": "X", "bake_space_transform": True}


@scene
def driven_by_a_constraint() -> dict[str, Any]:
    goal = cube("goal", 0.5, (5, 0, 0))
    key(goal, "location", {1: (5, 0, 0), FRAMES: (0, 5, 3)})
    watcher = cube("watcher")
    constraint = watcher.constraints.new("TRACK_TO")
    constraint.target, constraint.track_axis, constraint.up_axis = goal, "TRACK_X", "UP_Z"
    return {}


@scene
def another_frame_rate() -> dict[str, Any]:
    bpy.context.scene.render.fps = 60
    key(cube(), "location", {1: (0, 0, 0), 5: (0, 0, 2), FRAMES: (3, 0, 0)})
    return {}

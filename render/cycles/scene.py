"""The Blender scene of one Clip: a mesh built from the clip's own arrays, a camera, a few lamps, an environment.

The scene is rebuilt for every clip. Within it a frame moves only vertices, and a view only camera and lamps, so that
Cycles keeps everything that did not change.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import bpy
import numpy as np
from mathutils import Matrix

from helix4d.assets import Clip, Frame, Topology
from helix4d.render.cycles.coplanar import find_levels, moved_corners
from helix4d.render.cycles.materials import COLOR_ATTRIBUTE, build_materials, uv_layer_name
from helix4d.render.cycles.world import World
from helix4d.render.scene.cameras import Camera, camera_to_world
from helix4d.render.scene.environment import NO_MAPS, EnvironmentMap
from helix4d.render.scene.lighting import Lights
from helix4d.render.scene.uv_maps import UvMap, uv_layer, uv_maps

SENSOR_MM = 36.0
"""Width of every camera's sensor in millimeters."""

CLIP_RANGE = (0.01, 1000.0)
"""Nearest and farthest depth that a camera renders."""


class ClipObject:
    """A clip as an object of a Blender scene, posed at one frame.

    Args:
        scene: the Blender scene.
        clip: inside the unit cube.
        cull_back_faces: see `helix4d.render.cycles.materials.build_materials`.
    """

    def __init__(self, scene: Any, clip: Clip, cull_back_faces: bool) -> None:
        self._clip = clip
        self._colors = any(frame.topology.colors is not None for frame in clip.frames)
        self._materials = build_materials(clip, self._colors, cull_back_faces)
        self._uv_maps = [uv_maps(material) for material in clip.materials]
        self._topology: Topology | None = None
        self._levels = np.empty(0, np.int32)
        self.object = _add(scene, "clip", bpy.data.meshes.new("clip"))

    def set_frame(self, number: int) -> None:
        """Show frame `number`; as long as the topology is the same object, only the vertices move."""
        frame = self._clip.frames[number]
        if frame.topology is not self._topology:
            self._set_topology(frame)
        mesh = self.object.data
        corners, normals = moved_corners(frame, self._levels)
        mesh.vertices.foreach_set("co", np.concatenate([frame.vertices, corners]).ravel())
        mesh.normals_split_custom_set_from_vertices(np.concatenate([frame.normals, normals]))
        mesh.update()
        self.object.update_tag(refresh={"DATA"})

    def _set_topology(self, frame: Frame) -> None:
        old = self.object.data
        # Also for frames that differ in materials, so that faces keep their levels.
        same = [other for other in self._clip.frames if _same_mesh(other, frame)]
        self._levels = find_levels(same)
        mesh = _mesh(frame, self._levels, self._uv_maps, self._colors)
        for material in self._materials:
            mesh.materials.append(material)
        self.object.data = mesh
        bpy.data.meshes.remove(old)
        self._topology = frame.topology


class ClipScene:
    """A clip in Blender's only scene, which replaces everything that was open.

    Args:
        clip: inside the unit cube.
        lamps: the largest number of point lights in any view.
        cull_back_faces: see `helix4d.render.cycles.materials.build_materials`.
        maps: sha256 -> environment map, for the lights that name one.
    """

    def __init__(
        self,
        clip: Clip,
        lamps: int,
        cull_back_faces: bool = False,
        maps: Mapping[str, EnvironmentMap] = NO_MAPS,
    ) -> None:
        clear()
        self.scene = bpy.context.scene
        self._object = ClipObject(self.scene, clip, cull_back_faces)
        self.set_frame = self._object.set_frame
        self._camera = _add(self.scene, "camera", bpy.data.cameras.new("camera"))
        self._camera.data.sensor_fit = "HORIZONTAL"
        self._camera.data.sensor_width = SENSOR_MM
        self._camera.data.clip_start, self._camera.data.clip_end = CLIP_RANGE
        self.scene.camera = self._camera
        self._lamps = [_add(self.scene, "lamp", bpy.data.lights.new("lamp", "POINT")) for _ in range(lamps)]
        self._world = World(self.scene, maps)

    def set_view(self, camera: Camera, lights: Lights) -> None:
        """Set the camera and the lights of a view."""
        size, data = camera.image_size, self._camera.data
        data.lens = camera.focal / size * SENSOR_MM
        data.shift_x = 0.5 - camera.intrinsics[0, 2] / size
        data.shift_y = camera.intrinsics[1, 2] / size - 0.5
        self._camera.matrix_world = Matrix(camera_to_world(camera).tolist())
        self.scene.render.resolution_x = self.scene.render.resolution_y = size
        for index, lamp in enumerate(self._lamps):
            lit = index < len(lights.points)
            lamp.data.energy = lights.points[index].watts if lit else 0.0
            if lit:
                lamp.data.color = lights.points[index].color
                lamp.data.shadow_soft_size = lights.points[index].radius
                lamp.location = lights.points[index].position
        self._world.show(lights)


def clear() -> None:
    """Open an empty file with factory settings: removes the data of earlier clips and disables scripts in files."""
    bpy.ops.wm.read_factory_settings(use_empty=True)
    bpy.context.preferences.filepaths.use_scripts_auto_execute = False


def _same_mesh(one: Frame, two: Frame) -> bool:
    return len(one.vertices) == len(two.vertices) and one.topology.same_triangles(two.topology)


def _mesh(frame: Frame, levels: np.ndarray, maps: Sequence[Sequence[UvMap]], vertex_colors: bool) -> Any:
    topology = frame.topology
    faces = topology.faces.copy()
    moved = 3 * int((levels > 0).sum())
    # Moved faces get corners of their own, after the vertices of the clip.
    faces[levels > 0] = len(frame.vertices) + np.arange(moved, dtype=faces.dtype).reshape(-1, 3)
    # A face that uses a vertex twice has no area and breaks Blender's edges.
    kept = (faces[:, 0] != faces[:, 1]) & (faces[:, 1] != faces[:, 2]) & (faces[:, 2] != faces[:, 0])
    faces = faces[kept]
    mesh = bpy.data.meshes.new("clip")
    mesh.vertices.add(len(frame.vertices) + moved)
    mesh.loops.add(faces.size)
    mesh.polygons.add(len(faces))
    mesh.loops.foreach_set("vertex_index", faces.ravel())
    mesh.polygons.foreach_set("loop_start", np.arange(0, faces.size, 3, dtype=np.int32))
    mesh.polygons.foreach_set("material_index", topology.material_ids[kept])
    for slot in range(max(map(len, maps), default=0)):
        layer = mesh.uv_layers.new(name=uv_layer_name(slot), do_init=False)
        uvs = uv_layer(topology, maps, slot)[kept]
        uvs[..., 1] = 1.0 - uvs[..., 1]  # Blender's v runs up
        layer.uv.foreach_set("vector", uvs.astype(np.float32).ravel())
    if vertex_colors:
        colors = topology.colors if topology.colors is not None else np.ones((len(kept), 3, 4), np.float32)
        attribute = mesh.color_attributes.new(COLOR_ATTRIBUTE, "FLOAT_COLOR", "CORNER")
        attribute.data.foreach_set("color", colors[kept].ravel())
    mesh.update(calc_edges=True)
    return mesh


def _add(scene: Any, name: str, data: Any) -> Any:
    block = bpy.data.objects.new(name, data)
    scene.collection.objects.link(block)
    return block

"""Blender scenes are evaluated as they render: instances, visibility, modifiers, view layers, and kinds of objects."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import bpy
import numpy as np
import pytest

from helix4d.assets import Clip, list_clips
from helix4d.core import AssetError, ReasonCode
from tests.assets.blender.scenes import baked, empty, rising


def cube(name: str, x: float = 0.0, collection: Any = None) -> Any:
    """Add a cube of side 1 at (x, 0, 0) to the scene, or to a collection."""
    bpy.ops.mesh.primitive_cube_add(size=1, location=(x, 0, 0))
    item = bpy.context.object
    item.name = name
    if collection is not None:
        bpy.context.scene.collection.objects.unlink(item)
        collection.objects.link(item)
    return item


def instance_of(collection: Any, x: float, parent: Any = None) -> Any:
    """Add an empty at (x, 0, 0) that shows a collection, to the scene or to another collection."""
    item = bpy.data.objects.new("instance", None)
    item.instance_type, item.instance_collection, item.location.x = "COLLECTION", collection, x
    (parent or bpy.context.scene.collection).objects.link(item)
    return item


def places(clip: Clip, frame: int = 0) -> list[float]:
    """Return the x of the centers of the cubes in a frame, sorted."""
    corners = clip.frames[frame].triangles()
    assert len(corners) % 12 == 0
    return sorted(round(float(x), 3) for x in corners.reshape(-1, 36, 3)[..., 0].mean(axis=1))


@pytest.fixture
def moving() -> Any:
    """Return a scene with a rising cube at x = −10, so that it has an animation."""
    scene = empty()
    rising(cube("mover", -10))
    return scene


def test_nested_instances_of_collections(tmp_path: Path, moving: Any) -> None:
    inner, outer = (bpy.data.collections.new(name) for name in ("inner", "outer"))
    cube("part", 0, inner)
    cube("hidden part", 1, inner).hide_render = True
    cube("part hidden in the viewport", 2, inner).hide_viewport = True
    for x in (0, 10):
        instance_of(inner, x, outer)
    for x in (100, 200):
        instance_of(outer, x)
    instance_of(outer, 300).hide_render = True
    assert places(baked(tmp_path / "a.blend")) == [-10, 100, 102, 110, 112, 200, 202, 210, 212]


def test_instances_on_faces_and_of_particles(tmp_path: Path, moving: Any) -> None:
    source = cube("source", 5)
    source.hide_render = True
    bpy.ops.mesh.primitive_plane_add(size=2)
    emitter = bpy.context.object
    emitter.modifiers.new("dots", "PARTICLE_SYSTEM")
    settings = emitter.particle_systems[0].settings
    settings.count, settings.frame_start, settings.frame_end, settings.lifetime = 7, 0, 0, 1000
    settings.physics_type, settings.render_type, settings.instance_object = "NO", "OBJECT", source
    settings.particle_size, emitter.show_instancer_for_render = 1.0, False
    frame = cube("frame", 50)
    frame.instance_type = "VERTS"
    frame.show_instancer_for_render = False
    child = cube("child")
    child.parent = frame
    clip = baked(tmp_path / "a.blend")
    # The mover, seven particles, eight vertices; the child itself is shown by its instances only.
    assert len(clip.frames[0].faces) == 12 * (1 + 7 + 8)


def test_geometry_nodes_show_what_a_render_shows(tmp_path: Path, moving: Any) -> None:
    item = cube("scattered")
    tree = bpy.data.node_groups.new("scatter", "GeometryNodeTree")
    tree.interface.new_socket("Geometry", in_out="INPUT", socket_type="NodeSocketGeometry")
    tree.interface.new_socket("Geometry", in_out="OUTPUT", socket_type="NodeSocketGeometry")
    add = tree.nodes.new
    points, shape, onto, switch = (
        add(f"GeometryNode{kind}") for kind in ("MeshLine", "MeshCube", "InstanceOnPoints", "Switch")
    )
    switch.input_type = "INT"
    tree.links.new(add("GeometryNodeIsViewport").outputs[0], switch.inputs["Switch"])
    switch.inputs["False"].default_value, switch.inputs["True"].default_value = 5, 2
    tree.links.new(switch.outputs[0], points.inputs["Count"])
    points.inputs["Offset"].default_value = (3, 0, 0)
    tree.links.new(points.outputs[0], onto.inputs["Points"])
    tree.links.new(shape.outputs[0], onto.inputs["Instance"])
    tree.links.new(onto.outputs[0], add("NodeGroupOutput").inputs[0])
    add("NodeGroupInput")
    item.modifiers.new("scatter", "NODES").node_group = tree
    assert places(baked(tmp_path / "a.blend")) == [-10, 0, 3, 6, 9, 12]


def test_modifiers_have_their_render_settings(tmp_path: Path, moving: Any) -> None:
    for number, (viewport, render, simplify) in enumerate(((0, 2, False), (3, 1, False), (0, 3, True))):
        scene = empty()
        item = rising(cube("smooth"))
        modifier = item.modifiers.new("levels", "SUBSURF")
        modifier.levels, modifier.render_levels, modifier.subdivision_type = viewport, render, "SIMPLE"
        scene.render.use_simplify, scene.render.simplify_subdivision_render = simplify, 1
        off, on = (item.modifiers.new(name, "ARRAY") for name in ("viewport only", "render only"))
        off.count, off.show_render = 5, False
        on.count, on.show_viewport = 2, False
        clip = baked(tmp_path / f"{number}.blend")
        assert len(clip.frames[0].faces) == 2 * 12 * 4 ** (1 if simplify else render)


def test_visibility_of_objects_collections_and_view_layers(tmp_path: Path, moving: Any) -> None:
    scene = moving
    cube("hidden", 1).hide_render = True
    cube("hidden in the viewport", 2).hide_viewport = True
    cube("hidden by the eye", 3).hide_set(True)
    cube("unseen by cameras", 4).visible_camera = False
    cube("a hole", 5).is_holdout = True
    for x, name in enumerate(("render", "viewport", "excluded"), 6):
        collection = bpy.data.collections.new(name)
        scene.collection.children.link(collection)
        cube(name, x, collection)
    bpy.data.collections["render"].hide_render = True
    bpy.data.collections["viewport"].hide_viewport = True
    scene.view_layers[0].layer_collection.children["excluded"].exclude = True
    assert places(baked(tmp_path / "a.blend")) == [-10, 2, 3, 7]
    bpy.context.scene.view_layers.new("other")  # shows the mover, too, which is one object
    assert places(baked(tmp_path / "b.blend")) == [-10, 2, 3, 7, 8]
    bpy.context.scene.view_layers["other"].use = False
    assert places(baked(tmp_path / "c.blend")) == [-10, 2, 3, 7]


def test_visibility_that_is_animated(tmp_path: Path, moving: Any) -> None:
    item = cube("blinking", 1)
    for frame, hidden in ((0, True), (12, False), (20, True)):
        item.hide_render = hidden
        item.keyframe_insert("hide_render", frame=frame)
    clip = baked(tmp_path / "a.blend", 5)
    assert [len(frame.faces) for frame in clip.frames] == [12, 12, 24, 24, 12]


@pytest.mark.parametrize("kind", ["curve", "text", "ball", "surface"])
def test_objects_that_render_as_meshes(tmp_path: Path, kind: str) -> None:
    empty()
    add: dict[str, Callable[[], Any]] = {
        "curve": bpy.ops.curve.primitive_bezier_circle_add,
        "text": bpy.ops.object.text_add,
        "ball": bpy.ops.object.metaball_add,
        "surface": bpy.ops.surface.primitive_nurbs_surface_sphere_add,
    }
    add[kind]()
    item = bpy.context.object
    if kind == "curve":
        item.data.bevel_depth = 0.1
    rising(item)
    material = bpy.data.materials.new("gray")
    item.data.materials.append(material)
    clip = baked(tmp_path / "a.blend")
    assert len(clip.frames[0].faces) > 10
    rise = clip.frames[1].triangles()[..., 2].mean() - clip.frames[0].triangles()[..., 2].mean()
    assert rise == pytest.approx(1, abs=1e-4)
    assert [material.name for material in clip.materials] == ["gray"]


def test_what_is_no_mesh_is_a_warning(tmp_path: Path, moving: Any) -> None:
    scene = moving
    scene.collection.objects.link(bpy.data.objects.new("fog", bpy.data.volumes.new("fog")))
    hairy = cube("hairy", 1)
    hairy.modifiers.new("fur", "PARTICLE_SYSTEM")
    hairy.particle_systems[0].settings.type = "HAIR"
    hairy.particle_systems[0].settings.count = 3
    warnings = baked(tmp_path / "a.blend").warnings
    assert any("'fog'" in warning and "volume" in warning for warning in warnings)
    assert any("'hairy'" in warning and "hair" in warning for warning in warnings)


def test_a_scene_that_shows_nothing_has_no_mesh(tmp_path: Path) -> None:
    for number in range(2):
        scene = empty()
        item = rising(cube("hidden"))
        if number:
            scene.view_layers[0].use = False
        else:
            item.hide_render = True
        with pytest.raises(AssetError) as caught:
            baked(tmp_path / "a.blend")
        assert caught.value.code is ReasonCode.NO_MESH


def test_motion_of_what_an_instance_shows_is_an_animation(tmp_path: Path) -> None:
    empty()
    collection = bpy.data.collections.new("inner")
    rising(cube("part", 0, collection), height=2.0)
    instance_of(collection, 3)
    clip = baked(tmp_path / "a.blend", 3)
    heights = [float(frame.triangles()[..., 2].mean()) for frame in clip.frames]
    np.testing.assert_allclose(heights, [0, 1, 2], atol=1e-5)
    assert len(list_clips(tmp_path / "a.blend", isolated=False)) == 1


def test_mirrored_instances_face_outward(tmp_path: Path, moving: Any) -> None:
    collection = bpy.data.collections.new("inner")
    cube("part", 1, collection)
    instance_of(collection, 5).scale = (-1, 1, 2)
    clip = baked(tmp_path / "a.blend")
    corners = clip.frames[0].triangles().astype(np.float64)
    assert places(clip) == [-10, 4]
    center = corners.reshape(2, -1, 3).mean(axis=1)
    outward = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    assert ((corners.mean(axis=1) - np.repeat(center, 12, axis=0)) * outward).sum(axis=1).min() > 0
    normals = clip.frames[0].normals.reshape(-1, 3, 3)
    assert (normals * outward[:, None]).sum(axis=2).min() > 0


def test_a_material_override_of_the_view_layer_is_shown(tmp_path: Path, moving: Any) -> None:
    moving.objects["mover"].data.materials.append(bpy.data.materials.new("hidden"))
    cube("bare", 2)
    moving.view_layers[0].material_override = bpy.data.materials.new("clay")
    assert [material.name for material in baked(tmp_path / "a.blend").materials] == ["clay"]


def test_evaluating_a_scene_writes_no_files(tmp_path: Path, moving: Any) -> None:
    (tmp_path / "out").mkdir()
    moving.render.use_render_cache = True
    moving.render.filepath = str(tmp_path / "out" / "picture")
    moving.use_nodes = True
    node = moving.node_tree.nodes.new("CompositorNodeOutputFile")
    node.base_path = str(tmp_path / "out")
    moving.node_tree.links.new(moving.node_tree.nodes.new("CompositorNodeRLayers").outputs[0], node.inputs[0])
    baked(tmp_path / "a.blend")
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["a.blend"]

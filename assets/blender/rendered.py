"""Evaluates a Blender scene as it renders: render levels of modifiers, render visibility, instances, simplification.

Blender's API evaluates scenes for the viewport. Only a render engine receives them as evaluated for rendering, so
this module registers an engine that reads the scene and renders nothing.
"""

from __future__ import annotations

import atexit
import math
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any, TypeVar

_ENGINE = "HELIX4D_READER"
_TURNED_OFF = (
    *("use_compositing", "use_sequencer", "use_render_cache"),  # which may write files to any path
    *("use_freestyle", "use_multiview", "use_border", "use_motion_blur", "use_single_layer"),
)
_ROUNDING = 1e-6
"""Frames this close to the next integer are rounded up to it."""
T = TypeVar("T")


def shapes(graph: Any, seen: set[object]) -> Iterator[Any]:
    """Yield the instances of an evaluated scene that a camera sees, those of all types.

    Args:
        graph: dependency graph of one view layer.
        seen: instances of other view layers, which are left out; extended.
    """
    for instance in graph.object_instances:
        item = instance.object
        place = tuple(instance.persistent_id), instance.parent and instance.parent.name_full
        key = item.name_full, item.type, place  # an object may show curves or points in addition to its mesh
        if key in seen or not instance.show_self or not item.visible_camera:
            continue
        seen.add(key)
        if not (item.is_holdout or item.is_shadow_catcher):  # holes, and shadows on nothing
            yield instance


def prepare(bpy: Any) -> None:
    """Turn off everything but the evaluation of the scene that was loaded last, so that `at_frame` can read it.

    Blender then keeps the evaluated scene from frame to frame, until a setting changes: only what moves is evaluated.
    """
    scene = bpy.context.scene
    render = scene.render
    render.engine = _registered(bpy).bl_idname
    render.resolution_x = render.resolution_y = 4
    render.resolution_percentage = 100
    render.use_persistent_data = True
    for name in _TURNED_OFF:
        setattr(render, name, False)
    if scene.camera is None:  # Blender renders nothing without one
        scene.camera = bpy.data.objects.new("helix4d camera", bpy.data.cameras.new("helix4d camera"))


def at_frame(bpy: Any, frame: float, read: Callable[[Any], T]) -> list[T]:
    """Evaluate the scene at a frame, which may be a fraction.

    Args:
        bpy: the module, with the scene loaded and prepared.
        frame: frame of the scene.
        read: called with the dependency graph of every view layer that is rendered; it must not be kept.

    Returns:
        What `read` returned, one value a view layer.

    Raises:
        RuntimeError: if Blender cannot evaluate it.
    """
    scene = bpy.context.scene
    if not any(layer.use for layer in scene.view_layers):
        return []  # Blender would refuse to render
    whole = math.floor(frame + _ROUNDING)
    scene.frame_current, scene.frame_subframe = whole, min(max(frame - whole, 0.0), 1 - _ROUNDING)
    engine = _registered(bpy)
    found: list[T] = []
    errors: list[BaseException] = []

    def receive(graph: Any) -> None:
        try:
            found.append(read(graph))
        except BaseException as error:  # noqa: BLE001 (Blender would print it, and go on)
            errors.append(error)

    engine.receive = receive
    try:
        bpy.ops.render.render()
    finally:
        engine.receive = None
    if errors:
        raise errors[0]
    return found


@cache
def _registered(bpy: Any) -> Any:
    def render(engine: Any, graph: Any) -> None:
        if engine.__class__.receive is not None:
            engine.__class__.receive(graph)

    members = {"bl_idname": _ENGINE, "bl_label": "Helix4D reader", "receive": None, "render": render}
    engine = type("Helix4DReader", (bpy.types.RenderEngine,), members)
    bpy.utils.register_class(engine)
    atexit.register(bpy.utils.unregister_class, engine)  # Blender crashes at its end with a class that is left
    return engine

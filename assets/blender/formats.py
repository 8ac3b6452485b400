"""Describes how Blender imports each format that is read with it, and which frames the animation spans.

The bpy module is passed as an argument, as only `importer` imports it. Scripts in files are never run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from helix4d.assets.skeleton import Skeleton, UpAxis
from helix4d.core import AssetError, ReasonCode
from helix4d.core.messages import path_end

_HEAD_BYTES = 1 << 20
_ALEMBIC_RATE = 240
_HDF5 = b"\x89HDF"
_CACHES = frozenset({"MESH_SEQUENCE_CACHE", "TRANSFORM_CACHE"})
_TIMED_MODIFIERS = frozenset(
    {"BUILD", "CLOTH", "DYNAMIC_PAINT", "EXPLODE", "FLUID", "MESH_CACHE", "NODES", "OCEAN", "PARTICLE_SYSTEM"}
    | {"SOFT_BODY", "WAVE"}
)


@dataclass(frozen=True)
class BlenderFormat:
    """A file format.

    Attributes:
        name: name of the format, for messages.
        looks_right: returns whether a file starting with the given bytes has this format; checked before the import.
        read: imports a file into an empty Blender session, and returns the operator's result.
        timeline: returns the first and last frame of the animation, or None without one.
        skeleton: returns the joints of the imported file, or None if the format has none.
        up_axis: up axis of all files of the format; None if the format does not define it.
    """

    name: str
    looks_right: Callable[[bytes], bool]
    read: Callable[[Any, str], set[str]]
    timeline: Callable[[Any], tuple[float, float] | None]
    skeleton: Callable[[Any], Skeleton | None] = lambda bpy: None
    up_axis: UpAxis | None = None


def head(path: Path) -> bytes:
    """Read the first bytes of a file, enough for all checks in this module."""
    with open(path, "rb") as stream:
        return stream.read(_HEAD_BYTES)


def refuse_hdf5(path: Path, data: bytes) -> None:
    """Refuse Alembic files in HDF5, the container that Ogawa replaced and that Blender no longer reads.

    Raises:
        AssetError: unsupported_version.
    """
    if path.suffix.lower() == ".abc" and data.startswith(_HDF5):
        message = "is Alembic in HDF5, which is not supported: convert it with `abcconvert -toOgawa old.abc new.abc`"
        raise AssetError(ReasonCode.UNSUPPORTED_VERSION, message, path)


def rate(bpy: Any) -> float:
    """Return how many Blender frames correspond to one second of the file."""
    render = bpy.context.scene.render
    return float(render.fps / render.fps_base)


def refuse_outside(bpy: Any, path: Path, root: Path) -> None:
    """Check that all files that were linked by the import are inside the asset's folder.

    Raises:
        AssetError: uri_outside_asset.
    """
    folder = root.resolve()
    for block in (*bpy.data.libraries, *bpy.data.cache_files):
        try:
            inside = Path(bpy.path.abspath(block.filepath)).resolve().is_relative_to(folder)
        except (OSError, ValueError, RuntimeError):
            inside = False
        if not inside:
            message = f"links to {path_end(block.filepath)!r} outside the asset's folder: move it there, or pack it"
            raise AssetError(ReasonCode.URI_OUTSIDE_ASSET, message, path)


def _read_alembic(bpy: Any, file: str) -> set[str]:
    # The importer rounds the file's time range to whole frames; a high frame rate keeps the error small.
    bpy.context.scene.render.fps = _ALEMBIC_RATE
    result: set[str] = bpy.ops.wm.alembic_import(filepath=file, set_frame_range=True, as_background_job=False)
    return result


def _read_blend(bpy: Any, file: str) -> set[str]:
    result: set[str] = bpy.ops.wm.open_mainfile(filepath=file, load_ui=False, use_scripts=False)
    return result


def _scene_range(bpy: Any) -> tuple[float, float] | None:
    """Return the frame range of the scene, or None if nothing in it is animated."""
    data = bpy.data
    scene = bpy.context.scene
    moves = any(
        any(item.type in _CACHES | _TIMED_MODIFIERS for item in (*obj.modifiers, *obj.constraints))
        for obj in data.objects
    )
    owners = (*data.objects, *data.shape_keys, *data.armatures, *data.meshes, *data.curves, *data.metaballs,
              *data.lattices, *data.node_groups)  # fmt: skip
    animated = [owner.animation_data for owner in owners if owner.animation_data is not None]
    moves = moves or any(entry.action or len(entry.drivers) or len(entry.nla_tracks) for entry in animated)
    return (float(scene.frame_start), float(scene.frame_end)) if moves else None


def _scene_skeleton(bpy: Any) -> Skeleton:
    """Return the bones of the armatures in the scene; skinned if a modifier of a rendered object uses an armature."""
    objects = bpy.context.scene.objects
    armatures = dict.fromkeys(entry.data for entry in objects if entry.type == "ARMATURE")
    names = [bone.name for armature in armatures for bone in armature.bones]
    skinned = any(
        item.type == "ARMATURE" and item.object is not None and item.show_render
        for entry in objects
        if not entry.hide_render
        for item in entry.modifiers
    )
    return Skeleton.of(names, len(names), skinned)


FORMATS: Mapping[str, BlenderFormat] = MappingProxyType(
    {
        ".abc": BlenderFormat("Alembic", lambda data: data.startswith((b"Ogawa", _HDF5)), _read_alembic, _scene_range),
        ".blend": BlenderFormat(
            "Blender",
            lambda data: data.startswith((b"BLENDER", b"\x28\xb5\x2f\xfd", b"\x1f\x8b")),
            _read_blend,
            _scene_range,
            _scene_skeleton,
            "Z",
        ),
    }
)
"""Formats by suffix."""

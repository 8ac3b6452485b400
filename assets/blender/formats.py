"""How Blender reads each format that is not glTF, and over which frames it plays.

Blender comes in as an argument: one file of this package imports it. Scripts in files are never run.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from helix4d.core import AssetError, ReasonCode

_HEAD_BYTES = 1 << 20
_TAIL_BYTES = 1 << 12
_FBX = b"Kaydara FBX Binary"
_ALEMBIC_RATE = 240
_USD_RATE = re.compile(rb"\btimeCodesPerSecond\s*=\s*([0-9.]+)")
_USD_DEFAULT_RATE = 24.0
_CACHES = frozenset({"MESH_SEQUENCE_CACHE", "TRANSFORM_CACHE"})
_TIMED_MODIFIERS = frozenset(
    {"BUILD", "CLOTH", "DYNAMIC_PAINT", "EXPLODE", "FLUID", "MESH_CACHE", "NODES", "OCEAN", "PARTICLE_SYSTEM"}
    | {"SOFT_BODY", "WAVE"}
)


@dataclass(frozen=True)
class BlenderFormat:
    """A file format.

    Attributes:
        name: as people call it.
        looks_right: whether a file that begins with these bytes is one; it is checked before Blender sees it.
        read: reads a file into an empty Blender; returns the operator's result.
        timeline: first and last frame of what moves, or None where nothing does. FBX has clips instead.
    """

    name: str
    looks_right: Callable[[bytes], bool]
    read: Callable[[Any, str], set[str]]
    timeline: Callable[[Any], tuple[float, float] | None]


def head(path: Path) -> bytes:
    """The first bytes of a file, enough for every check here."""
    with open(path, "rb") as stream:
        return stream.read(_HEAD_BYTES)


def check_end(path: Path) -> None:
    """Blender takes what it finds of a COLLADA file that was cut off; we do not.

    Raises:
        AssetError: corrupt_file.
    """
    if path.suffix.lower() != ".dae":
        return
    with open(path, "rb") as stream:
        stream.seek(max(0, path.stat().st_size - _TAIL_BYTES))
        if b"</COLLADA>" not in stream.read():
            raise AssetError(ReasonCode.CORRUPT_FILE, "ends before </COLLADA>: the file is truncated", path)


def rate(bpy: Any, path: Path, first_bytes: bytes) -> tuple[float, str]:
    """Blender frames per second of the file's own time, and a warning where that is a guess."""
    if path.suffix.lower() in (".usd", ".usda", ".usdc"):
        # Blender counts USD's time codes as frames, and does not say how many make a second.
        if first_bytes.startswith(b"#usda"):
            found = _USD_RATE.search(first_bytes)
            return (float(found[1]) if found and float(found[1]) > 0 else _USD_DEFAULT_RATE), ""
        return _USD_DEFAULT_RATE, f"binary USD: {_USD_DEFAULT_RATE:g} time codes a second are taken for granted"
    render = bpy.context.scene.render
    return render.fps / render.fps_base, ""


def refuse_outside(bpy: Any, path: Path, root: Path) -> None:
    """Nothing that the file links to may lie outside of its folder.

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
            what = f"links to {block.filepath[:80]!r}, which is not in the asset's folder"
            raise AssetError(ReasonCode.URI_OUTSIDE_ASSET, what, path)


def _read_fbx(bpy: Any, file: str) -> set[str]:
    result: set[str] = bpy.ops.import_scene.fbx(
        filepath=file, use_image_search=False, anim_offset=0.0, use_custom_props=False
    )
    return result


def _read_collada(bpy: Any, file: str) -> set[str]:
    result: set[str] = bpy.ops.wm.collada_import(filepath=file, import_units=False)
    return result


def _read_alembic(bpy: Any, file: str) -> set[str]:
    # The importer rounds the file's range to whole frames: short frames lose less of it.
    bpy.context.scene.render.fps = _ALEMBIC_RATE
    result: set[str] = bpy.ops.wm.alembic_import(filepath=file, set_frame_range=True, as_background_job=False)
    return result


def _read_usd(bpy: Any, file: str) -> set[str]:
    result: set[str] = bpy.ops.wm.usd_import(
        filepath=file,
        set_frame_range=True,
        import_cameras=False,
        import_lights=False,
        import_textures_mode="IMPORT_NONE",
        create_world_material=False,
    )
    return result


def _read_blend(bpy: Any, file: str) -> set[str]:
    result: set[str] = bpy.ops.wm.open_mainfile(filepath=file, load_ui=False, use_scripts=False)
    return result


def _actions_range(bpy: Any) -> tuple[float, float] | None:
    ranges = [action.frame_range for action in bpy.data.actions if len(action.fcurves)]
    if not ranges:
        return None
    return float(min(one[0] for one in ranges)), float(max(one[1] for one in ranges))


def _scene_range(bpy: Any) -> tuple[float, float] | None:
    """The scene's range, where anything in it follows the time."""
    scene = bpy.context.scene
    moves = any(
        any(item.type in _CACHES | _TIMED_MODIFIERS for item in (*thing.modifiers, *thing.constraints))
        for thing in scene.objects
    )
    owners = (*bpy.data.objects, *bpy.data.shape_keys, *bpy.data.armatures, *bpy.data.meshes)
    data = [owner.animation_data for owner in owners if owner.animation_data is not None]
    moves = moves or any(one.action or len(one.drivers) or len(one.nla_tracks) for one in data)
    return (float(scene.frame_start), float(scene.frame_end)) if moves else None


def _is_collada(data: bytes) -> bool:
    start = data.find(b"<COLLADA")
    # A document type could define entities that grow without end.
    return start >= 0 and b"<!" not in re.sub(rb"<!--.*?-->", b"", data[:start], flags=re.DOTALL)


FORMATS: Mapping[str, BlenderFormat] = MappingProxyType(
    {
        ".fbx": BlenderFormat(
            "binary FBX", lambda data: data.startswith(b"Kaydara FBX Binary"), _read_fbx, _actions_range
        ),
        ".dae": BlenderFormat("COLLADA", _is_collada, _read_collada, _actions_range),
        ".abc": BlenderFormat(
            "Alembic", lambda data: data.startswith((b"Ogawa", b"\x89HDF")), _read_alembic, _scene_range
        ),
        **dict.fromkeys(
            (".usd", ".usda", ".usdc"),
            BlenderFormat("USD", lambda data: data.startswith((b"PXR-USDC", b"#usda")), _read_usd, _scene_range),
        ),
        ".blend": BlenderFormat(
            "Blender",
            lambda data: data.startswith((b"BLENDER", b"\x28\xb5\x2f\xfd", b"\x1f\x8b")),
            _read_blend,
            _scene_range,
        ),
    }
)
"""By suffix."""

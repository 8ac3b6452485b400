"""Refuses files that would make Blender read or write outside the asset's folder.

A `.blend` file may hold simulations that write caches to any path, and modifiers that read any file, without a script.
Modifiers that are not known to work in memory are refused before the first frame is evaluated. Importers open every
image that a file names, wherever it is, so files that name an existing image outside the folder are refused before the
import. Other paths outside the folder, such as those on the author's machine, do not exist here and are ignored.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from helix4d.assets.blender.blend_file import linked_files
from helix4d.core import AssetError, ReasonCode
from helix4d.core.messages import path_end
from helix4d.core.storage import is_fault

_IN_MEMORY = frozenset(
    {
        *("DATA_TRANSFER", "NORMAL_EDIT", "WEIGHTED_NORMAL", "UV_PROJECT", "UV_WARP", "VERTEX_WEIGHT_EDIT"),
        *("VERTEX_WEIGHT_MIX", "VERTEX_WEIGHT_PROXIMITY", "ARRAY", "BEVEL", "BOOLEAN", "BUILD", "DECIMATE"),
        *("EDGE_SPLIT", "NODES", "MASK", "MIRROR", "MESH_TO_VOLUME", "REMESH", "SCREW", "SKIN", "SOLIDIFY", "SUBSURF"),
        *("TRIANGULATE", "VOLUME_TO_MESH", "WELD", "WIREFRAME", "ARMATURE", "CAST", "CURVE", "DISPLACE", "HOOK"),
        *("LAPLACIANDEFORM", "LATTICE", "MESH_DEFORM", "SHRINKWRAP", "SIMPLE_DEFORM", "SMOOTH", "CORRECTIVE_SMOOTH"),
        *("LAPLACIANSMOOTH", "SURFACE_DEFORM", "WARP", "WAVE", "VOLUME_DISPLACE", "CLOTH", "COLLISION", "EXPLODE"),
        *("PARTICLE_INSTANCE", "PARTICLE_SYSTEM", "SOFT_BODY", "SURFACE"),
        "MESH_SEQUENCE_CACHE",  # its file is among Blender's paths
        "MULTIRES",  # likewise
    }
)
"""Modifiers that read and write no files, apart from those in Blender's list of paths and from point caches."""
_READ_BY_MATERIALS = ("Material", "World", "Light", "ShaderNodeTree", "Brush", "Screen", "Scene")
"""Users of an image that do not read it when a scene is evaluated. `materials.py` checks the paths of these itself."""
_CONTINUED = re.compile(rb"\\\r?\n")
_LONGEST_PATH = 4096
_MTLLIB = re.compile(rb"^\s*mtllib\s+(.+?)\s*$", re.MULTILINE)


def refuse_disk_access(bpy: Any, path: Path, root: Path) -> None:
    """Check that evaluating the scene touches no file outside the asset's folder, and writes none at all.

    Args:
        bpy: the module, with the scene loaded.
        path: the imported file, for messages.
        root: folder of the asset.

    Raises:
        AssetError: uri_outside_asset.
    """
    for reason in _reasons(bpy, root.resolve()):
        raise AssetError(ReasonCode.URI_OUTSIDE_ASSET, reason, path)


def refuse_before_opening(bpy: Any, path: Path, root: Path) -> None:
    """Run the checks of `refuse_disk_access` on a `.blend` file whose data is only linked.

    Blender evaluates a scene as soon as it opens a file, and a fluid then writes its cache. The session must be empty,
    and must be emptied afterwards.

    Raises:
        AssetError: uri_outside_asset.
    """
    with bpy.data.libraries.load(str(path), link=True) as (available, linked):
        linked.scenes, linked.objects = available.scenes, available.objects
    refuse_disk_access(bpy, path, root)


def refuse_outside_libraries(path: Path, root: Path) -> None:
    """Check, before Blender opens a `.blend` file, that it and its libraries link only to files in the asset's folder.

    Raises:
        AssetError: uri_outside_asset; corrupt_file if a file cannot be parsed.
        OSError: if storage fails.
    """
    pending, seen = [path], {path.resolve()}
    while pending:
        file = pending.pop()
        try:
            linked = linked_files(file)
        except (ValueError, OSError) as error:
            if is_fault(error):
                raise
            raise AssetError(ReasonCode.CORRUPT_FILE, f"is damaged or not a .blend file: {error}", file) from error
        for other in linked:
            if not _is_inside(other, root.resolve()):
                name = path_end(os.path.relpath(other, root))
                message = f"links to {name!r} outside the asset's folder: move it there, or pack it"
                raise AssetError(ReasonCode.URI_OUTSIDE_ASSET, message, file)
            if other.is_file() and other.resolve() not in seen:
                seen.add(other.resolve())
                pending.append(other)


def refuse_outside_materials(path: Path, root: Path) -> None:
    """Check that the material libraries of an .obj file, and the images that they name, lie in the asset's folder.

    Raises:
        AssetError: uri_outside_asset.
    """
    libraries = [path.with_suffix(".mtl")]
    for match in _MTLLIB.finditer(_joined_lines(path)):
        name = match[1].decode(errors="replace").replace("\\", "/")
        libraries.append(path.parent / name)
        if not _is_inside(libraries[-1], root.resolve()):
            message = f"its material library {path_end(name)!r} is outside the asset's folder: move it there"
            raise AssetError(ReasonCode.URI_OUTSIDE_ASSET, message, path)
    for library in filter(Path.is_file, libraries):
        for line in _joined_lines(library).splitlines():
            text = line.decode(errors="surrogateescape").replace("\\", "/").rstrip()[-_LONGEST_PATH:]
            # A path may contain spaces, and follows the name of the map and its options.
            paths = [text[word.start() :].strip("\"'") for word in re.finditer(r"\S+", text)]
            _refuse_outside_files(paths, library, path, root)


def _joined_lines(path: Path) -> bytes:
    return _CONTINUED.sub(b" ", path.read_bytes())


def _refuse_outside_files(names: Iterable[str], file: Path, path: Path, root: Path) -> None:
    for name in names:
        target = file.parent / name
        if os.path.lexists(target) and not _is_inside(target, root.resolve()):
            message = f"{file.name} refers to {path_end(name)!r} outside the asset's folder: move it there"
            raise AssetError(ReasonCode.URI_OUTSIDE_ASSET, message, path)


def _reasons(bpy: Any, root: Path) -> Iterator[str]:
    for item in bpy.data.objects:
        for modifier in item.modifiers:
            where = f"modifier {modifier.name[:40]!r} ({modifier.type}) of object {item.name[:40]!r}"
            if modifier.type not in _IN_MEMORY:
                yield f"{where} reads or writes files when it is evaluated: apply it, or remove it"
            if modifier.type == "NODES" and (modifier.bake_directory or any(b.use_custom_path for b in modifier.bakes)):
                yield f"{where} reads baked data from disk: apply it, or delete the bake"
        caches = [*(getattr(modifier, "point_cache", None) for modifier in item.modifiers)]
        caches += [system.point_cache for system in item.particle_systems]
        if any(cache is not None and (cache.use_disk_cache or cache.use_external) for cache in caches):
            yield f"object {item.name[:40]!r} has a simulation cache on disk: turn off Disk Cache and External"
    for scene in bpy.data.scenes:
        world = scene.rigidbody_world
        if world is not None and (world.point_cache.use_disk_cache or world.point_cache.use_external):
            yield f"scene {scene.name[:40]!r} has a simulation cache on disk: turn off Disk Cache and External"
    images = [image for image in bpy.data.images if image.source != "GENERATED" and not image.packed_file]
    outside = [image for image in images if not _is_inside(_absolute(bpy, image), root)]
    for image, users in bpy.data.user_map(subset=outside).items():
        readers = [user for user in users if type(user).__name__ not in _READ_BY_MATERIALS]
        if readers:
            name = path_end(image.filepath)
            yield f"{readers[0].name[:40]!r} reads the image {name!r} outside the asset's folder: pack it"
    known = {_absolute(bpy, image) for image in images}
    for used in bpy.utils.blend_paths(absolute=True, packed=False, local=False):
        is_empty = not used.strip("/")  # of a volume without a file
        if used not in known and not is_empty and not _is_inside(used, root):
            yield f"refers to {path_end(used)!r} outside the asset's folder: move it there, or pack it"


def _absolute(bpy: Any, image: Any) -> str:
    found: str = bpy.path.abspath(image.filepath, library=image.library)
    return found


def _is_inside(name: str | Path, root: Path) -> bool:
    try:
        return Path(name).resolve().is_relative_to(root)
    except (OSError, ValueError, RuntimeError):
        return False

"""Refuses files that would make Blender read or write outside of the asset's folder.

A `.blend` file may hold simulations that write caches to any path, and modifiers that read any file, without a script.
What is not known to work in memory is refused, before the first frame is evaluated. Importers open every image that a
file names, wherever it is: names of images that exist outside of the folder are refused before the import. Other names
outside of it, such as paths on the machine of the author, lead nowhere and are ignored.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote
from xml.parsers import expat

from helix4d.assets.blender.blend_file import linked_files
from helix4d.core import AssetError, ReasonCode
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
        "MULTIRES",  # and so is its external file
    }
)
"""Modifiers that read and write no files, apart from those in Blender's list of paths and from point caches."""
_READ_BY_MATERIALS = ("Material", "World", "Light", "ShaderNodeTree", "Brush", "Screen", "Scene")
"""Users of an image that do not read it when a scene is evaluated. `materials.py` checks the paths of these itself."""
_COLLADA_IMAGE = frozenset({"init_from", "ref"})  # of COLLADA 1.4 and 1.5
_CONTINUED = re.compile(rb"\\\r?\n")
_LONGEST_PATH = 4096
_MTLLIB = re.compile(rb"^\s*mtllib\s+(.+?)\s*$", re.MULTILINE)


def refuse_disk_access(bpy: Any, path: Path, root: Path) -> None:
    """Check that evaluating the scene touches no file outside of the asset's folder, and writes none at all.

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
    """Check, before Blender opens a `.blend` file, that it links only to files in the asset's folder, and so do those.

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
            raise AssetError(ReasonCode.CORRUPT_FILE, f"is not an intact .blend file: {error}", file) from error
        for other in linked:
            if not _is_inside(other, root.resolve()):
                name = os.path.relpath(other, root)[:80]
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
            message = f"its material library {name[:80]!r} is outside the asset's folder: move it there"
            raise AssetError(ReasonCode.URI_OUTSIDE_ASSET, message, path)
    for library in filter(Path.is_file, libraries):
        for line in _joined_lines(library).splitlines():
            text = line.decode(errors="surrogateescape").replace("\\", "/").rstrip()[-_LONGEST_PATH:]
            # A path may contain spaces, and follows the name of the map and its options.
            paths = [text[word.start() :].strip("\"'") for word in re.finditer(r"\S+", text)]
            _refuse_outside_files(paths, library, path, root)


def refuse_outside_images(path: Path, root: Path) -> None:
    """Check that the images of a COLLADA file lie in the asset's folder.

    Raises:
        AssetError: uri_outside_asset; corrupt_file if the file is not well-formed XML.
    """
    try:
        names = _collada_images(path)
    except expat.ExpatError as error:
        raise AssetError(ReasonCode.CORRUPT_FILE, f"is not well-formed XML ({error})", path) from error
    for name in names:
        local = re.sub(r"^file:(//[^/]*)?", "", name)
        _refuse_outside_files([name, local, unquote(name), unquote(local)], path, path, root)


@contextmanager
def images_inside(root: Path) -> Iterator[None]:
    """Provide a context in which `bpy_extras.image_utils.load_image` finds images below `root` only.

    Blender's FBX importer calls it with any path, and it lists folders to find names that differ in case. An image
    elsewhere is looked for beside the file, as Blender does with one that does not exist.
    """
    from bpy_extras import image_utils

    load = image_utils.load_image

    def load_inside(imagepath: str, dirname: str = "", **options: Any) -> Any:
        image = os.path.join(dirname, imagepath)
        if not _is_inside(image, root.resolve()):
            image = os.path.join(dirname, os.path.basename(imagepath))
        return load(os.path.normpath(image), dirname, **options)

    image_utils.load_image = load_inside
    try:
        yield
    finally:
        image_utils.load_image = load


def _joined_lines(path: Path) -> bytes:
    return _CONTINUED.sub(b" ", path.read_bytes())


def _collada_images(path: Path) -> list[str]:
    found: list[str] = []
    inside = False

    def start(name: str, _attributes: dict[str, str]) -> None:
        nonlocal inside
        inside = inside or name.rpartition(":")[2] in _COLLADA_IMAGE
        if inside:
            found.append("")

    def text(data: str) -> None:
        if inside:
            found[-1] += data

    def end(_name: str) -> None:
        nonlocal inside
        inside = False

    parser = expat.ParserCreate()
    parser.StartElementHandler, parser.CharacterDataHandler, parser.EndElementHandler = start, text, end
    with open(path, "rb") as stream:
        parser.ParseFile(stream)
    return [name.strip() for name in found]


def _refuse_outside_files(names: Iterable[str], file: Path, path: Path, root: Path) -> None:
    for name in names:
        target = file.parent / name
        if os.path.lexists(target) and not _is_inside(target, root.resolve()):
            message = f"{file.name} refers to {name[:80]!r} outside the asset's folder: move it there"
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
            name = image.filepath[:80]
            yield f"{readers[0].name[:40]!r} reads the image {name!r} outside the asset's folder: pack it"
    known = {_absolute(bpy, image) for image in images}
    for used in bpy.utils.blend_paths(absolute=True, packed=False, local=False):
        if used not in known and not _is_inside(used, root):
            yield f"refers to {used[:80]!r} outside the asset's folder: move it there, or pack it"


def _absolute(bpy: Any, image: Any) -> str:
    found: str = bpy.path.abspath(image.filepath, library=image.library)
    return found


def _is_inside(name: str | Path, root: Path) -> bool:
    try:
        return Path(name).resolve().is_relative_to(root)
    except (OSError, ValueError, RuntimeError):
        return False

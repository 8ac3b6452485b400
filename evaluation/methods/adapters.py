"""Read a method's output files as a `Clip`: select the files, sort them, convert axes and select frames.

See `methods.py` for the files of each method.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from helix4d.assets import Clip, Frame, Material, Texture, Topology, bake, bake_still, content_hash
from helix4d.assets.limits import DEFAULT_LIMITS
from helix4d.core import AssetError, Helix4DError, ReasonCode, sha256_file, sha256_json
from helix4d.evaluation.methods.methods import GLTF_AXES, METHODS, Method, axes_matrix, judged_frames

_TRIMESH = (".obj", ".ply", ".off", ".stl")
_RUN_FILE = "run.json"
_WHITE = "replaced by white"
"""Part of the warning that `assets` emits for an image that cannot be read."""


class PredictionError(Helix4DError):
    """A prediction is missing or incomplete."""


def prediction_files(folder: Path, method: Method) -> list[Path]:
    """Return the prediction's files in an item's folder, in natural order.

    Raises:
        PredictionError: if there are none, several formats match, or several files match an animation.
    """
    if not folder.is_dir():
        raise PredictionError("no prediction: the item has no folder")
    suffixes = (".glb", ".gltf", ".fbx") if method.layout == "animation" else (".glb", ".gltf", *_TRIMESH)
    matched = (path for path in folder.glob(method.glob) if path.suffix.lower() in suffixes and path.is_file())
    files = sorted(matched, key=natural_order)
    if not files:
        raise PredictionError(f"no prediction: no mesh file in the item's folder matches {method.glob}")
    kinds = {path.suffix.lower() for path in files}
    if method.layout == "stills" and len(kinds) > 1:
        raise PredictionError(f"{method.glob} matches {', '.join(sorted(kinds))} files: select one format with --glob")
    if method.layout == "animation" and len(files) > 1:
        names = ", ".join(path.name for path in files)
        raise PredictionError(f"expected one animation, but {method.glob} matches {names}")
    return files


def fingerprint(folder: Path, method: Method) -> str | None:
    """Return the hash of names and contents of an item's files, or None if they are missing or unreadable.

    External buffers and images of glTF files are included, and `run.json` for our own frames.
    """
    try:
        files = prediction_files(folder, method)
        hashes = {path.relative_to(folder).as_posix(): content_hash(path) for path in files}
        if _has_run_file(folder, method):
            hashes[_RUN_FILE] = sha256_file(folder / _RUN_FILE)
    except (PredictionError, OSError):
        return None
    return sha256_json(hashes)


def read_prediction(folder: Path, method: Method, frames: int) -> Clip:
    """Read the evaluated frames of a sequence of `frames` frames.

    Raises:
        PredictionError: if files are missing or too few, or are not named like frames of one sequence.
        AssetError: if a file is broken.
    """
    files = prediction_files(folder, method)
    if method.layout == "animation":
        clip = _oriented(bake(files[0], frames=frames), method.axes)
        return _part(clip, judged_frames(method, frames))
    stills = _frame_files(folder, method, files)
    judged = judged_frames(method, frames)
    if len(stills) < frames and len(stills) != len(judged):
        raise PredictionError(f"the prediction has only {len(stills)} of {frames} frames")
    chosen = stills if len(stills) == len(judged) else [stills[number] for number in judged]
    _check_names([path.relative_to(folder).as_posix() for path in chosen if path is not None], method)
    return _oriented(join_stills([None if path is None else _read_still(path) for path in chosen]), method.axes)


def lost_textures(clip: Clip) -> str | None:
    """Return a message about the first of a prediction's textures that could not be read, or None."""
    return next((f"a texture could not be read: {warning}" for warning in clip.warnings if _WHITE in warning), None)


def join_stills(stills: Sequence[Clip | None]) -> Clip:
    """Join one-frame clips into one clip; None is a frame without surface. Equal stills share one topology.

    Raises:
        AssetError: if no frame has a surface.
    """
    if all(still is None for still in stills):
        raise AssetError(ReasonCode.EMPTY_GEOMETRY, "no frame has a surface")
    frames: list[Frame] = []
    materials: list[Material] = []
    images: list[np.ndarray] = []
    last: tuple[Clip, Topology] | None = None
    for still in stills:
        if still is None:
            empty = Topology(np.zeros((0, 3), np.int32), np.zeros((1, 0, 3, 2), np.float32), np.zeros(0, np.int32))
            frames.append(Frame(np.zeros((0, 3), np.float32), np.zeros((0, 3), np.float32), empty))
            continue
        frame = still.frames[0]
        if last is None or not _same_look(still, last[0]):
            topology = replace(frame.topology, material_ids=frame.topology.material_ids + np.int32(len(materials)))
            materials += [_with_images(material, len(images)) for material in still.materials]
            images += still.images
            last = still, topology
        frames.append(replace(frame, topology=last[1]))
    times = np.arange(len(frames), dtype=np.float64)
    warnings = dict.fromkeys(warning for still in stills if still is not None for warning in still.warnings)
    return Clip("prediction", 0, times, tuple(frames), tuple(materials), tuple(images), warnings=tuple(warnings))


def natural_order(path: Path) -> list[tuple[int, str]]:
    """Sort key that orders mesh_2 before mesh_10."""
    return [(int(word), "") if word.isdigit() else (-1, word) for word in re.split(r"(\d+)", path.as_posix())]


def _frame_files(folder: Path, method: Method, files: Sequence[Path]) -> list[Path | None]:
    """Return the file of each frame. Our own frames without a surface have none, which `run.json` records."""
    if not _has_run_file(folder, method):
        return list(files)
    try:
        face_counts = [frame["faces"] for frame in json.loads((folder / _RUN_FILE).read_bytes())["frames"]]
    except (ValueError, KeyError, TypeError) as error:
        raise PredictionError(f"{_RUN_FILE} is malformed ({error!r})") from error
    present = {path.name: path for path in files}
    frame_files: list[Path | None] = []
    for number, faces in enumerate(face_counts):
        name = f"frame_{number:02d}.glb"
        if faces and name not in present:
            raise PredictionError(f"{name} is missing, but {_RUN_FILE} lists it with {faces} faces")
        frame_files.append(present[name] if faces else None)
    return frame_files


def _check_names(names: Sequence[str], method: Method) -> None:
    """Check that file names differ only in their numbers: any other mesh among them would shift all frames."""
    kinds = list({re.sub(r"\d+", "#", name): name for name in reversed(names)}.values())
    if len(kinds) > 1:
        raise PredictionError(
            f"{method.glob} matches both {kinds[0]} and {kinds[1]}: select the frames of the sequence with --glob"
        )


def _has_run_file(folder: Path, method: Method) -> bool:
    return method.glob == METHODS["helix4d"].glob and (folder / _RUN_FILE).is_file()


def _read_still(path: Path) -> Clip:
    """Read a still in our axes (Z up), as if its coordinates were those of a glTF file."""
    return bake_still(path) if path.suffix.lower() in (".glb", ".gltf") else _read_by_trimesh(path)


def _read_by_trimesh(path: Path) -> Clip:
    """Read geometry and vertex colors of an .obj, .ply, .off or .stl file; textures are skipped with a warning."""
    import trimesh

    size = path.stat().st_size
    if not 0 < size <= DEFAULT_LIMITS.file_bytes:
        code = ReasonCode.OUT_OF_MEMORY if size else ReasonCode.EMPTY_FILE
        raise AssetError(code, f"file has {size} bytes: must be between 1 and {DEFAULT_LIMITS.file_bytes}", path)
    try:
        mesh: Any = trimesh.load(path, force="mesh", process=False, maintain_order=True, skip_materials=True)
        vertices = np.ascontiguousarray(mesh.vertices, np.float32)
        faces = np.ascontiguousarray(mesh.faces, np.int32)
        normals = np.ascontiguousarray(mesh.vertex_normals, np.float32)
        colors = np.asarray(mesh.visual.vertex_colors) if mesh.visual.kind == "vertex" else None
        textured = mesh.visual.kind == "texture"
    except (ValueError, IndexError, KeyError, TypeError, AttributeError, OSError, RuntimeError) as error:
        raise AssetError(ReasonCode.CORRUPT_FILE, f"cannot read mesh ({error!r})", path) from error
    if faces.ndim != 2 or not len(faces):
        raise AssetError(ReasonCode.EMPTY_GEOMETRY, "the mesh has no triangles", path)
    if not np.isfinite(vertices).all():
        raise AssetError(ReasonCode.NON_FINITE_GEOMETRY, "the mesh has non-finite vertices", path)
    linear = None if colors is None else _linear(colors)[faces]
    topology = Topology(faces, np.zeros((0, len(faces), 3, 2), np.float32), np.zeros(len(faces), np.int32), linear)
    matrix = axes_matrix(GLTF_AXES).T.astype(np.float32)
    frame = Frame(np.ascontiguousarray(vertices @ matrix), np.ascontiguousarray(normals @ matrix), topology)
    warnings = (f"textures of {path.suffix} files are not supported, {_WHITE}: convert to .glb",) if textured else ()
    return Clip("", -1, np.zeros(1), (frame,), (Material(metallic=0.0, double_sided=True),), warnings=warnings)


def _linear(colors: np.ndarray) -> np.ndarray:
    """Convert sRGB bytes (V, 4) to linear float32."""
    values = colors.astype(np.float32) / 255
    rgb = values[:, :3]
    values[:, :3] = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    return values


def _oriented(clip: Clip, axes: str) -> Clip:
    """Reorient a clip that was read as glTF but whose files have other axes."""
    turn = (axes_matrix(axes) @ np.linalg.inv(axes_matrix(GLTF_AXES))).astype(np.float32)
    if np.array_equal(turn, np.eye(3)):
        return clip
    frames = [replace(f, vertices=_turned(f.vertices, turn), normals=_turned(f.normals, turn)) for f in clip.frames]
    return replace(clip, frames=tuple(frames))


def _turned(vectors: np.ndarray, turn: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(vectors @ turn.T)


def _part(clip: Clip, numbers: Sequence[int]) -> Clip:
    return replace(clip, times=clip.times[list(numbers)], frames=tuple(clip.frames[number] for number in numbers))


def _same_look(a: Clip, b: Clip) -> bool:
    """Return whether two stills have the same triangles, UVs, colors, materials and images."""
    first, second = a.frames[0], b.frames[0]
    return (
        len(first.vertices) == len(second.vertices)
        and _equal(first.topology.colors, second.topology.colors)
        and all(
            _equal(getattr(first.topology, n), getattr(second.topology, n)) for n in ("faces", "uvs", "material_ids")
        )
        and a.materials == b.materials
        and len(a.images) == len(b.images)
        and all(_equal(x, y) for x, y in zip(a.images, b.images, strict=True))
    )


def _equal(a: np.ndarray | None, b: np.ndarray | None) -> bool:
    return a is b if a is None or b is None else np.array_equal(a, b)


def _with_images(material: Material, start: int) -> Material:
    """Return the material with the image indices of its textures shifted by `start`."""
    moved: dict[str, Any] = {
        name: replace(value, image=value.image + start)
        for name, value in vars(material).items()
        if isinstance(value, Texture)
    }
    return replace(material, **moved)

"""A method's output files become a `Clip`: which files, in which order, in which axes, how many frames count.

What each method's files are: `methods.py`.
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
"""How `assets` says that an image is lost."""


class PredictionError(Helix4DError):
    """A prediction is missing or incomplete."""


def prediction_files(folder: Path, method: Method) -> list[Path]:
    """The files of an item's folder, in natural order.

    Raises:
        PredictionError: if there is none, or more than the one of an animation.
    """
    if not folder.is_dir():
        raise PredictionError("no prediction: there is no folder for it")
    suffixes = (".glb", ".gltf", ".fbx") if method.layout == "animation" else (".glb", ".gltf", *_TRIMESH)
    matched = (path for path in folder.glob(method.glob) if path.suffix.lower() in suffixes and path.is_file())
    found = sorted(matched, key=natural_order)
    if not found:
        raise PredictionError(f"no prediction: nothing in its folder matches {method.glob}")
    kinds = {path.suffix.lower() for path in found}
    if method.layout == "stills" and len(kinds) > 1:
        raise PredictionError(f"{method.glob} matches {', '.join(sorted(kinds))}: let --glob say one of them")
    if method.layout == "animation" and len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise PredictionError(f"one animation is expected, {method.glob} matches {names}")
    return found


def fingerprint(folder: Path, method: Method) -> str | None:
    """Hash of names and contents of an item's files; None where there are none that can be read.

    Buffers and images beside a glTF file count, and what `run.json` says of our own frames.
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
    """The judged moments of a sequence of `frames` moments.

    Raises:
        PredictionError: if files are missing or too few, or do not look like frames of one sequence.
        AssetError: if one is broken.
    """
    files = prediction_files(folder, method)
    if method.layout == "animation":
        clip = _oriented(bake(files[0], frames=frames), method.axes)
        return _part(clip, judged_frames(method, frames))
    stills = _moments(folder, method, files)
    judged = judged_frames(method, frames)
    if len(stills) < frames and len(stills) != len(judged):
        raise PredictionError(f"{len(stills)} frames, {frames} are needed")
    chosen = stills if len(stills) == len(judged) else [stills[number] for number in judged]
    _check_names([path.relative_to(folder).as_posix() for path in chosen if path is not None], method)
    return _oriented(join_stills([None if path is None else _read_still(path) for path in chosen]), method.axes)


def lost_textures(clip: Clip) -> str | None:
    """Why a prediction does not look as its method meant it: the first of its images that was not read."""
    return next((f"a texture was not read: {warning}" for warning in clip.warnings if _WHITE in warning), None)


def join_stills(stills: Sequence[Clip | None]) -> Clip:
    """One-frame clips as the frames of one; None is a frame without surface. Equal triangles share one topology.

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
    """Sorts mesh_2 before mesh_10."""
    return [(int(word), "") if word.isdigit() else (-1, word) for word in re.split(r"(\d+)", path.as_posix())]


def _moments(folder: Path, method: Method, files: Sequence[Path]) -> list[Path | None]:
    """The file of each frame. Ours has none where a frame has no surface, and says so in `run.json`."""
    if not _has_run_file(folder, method):
        return list(files)
    try:
        counted = [frame["faces"] for frame in json.loads((folder / _RUN_FILE).read_bytes())["frames"]]
    except (ValueError, KeyError, TypeError) as error:
        raise PredictionError(f"{_RUN_FILE} cannot be understood ({error!r})") from error
    present = {path.name: path for path in files}
    moments: list[Path | None] = []
    for number, faces in enumerate(counted):
        name = f"frame_{number:02d}.glb"
        if faces and name not in present:
            raise PredictionError(f"{name} is missing, though {_RUN_FILE} counts its faces")
        moments.append(present[name] if faces else None)
    return moments


def _check_names(names: Sequence[str], method: Method) -> None:
    """Frames differ by their numbers: any other name among them is another mesh, which would shift all moments."""
    kinds = list({re.sub(r"\d+", "#", name): name for name in reversed(names)}.values())
    if len(kinds) > 1:
        raise PredictionError(
            f"{method.glob} takes {kinds[0]} and {kinds[1]} for frames of one sequence: let --glob say which"
        )


def _has_run_file(folder: Path, method: Method) -> bool:
    return method.glob == METHODS["helix4d"].glob and (folder / _RUN_FILE).is_file()


def _read_still(path: Path) -> Clip:
    """In the axes that a glTF of the same coordinates would have: Z up."""
    return bake_still(path) if path.suffix.lower() in (".glb", ".gltf") else _read_by_trimesh(path)


def _read_by_trimesh(path: Path) -> Clip:
    """Geometry and vertex colors of an .obj, .ply, .off or .stl; its textures are not read, which is warned of."""
    import trimesh

    size = path.stat().st_size
    if not 0 < size <= DEFAULT_LIMITS.file_bytes:
        code = ReasonCode.OUT_OF_MEMORY if size else ReasonCode.EMPTY_FILE
        raise AssetError(code, f"has {size} bytes, limit {DEFAULT_LIMITS.file_bytes}", path)
    try:
        mesh: Any = trimesh.load(path, force="mesh", process=False, maintain_order=True, skip_materials=True)
        vertices = np.ascontiguousarray(mesh.vertices, np.float32)
        faces = np.ascontiguousarray(mesh.faces, np.int32)
        normals = np.ascontiguousarray(mesh.vertex_normals, np.float32)
        colors = np.asarray(mesh.visual.vertex_colors) if mesh.visual.kind == "vertex" else None
        textured = mesh.visual.kind == "texture"
    except (ValueError, IndexError, KeyError, TypeError, AttributeError, OSError, RuntimeError) as error:
        raise AssetError(ReasonCode.CORRUPT_FILE, f"cannot be read ({error!r})", path) from error
    if faces.ndim != 2 or not len(faces):
        raise AssetError(ReasonCode.EMPTY_GEOMETRY, "has no triangle", path)
    if not np.isfinite(vertices).all():
        raise AssetError(ReasonCode.NON_FINITE_GEOMETRY, "has vertices that are not finite", path)
    linear = None if colors is None else _linear(colors)[faces]
    topology = Topology(faces, np.zeros((0, len(faces), 3, 2), np.float32), np.zeros(len(faces), np.int32), linear)
    matrix = axes_matrix(GLTF_AXES).T.astype(np.float32)
    frame = Frame(np.ascontiguousarray(vertices @ matrix), np.ascontiguousarray(normals @ matrix), topology)
    warnings = (f"textures of {path.suffix} files are not read: {_WHITE}; convert them to .glb",) if textured else ()
    return Clip("", -1, np.zeros(1), (frame,), (Material(metallic=0.0, double_sided=True),), warnings=warnings)


def _linear(colors: np.ndarray) -> np.ndarray:
    """(V, 4) sRGB bytes as linear float32."""
    values = colors.astype(np.float32) / 255
    rgb = values[:, :3]
    values[:, :3] = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    return values


def _oriented(clip: Clip, axes: str) -> Clip:
    """A clip that was read as glTF, in the axes that its files really have."""
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
    """Whether two stills have the same triangles, UVs, colors, materials and images."""
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
    """The material with its textures pointing to images that begin at `start`."""
    moved: dict[str, Any] = {
        name: replace(value, image=value.image + start)
        for name, value in vars(material).items()
        if isinstance(value, Texture)
    }
    return replace(material, **moved)

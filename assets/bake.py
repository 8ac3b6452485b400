"""Entry points for files of every format: validate, list animations, and bake them to `Clip`s."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Protocol

import numpy as np

from helix4d.assets.archive import single_asset
from helix4d.assets.choice import ALL, MOST_MOVING, ClipInfo, choose
from helix4d.assets.clip import Clip
from helix4d.assets.collada.asset import ColladaAsset
from helix4d.assets.gltf import GltfAsset, external_uris
from helix4d.assets.isolated import bake_in_child, list_in_child
from helix4d.assets.limits import DEFAULT_LIMITS, Limits
from helix4d.assets.outline import mark_outlines
from helix4d.assets.sampling import Sampling, moments_of
from helix4d.assets.sequence import sequence_files
from helix4d.assets.surface import Poser, motion_at, motion_of_times, nearly_still
from helix4d.assets.visibility import without_invisible
from helix4d.core import AssetError, ReasonCode
from helix4d.core.arrays import Float64Array
from helix4d.core.extras import missing_package
from helix4d.core.messages import reproducible
from helix4d.core.storage import is_fault

_GLTF = (".glb", ".gltf")
_COLLADA = (".dae",)
_BLENDER = (".abc", ".blend")
_FBX = (".fbx",)
_USD = (".usd", ".usda", ".usdc")
_ARCHIVES = (".zip", ".usdz")
SUFFIXES = frozenset(_GLTF + _COLLADA + _BLENDER + _FBX + _USD + _ARCHIVES)
"""Suffixes of files that can be baked. Folders of numbered .obj files can be baked, too."""


class _Asset(Protocol):
    @property
    def clips(self) -> list[ClipInfo]: ...
    def require_visible(self) -> None: ...
    def require_animation(self) -> None: ...
    def poser(self, index: int) -> Poser: ...
    def bake(self, index: int | None, times: Float64Array) -> Clip: ...


def validate(path: Path, limits: Limits = DEFAULT_LIMITS) -> None:
    """Check a file without decoding its images: container, JSON, references, bounds, URIs, finite values, sizes.

    Raises:
        AssetError: for the first problem found.
    """
    with _unpacked(Path(path), limits) as (inside, _):
        if not _is_sequence(inside) and _suffix(inside) in _GLTF:
            GltfAsset(inside, limits)
        elif _is_sequence(inside):
            sequence_files(inside)
        else:
            _check_file(inside, limits)


def list_clips(path: Path, limits: Limits = DEFAULT_LIMITS, isolated: bool = True) -> list[ClipInfo]:
    """List the animations of a file, in file order; [] for a static file.

    Args:
        path: as in `bake`.
        limits: upper bounds on the size of the file.
        isolated: as in `bake`.

    Raises:
        AssetError: if the file is broken.
    """
    with _unpacked(Path(path), limits) as (inside, root):
        if isolated and _may_crash(inside):
            return list_in_child(inside, root, limits)
        return list_unpacked(inside, root, limits)


def bake(
    path: Path,
    frames: int = 16,
    clip: str | int = MOST_MOVING,
    limits: Limits = DEFAULT_LIMITS,
    isolated: bool = True,
) -> Clip:
    """Bake one animation at `frames` times, evenly spaced from its first to its last key, both included.

    The keys are those of channels that move something visible. Surfaces that are fully transparent are left out.

    Args:
        path: file of any format in `SUFFIXES`, zip archive of exactly one, or folder of numbered .obj files.
        frames: number of frames, at least 1.
        clip: "most-moving", "longest", "first", an index, or the name of an animation.
        limits: upper bounds on the size of the file.
        isolated: read formats other than glTF in a child process, because a damaged file may crash the native
            libraries for these. Pass False in a process that is itself expendable, such as a worker.

    Raises:
        AssetError: if the file cannot be baked; no_animation if it has no such clip; crashed if the child dies.
        ValueError: if `clip` is "all" or `frames` is less than 1.
    """
    if clip == ALL:
        raise ValueError('bake() returns a single clip: use bake_clips() for "all"')
    return bake_clips(path, frames, clip, limits, isolated)[0]


def bake_clips(
    path: Path,
    frames: int | Sampling = 16,
    clip: str | int = ALL,
    limits: Limits = DEFAULT_LIMITS,
    isolated: bool = True,
) -> list[Clip]:
    """Bake several clips: all animations of the file for "all", otherwise one of them, each as `frames` samples it.

    Args:
        path: as in `bake`.
        frames: number of frames, spaced evenly over the animation, or how to sample it: in windows, or as a single
            frame, which also accepts files without an animation.
        clip: as in `bake`, or "all".
        limits: upper bounds on the size of the file.
        isolated: as in `bake`.

    Raises:
        AssetError, ValueError: see `bake`.
    """
    sampling = frames if isinstance(frames, Sampling) else Sampling(frames)
    with _unpacked(Path(path), limits) as (inside, root):
        if isolated and _may_crash(inside):
            return bake_in_child(inside, root, sampling, clip, limits)
        return bake_unpacked(inside, root, sampling, clip, limits)


def list_unpacked(path: Path, root: Path, limits: Limits) -> list[ClipInfo]:
    """List the animations of a file that is not an archive, in this process; `root` as in `bake_unpacked`."""
    return _open(path, limits, root).clips


def bake_unpacked(path: Path, root: Path, sampling: Sampling, clip: str | int, limits: Limits) -> list[Clip]:
    """Bake clips of a file that is not an archive, in this process.

    Args:
        path: file, or folder of numbered .obj files.
        root: folder that its references must not leave.
        sampling: how the animations are sampled.
        clip: as in `bake_clips`.
        limits: upper bounds on the size of the file.

    Raises:
        AssetError: see `bake`.
    """
    asset = _open(path, limits, root)
    asset.require_visible()
    if isinstance(asset, GltfAsset):  # other formats are checked during posing
        asset.require_memory(sampling.frames if sampling.static == "never" else 1)
    try:
        asset.require_animation()
    except AssetError as error:
        if sampling.static == "never" or error.code not in (ReasonCode.NO_ANIMATION, ReasonCode.NO_MOTION):
            raise
        return [_finished(asset.bake(None, np.zeros(1)), asset)]
    chosen = choose(asset.clips, clip, lambda index: _motion(asset, asset.clips[index]))
    return [_finished(one, asset) for index in chosen for one in _sampled(asset, asset.clips[index], sampling)]


def _sampled(asset: _Asset, info: ClipInfo, sampling: Sampling) -> Iterator[Clip]:
    """Bake an animation as often as it is sampled."""
    if sampling.static == "only":
        yield asset.bake(info.index, np.array([info.start]))
        return
    poser = cache(lambda: asset.poser(info.index))
    for moments in moments_of(sampling, info.start, info.end, lambda times: motion_at(times, poser())):
        yield replace(asset.bake(info.index, moments.times), window=moments.window)


def _motion(asset: _Asset, info: ClipInfo) -> float:
    return motion_of_times(info.start, info.end, asset.poser(info.index)) if info.end > info.start else 0.0


def _finished(clip: Clip, asset: _Asset) -> Clip:
    clip = mark_outlines(_with_probe(without_invisible(clip), asset))
    warnings = tuple(map(reproducible, clip.warnings))
    return clip if warnings == clip.warnings else replace(clip, warnings=warnings)


def _with_probe(clip: Clip, asset: _Asset) -> Clip:
    """Measure motion between the frames of a clip that hardly moves: they may all show the same phase of a loop."""
    if len(clip.frames) < 2 or not nearly_still(clip):
        return clip
    start, end = float(clip.times[0]), float(clip.times[-1])
    between = motion_of_times(start, end, asset.poser(clip.index)) if end > start else 0.0
    return replace(clip, motion_between=max(between, 0.0))


def _may_crash(path: Path) -> bool:
    """Return whether a file is read in a child process: every format except glTF."""
    return _is_sequence(path) or _suffix(path) not in _GLTF


def _is_sequence(path: Path) -> bool:
    """Return whether the path is a folder that may contain numbered files: any folder without a known suffix."""
    return path.is_dir() and path.suffix.lower() not in SUFFIXES


def bake_still(path: Path, limits: Limits = DEFAULT_LIMITS) -> Clip:
    """Bake the rest pose of a .glb or .gltf file, ignoring any animations: a clip of one frame at time 0, index −1.

    Raises:
        AssetError: if the file is broken or has no visible mesh.
    """
    path = Path(path)
    if _suffix(path) not in _GLTF:
        message = f"a still must be a {' or '.join(_GLTF)} file, found {path.suffix}"
        raise AssetError(ReasonCode.NOT_GLTF, message, path)
    return replace(mark_outlines(GltfAsset(path, limits).bake(None, np.zeros(1))), index=-1)


def _suffix(path: Path) -> str:
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        supported = ", ".join(_GLTF + _FBX + _COLLADA + _BLENDER + _USD + _ARCHIVES)
        found = f"the format {suffix}" if suffix else "a file without a suffix"
        raise AssetError(ReasonCode.NOT_GLTF, f"{found} is not supported: convert it to one of {supported}", path)
    return suffix


@contextmanager
def _unpacked(path: Path, limits: Limits) -> Iterator[tuple[Path, Path]]:
    """Provide the asset and the folder that its references must not leave; archives are unpacked for the block."""
    if not _is_sequence(path) and _suffix(path) in _ARCHIVES:
        _check_file(path, limits)
    with single_asset(path, limits) as (inside, root):
        if inside != path:
            _restore_moved_files(inside, root)
        yield inside, root


def _restore_moved_files(asset: Path, root: Path) -> None:
    """Restore files that model-sharing sites moved to another folder of the archive (`source/` and `textures/`).

    A file that a glTF asset refers to and that does not exist is linked to the only file with its name in the archive.
    """
    missing = [target for _, target in external_uris(asset) if not os.path.exists(target)]
    if not missing:
        return
    by_name: dict[str, list[Path]] = {}
    for path in root.rglob("*"):
        if path.is_file():
            by_name.setdefault(path.name.lower(), []).append(path)
    for target in missing:
        found = by_name.get(target.name.lower(), [])
        if len(found) == 1:
            try:
                target.parent.mkdir(parents=True, exist_ok=True)
                target.hardlink_to(found[0])
            except OSError as error:
                if is_fault(error):
                    raise
                continue  # not a valid file name: the file stays missing


def _open(path: Path, limits: Limits, root: Path) -> _Asset:
    # Start Blender, and load usd-core and ufbx, only when a format requires them.
    if _is_sequence(path):
        from helix4d.assets.blender.importer import ObjSequence

        return ObjSequence(path, limits, root)
    if _suffix(path) in _GLTF:
        return GltfAsset(path, limits)
    _check_file(path, limits)
    if _suffix(path) in _USD:
        try:
            from helix4d.assets.usd.asset import UsdAsset
        except ModuleNotFoundError as error:
            raise missing_package(f"{path.name}: reading USD files", "pxr") from error
        return UsdAsset(path, limits, root)
    if _suffix(path) in _FBX:
        try:
            from helix4d.assets.fbx.asset import FbxAsset
        except ModuleNotFoundError as error:
            raise missing_package(f"{path.name}: reading FBX files", "ufbx") from error
        return FbxAsset(path, limits, root)
    if _suffix(path) in _COLLADA:
        return ColladaAsset(path, limits, root)
    from helix4d.assets.blender.importer import BlenderAsset

    return BlenderAsset(path, limits, root)


def _check_file(path: Path, limits: Limits) -> None:
    try:
        size = path.stat().st_size
    except OSError as error:
        if is_fault(error):
            raise
        raise AssetError(ReasonCode.CORRUPT_FILE, f"cannot be read ({error.strerror})", path) from error
    if not path.is_file():
        raise AssetError(ReasonCode.CORRUPT_FILE, "is not a regular file", path)
    if size == 0:
        raise AssetError(ReasonCode.EMPTY_FILE, "the file is empty", path)
    if size > limits.file_bytes:
        message = f"has {size:,} bytes, more than the limit of {limits.file_bytes:,}"
        raise AssetError(ReasonCode.OUT_OF_MEMORY, message, path)

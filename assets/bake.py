"""A file becomes `Clip`s: validation, the choice among a file's animations, and the way in for every format."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from helix4d.assets.archive import single_asset
from helix4d.assets.choice import ALL, MOST_MOVING, ClipInfo, choose
from helix4d.assets.clip import Clip
from helix4d.assets.gltf import GltfAsset, gltf_clips
from helix4d.assets.limits import DEFAULT_LIMITS, Limits
from helix4d.assets.sequence import sequence_files
from helix4d.core import AssetError, ReasonCode

_GLTF = (".glb", ".gltf")
_BLENDER = (".fbx", ".dae", ".abc", ".usd", ".usda", ".usdc", ".blend")
_ARCHIVES = (".zip", ".usdz")
SUFFIXES = frozenset(_GLTF + _BLENDER + _ARCHIVES)
"""Of files that can be baked; a folder of numbered .obj files can be, too."""


class _Asset(Protocol):
    clips: list[ClipInfo]

    def require_visible_animation(self) -> None: ...
    def probe_motion(self, index: int) -> float: ...
    def bake(self, index: int, frames: int) -> Clip: ...


def validate(path: Path, limits: Limits = DEFAULT_LIMITS) -> None:
    """Check a file without decoding an image: container, JSON, references, bounds, URIs, finiteness, sizes.

    Raises:
        AssetError: with the reason code of the first thing found wrong.
    """
    with _unpacked(Path(path), limits) as (inside, _):
        if not _is_sequence(inside) and _suffix(inside) in _GLTF:
            GltfAsset(inside, limits)
        elif _is_sequence(inside):
            sequence_files(inside)
        else:
            _check_file(inside, limits)


def list_clips(path: Path, limits: Limits = DEFAULT_LIMITS) -> list[ClipInfo]:
    """The animations of a file, in its order; [] for a static file.

    Raises:
        AssetError: if the file is broken.
    """
    with _unpacked(Path(path), limits) as (inside, root):
        if not _is_sequence(inside) and _suffix(inside) in _GLTF:
            return gltf_clips(inside, limits)
        return _open(inside, limits, root).clips


def bake(path: Path, frames: int = 16, clip: str | int = MOST_MOVING, limits: Limits = DEFAULT_LIMITS) -> Clip:
    """Evaluate one animation at `frames` times spaced evenly from its first to its last key, both included.

    Args:
        path: a file of any format in `SUFFIXES`, a zip of exactly one, or a folder of numbered .obj files.
        frames: how many, at least 1.
        clip: "most-moving", "longest", "first", an index, or an animation's name.
        limits: what the file may cost.

    Raises:
        AssetError: with the reason why the file cannot be baked; no_animation if it has no such clip.
        ValueError: for "all", or less than one frame.
    """
    if clip == ALL:
        raise ValueError("bake() returns one clip: use bake_clips() for all of them")
    return bake_clips(path, frames, clip, limits)[0]


def bake_clips(path: Path, frames: int = 16, clip: str | int = ALL, limits: Limits = DEFAULT_LIMITS) -> list[Clip]:
    """`bake` for several clips: every one of the file for "all", a list of one otherwise.

    Raises:
        AssetError, ValueError: as `bake`.
    """
    if frames < 1:
        raise ValueError(f"frames must be at least 1, found {frames}")
    with _unpacked(Path(path), limits) as (inside, root):
        asset = _open(inside, limits, root)
        asset.require_visible_animation()
        return [asset.bake(index, frames) for index in choose(asset.clips, clip, asset.probe_motion)]


def _is_sequence(path: Path) -> bool:
    """Whether it may be a folder of numbered files: any folder that is not called like a file."""
    return path.is_dir() and path.suffix.lower() not in SUFFIXES


def bake_still(path: Path, limits: Limits = DEFAULT_LIMITS) -> Clip:
    """A .glb or .gltf as its nodes place it, whether it has animations or not: a clip of one frame at time 0.

    Raises:
        AssetError: if the file is broken or shows nothing.
    """
    path = Path(path)
    if _suffix(path) not in _GLTF:
        raise AssetError(ReasonCode.NOT_GLTF, f"a still is read from {' or '.join(_GLTF)}, not {path.suffix}", path)
    return GltfAsset(path, limits).bake_still()


def _suffix(path: Path) -> str:
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        supported = ", ".join(_GLTF + _BLENDER + _ARCHIVES)
        raise AssetError(ReasonCode.NOT_GLTF, f"{suffix or 'no suffix'} is not supported, only {supported}", path)
    return suffix


@contextmanager
def _unpacked(path: Path, limits: Limits) -> Iterator[tuple[Path, Path]]:
    """The asset and the folder that it must not leave; what an archive held lives as long as the block runs."""
    if not _is_sequence(path) and _suffix(path) in _ARCHIVES:
        _check_file(path, limits)
    with single_asset(path, limits) as (inside, root):
        yield inside, root


def _open(path: Path, limits: Limits, root: Path) -> _Asset:
    # Blender is started only when it is needed.
    if _is_sequence(path):
        from helix4d.assets.blender.importer import ObjSequence

        return ObjSequence(path, limits, root)
    if _suffix(path) in _GLTF:
        return GltfAsset(path, limits)
    _check_file(path, limits)
    from helix4d.assets.blender.importer import BlenderAsset

    return BlenderAsset(path, limits, root)


def _check_file(path: Path, limits: Limits) -> None:
    try:
        size = path.stat().st_size
    except OSError as error:
        raise AssetError(ReasonCode.CORRUPT_FILE, f"cannot be read: {error}", path) from error
    if not path.is_file():
        raise AssetError(ReasonCode.CORRUPT_FILE, "is not a readable file", path)
    if size == 0:
        raise AssetError(ReasonCode.EMPTY_FILE, "has no bytes", path)
    if size > limits.file_bytes:
        raise AssetError(ReasonCode.OUT_OF_MEMORY, f"has {size} bytes, limit {limits.file_bytes}", path)

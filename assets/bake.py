"""A file becomes `Clip`s: validation, the choice among a file's animations, and the way in for every format."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from assets.choice import ALL, MOST_MOVING, ClipInfo, choose
from assets.clip import Clip
from assets.gltf import GltfAsset, gltf_clips
from assets.limits import DEFAULT_LIMITS, Limits
from core import AssetError, ReasonCode

_GLTF = (".glb", ".gltf")
_BLENDER = (".fbx",)


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
    if _suffix(Path(path)) in _GLTF:
        GltfAsset(Path(path), limits)
    else:
        _check_file(Path(path), limits)


def list_clips(path: Path, limits: Limits = DEFAULT_LIMITS) -> list[ClipInfo]:
    """The animations of a file, in its order; [] for a static file.

    Raises:
        AssetError: if the file is broken.
    """
    path = Path(path)
    if _suffix(path) in _GLTF:
        return gltf_clips(path, limits)
    return _open(path, limits).clips


def bake(path: Path, frames: int = 16, clip: str | int = MOST_MOVING, limits: Limits = DEFAULT_LIMITS) -> Clip:
    """Evaluate one animation at `frames` times spaced evenly from its first to its last key, both included.

    Args:
        path: a .glb, .gltf or .fbx file.
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
    asset = _open(Path(path), limits)
    asset.require_visible_animation()
    return [asset.bake(index, frames) for index in choose(asset.clips, clip, asset.probe_motion)]


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
    if suffix not in _GLTF + _BLENDER:
        supported = ", ".join(_GLTF + _BLENDER)
        raise AssetError(ReasonCode.NOT_GLTF, f"{suffix or 'no suffix'} is not supported, only {supported}", path)
    return suffix


def _open(path: Path, limits: Limits) -> _Asset:
    if _suffix(path) in _GLTF:
        return GltfAsset(path, limits)
    _check_file(path, limits)
    from assets.blender_import import BlenderAsset  # starts Blender, so only when it is needed

    return BlenderAsset(path, limits)


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

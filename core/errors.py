"""Typed errors and the one list of reason codes that an asset can end with.

A reason code fixes the final state: some mean that the asset is well formed but unwanted (`filtered`), the others
that it is broken or beyond our limits (`failed`).
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path


class Helix4DError(Exception):
    """Base of every error that this project raises on purpose."""


class ConfigError(Helix4DError):
    """A setting is impossible or contradicts another; the message gives the numbers."""


class FormatError(Helix4DError):
    """A file of ours (shard, `.vxz`, clip, ledger) is not what its format says."""


def first_line(error: BaseException) -> str:
    """What another package's error says, without its advice of many lines; its type's name where it says nothing."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


class AssetState(StrEnum):
    """The three ends of an asset. Counts over them always add up to the inputs."""

    DONE = "done"
    FILTERED = "filtered"
    FAILED = "failed"


class ReasonCode(StrEnum):
    """Why an asset did not become a sample."""

    # Well formed, but unwanted.
    NO_ANIMATION = "no_animation"
    ZERO_DURATION = "zero_duration"
    NO_MOTION = "no_motion"
    EMPTY_FIRST_FRAME = "empty_first_frame"
    OBJECT_TOO_SMALL_IN_UNION_BBOX = "object_too_small_in_union_bbox"
    DUPLICATE = "duplicate"
    NEAR_DUPLICATE = "near_duplicate"
    LICENSE = "license"
    LICENSE_UNKNOWN = "license_unknown"
    CENTROID_EXCURSION = "centroid_excursion"
    SCALE_EXCURSION = "scale_excursion"
    SMALL_FOREGROUND = "small_foreground"
    HIDDEN_SURFACE = "hidden_surface"
    FLICKER = "flicker"
    FACE_LIMIT = "face_limit"
    TEXTURE_LIMIT = "texture_limit"
    # Not there.
    DOWNLOAD_FAILED = "download_failed"
    CHECKSUM_MISMATCH = "checksum_mismatch"
    # Broken, or beyond our limits.
    EMPTY_FILE = "empty_file"
    NOT_GLTF = "not_gltf"
    CORRUPT_FILE = "corrupt_file"
    INVALID_ARCHIVE = "invalid_archive"
    UNSUPPORTED_GLTF_VERSION = "unsupported_gltf_version"
    UNSUPPORTED_EXTENSION = "unsupported_extension"
    INVALID_GLTF = "invalid_gltf"
    INVALID_SCENE_GRAPH = "invalid_scene_graph"
    INVALID_ACCESSOR = "invalid_accessor"
    MISSING_BUFFER = "missing_buffer"
    URI_OUTSIDE_ASSET = "uri_outside_asset"
    NO_MESH = "no_mesh"
    EMPTY_GEOMETRY = "empty_geometry"
    DEGENERATE_GEOMETRY = "degenerate_geometry"
    NON_FINITE_GEOMETRY = "non_finite_geometry"
    PRECISION_LOSS = "precision_loss"
    TEXTURE_TOO_LARGE = "texture_too_large"
    UNUSABLE_VIDEO = "unusable_video"
    TIMEOUT = "timeout"
    OUT_OF_MEMORY = "out_of_memory"
    CRASHED = "crashed"

    @property
    def state(self) -> AssetState:
        """`AssetState.FILTERED` or `AssetState.FAILED`."""
        return AssetState.FILTERED if self in _FILTERED else AssetState.FAILED


_FILTERED = frozenset(
    {
        ReasonCode.NO_ANIMATION,
        ReasonCode.ZERO_DURATION,
        ReasonCode.NO_MOTION,
        ReasonCode.EMPTY_FIRST_FRAME,
        ReasonCode.OBJECT_TOO_SMALL_IN_UNION_BBOX,
        ReasonCode.DUPLICATE,
        ReasonCode.NEAR_DUPLICATE,
        ReasonCode.LICENSE,
        ReasonCode.LICENSE_UNKNOWN,
        ReasonCode.CENTROID_EXCURSION,
        ReasonCode.SCALE_EXCURSION,
        ReasonCode.SMALL_FOREGROUND,
        ReasonCode.HIDDEN_SURFACE,
        ReasonCode.FLICKER,
        ReasonCode.FACE_LIMIT,
        ReasonCode.TEXTURE_LIMIT,
    }
)


class AssetError(Helix4DError):
    """An asset cannot become a sample.

    Args:
        code: the reason, which also fixes the asset's final state.
        message: what was found, and where in the file.
        path: the file concerned; its name opens the message.
    """

    def __init__(self, code: ReasonCode, message: str, path: Path | str | None = None) -> None:
        self.code = code
        self.message = message
        self.path = None if path is None else str(path)
        prefix = "" if path is None else f"{Path(path).name}: "
        super().__init__(f"{prefix}{message} [{code}]")

    def __reduce__(self) -> tuple[type[AssetError], tuple[ReasonCode, str, str | None]]:
        return type(self), (self.code, self.message, self.path)

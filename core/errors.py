"""Typed errors, and the reason codes for assets that do not become samples.

The reason code determines the final state: `filtered` for assets that are well formed but unwanted, `failed` for
assets that are broken or exceed a limit.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path

from helix4d.core.messages import reproducible


class Helix4DError(Exception):
    """Base class of every error that this project raises deliberately."""


class ConfigError(Helix4DError):
    """A setting is invalid or contradicts another one; the message states the values."""


class SetupError(ConfigError):
    """A machine lacks what every asset needs: a package, a driver, a GPU, a file of the operator.

    It stops the run, whereas other errors in a worker fail only one asset. It must therefore never depend on the
    content of an asset.
    """


class FormatError(Helix4DError):
    """A file written by helix4d (shard, `.vxz`, clip, ledger) does not conform to its format."""


def first_line(error: BaseException) -> str:
    """Return the first non-empty line of an error's message, or the name of its type if the message is empty."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


class AssetState(StrEnum):
    """Final state of an asset. The counts of the three states always add up to the number of inputs."""

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
    FEW_POSES = "few_poses"
    START_JUMP = "start_jump"
    BACKDROP = "backdrop"
    EMISSIVE = "emissive"
    OUTLINE = "outline"
    FACE_LIMIT = "face_limit"
    TEXTURE_LIMIT = "texture_limit"
    TOKEN_LIMIT = "token_limit"
    FRAME_GAP = "frame_gap"
    NOT_SELECTED = "not_selected"
    # Unavailable.
    DOWNLOAD_FAILED = "download_failed"
    HOST_NOT_ALLOWED = "host_not_allowed"
    CHECKSUM_MISMATCH = "checksum_mismatch"
    # Broken, or over a limit.
    EMPTY_FILE = "empty_file"
    NOT_GLTF = "not_gltf"
    CORRUPT_FILE = "corrupt_file"
    INVALID_ARCHIVE = "invalid_archive"
    UNSUPPORTED_GLTF_VERSION = "unsupported_gltf_version"
    UNSUPPORTED_VERSION = "unsupported_version"
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
        """Final state of the asset: `AssetState.FILTERED` or `AssetState.FAILED`."""
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
        ReasonCode.FEW_POSES,
        ReasonCode.START_JUMP,
        ReasonCode.BACKDROP,
        ReasonCode.EMISSIVE,
        ReasonCode.OUTLINE,
        ReasonCode.FACE_LIMIT,
        ReasonCode.TEXTURE_LIMIT,
        ReasonCode.TOKEN_LIMIT,
        ReasonCode.FRAME_GAP,
        ReasonCode.NOT_SELECTED,
    }
)


class AssetError(Helix4DError):
    """Raised when an asset cannot become a sample.

    Args:
        code: reason, which also determines the asset's final state.
        message: what was found, and where in the file; `core.messages.reproducible` is applied to it.
        path: file concerned; its name is prefixed to the message.
    """

    def __init__(self, code: ReasonCode, message: str, path: Path | str | None = None) -> None:
        self.code = code
        self.message = reproducible(message)
        self.path = None if path is None else str(path)
        prefix = "" if path is None else f"{Path(path).name}: "
        super().__init__(f"{prefix}{self.message} [{code}]")

    def __reduce__(self) -> tuple[type[AssetError], tuple[ReasonCode, str, str | None]]:
        return type(self), (self.code, self.message, self.path)

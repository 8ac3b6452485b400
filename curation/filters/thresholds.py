"""The quality filters: the measure, threshold and reason code of each.

A decision depends only on recorded measures and on the settings. It can therefore be repeated from a ledger with other
thresholds, without reading the assets: `helix4d filter` does that.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from helix4d.core import ConfigError, ReasonCode
from helix4d.curation.filters.expression import parse_expression
from helix4d.curation.filters.licenses import parse_license_list

_SHARES = (
    "min_size",
    "min_motion",
    "min_foreground",
    "min_visible",
    "max_flicker",
    "max_backdrop_share",
    "max_emissive_share",
    "max_outline_share",
)
"""Thresholds from 0 to 1."""
ADDED: Mapping[str, Any] = {
    "min_distinct_poses": None,
    "max_start_jump": None,
    "max_backdrop_share": None,
    "max_emissive_share": None,
    "max_outline_share": None,
    "max_tokens": None,
    "max_frame_gap_s": None,
    "where": "",
}
"""Thresholds added since version 0.3.0, with the values that disable them."""


@dataclass(frozen=True)
class FilterConfig:
    """Thresholds that a clip must pass to become a sample. None disables a threshold."""

    min_size: float = 0.05
    """Minimum √area of the largest frame, relative to the diagonal of the box around all frames.
    Reason: object_too_small_in_union_bbox."""
    min_motion: float = 0.01
    """Minimum of the largest distance that the surface moves, relative to the same diagonal.
    A change in appearance of at least this much (color, opacity or emission, from 0 to 1) also passes.
    Reason: no_motion."""
    max_centroid_excursion: float | None = None
    """Maximum distance of the centroid from its start, in edge lengths of the object's own box.
    Reason: centroid_excursion."""
    max_scale_excursion: float | None = None
    """Maximum edge of the box around all frames, relative to that of the box around 98 % of the surface.
    Reason: scale_excursion."""
    min_foreground: float | None = None
    """Minimum share of the image that the silhouette fills (0 to 1). Reason: small_foreground."""
    min_visible: float | None = None
    """Minimum share of the surface that is visible from outside (0 to 1). Reason: hidden_surface."""
    max_flicker: float | None = None
    """Maximum share of the surface that appears or vanishes from frame to frame (0 to 1). Reason: flicker."""
    min_distinct_poses: int | None = None
    """Minimum number of frames that show different poses. Reason: few_poses."""
    max_start_jump: float | None = None
    """Maximum motion from frame 0 to 1, relative to the largest later step; a bind pose in frame 0 is far above 1.
    Reason: start_jump."""
    max_backdrop_share: float | None = None
    """Maximum share of the surface that belongs to a sky or a ground (0 to 1). Reason: backdrop."""
    max_emissive_share: float | None = None
    """Maximum share of the visible surface that emits light (0 to 1). Reason: emissive."""
    max_outline_share: float | None = None
    """Maximum share of the surface that belongs to inverted hulls, which draw outlines (0 to 1). Reason: outline."""
    min_faces: int | None = None
    """Minimum number of triangles in the largest frame. Reason: face_limit."""
    max_faces: int | None = None
    """Maximum number of triangles in the largest frame. Reason: face_limit."""
    min_texture_pixels: int | None = None
    """Minimum number of pixels over all textures of the file. Reason: texture_limit."""
    max_texture_pixels: int | None = None
    """Maximum number of pixels over all textures of the file. Reason: texture_limit."""
    max_tokens: int | None = 8192
    """Maximum number of latent tokens of a frame: TRELLIS.2 drops larger ones at 512³. Reason: token_limit."""
    max_frame_gap_s: float | None = None
    """Maximum time between neighboring frames, in seconds. Reason: frame_gap."""
    where: str = ""
    """Condition on the metadata of the source, such as "aesthetic_score >= 4.5 and tags contains 'animal'"; assets that
    do not satisfy it are not downloaded. See docs/filters.md. Reason: not_selected."""
    licenses: str = ""
    """Licenses to keep, such as cc0,by,by-sa; empty keeps all.
    Reasons: license, or license_unknown if the license is not recognized."""

    def __post_init__(self) -> None:
        for name in _SHARES:
            value = getattr(self, name)
            if value is not None and not 0 <= value <= 1:
                raise ConfigError(f"{_option(name)} {value}: must be between 0 and 1")
        for name in ("max_centroid_excursion", "max_scale_excursion", "max_start_jump", "max_frame_gap_s"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < float("inf"):
                raise ConfigError(f"{_option(name)} {value}: must be a finite number of at least 0")
        if self.min_distinct_poses is not None and self.min_distinct_poses < 0:
            raise ConfigError(f"--min-distinct-poses {self.min_distinct_poses}: must be at least 0")
        if self.max_tokens is not None and self.max_tokens < 1:
            raise ConfigError(f"--max-tokens {self.max_tokens}: must be at least 1, or None for no limit")
        if self.where:
            parse_expression(self.where)
        for what in ("faces", "texture_pixels"):
            low, high = getattr(self, f"min_{what}"), getattr(self, f"max_{what}")
            options = f"{_option(f'min_{what}')} {low}, {_option(f'max_{what}')} {high}"
            if any(value is not None and value < 0 for value in (low, high)):
                raise ConfigError(f"{options}: must be at least 0")
            if low is not None and high is not None and low > high:
                raise ConfigError(f"{options}: the minimum is greater than the maximum, so no clip could pass")
        # A canonical spelling and order: equivalent lists are equal settings.
        object.__setattr__(self, "licenses", ",".join(sorted(parse_license_list(self.licenses))))

    @property
    def allowed_licenses(self) -> frozenset[str]:
        """Names of the licenses to keep; empty if all are kept."""
        return frozenset(filter(None, self.licenses.split(",")))

    def to_json(self) -> dict[str, Any]:
        """Return the values as JSON. Those newer than 0.3.0 are omitted when off, so existing hashes stay valid."""
        return {name: value for name, value in asdict(self).items() if name not in ADDED or value != ADDED[name]}


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


@dataclass(frozen=True)
class MeasuredClip:
    """A clip as the filters see it. The ledger records one for every clip that could be measured.

    Attributes:
        key: key of the clip's sample, whether the clip is kept or not.
        name: name of the animation.
        measures: name of a measure -> value.
        license: `cc0`, `by`, ...; "" if unknown.
        license_text: license as stated by the file and its source.
        geometry_hash: hash of the shape, for near-duplicates.
        reason: why the clip was dropped, None if it was kept.
    """

    key: str
    name: str
    measures: Mapping[str, float]
    license: str = ""
    license_text: str = ""
    geometry_hash: str = ""
    reason: ReasonCode | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the values as JSON."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


@dataclass(frozen=True)
class Filter:
    """A measure and its thresholds.

    Attributes:
        measure: name of the measure.
        code: reason code of the clips that the filter drops.
        what: description of the measure, for messages and reports.
        above: fixed lower bound, exclusive; None for no such bound.
        least, most: names of the `FilterConfig` fields with the minimum and maximum; "" for none.
        instead: name of another measure that may reach the minimum in its place; "" for none.
    """

    measure: str
    code: ReasonCode
    what: str
    above: float | None = None
    least: str = ""
    most: str = ""
    instead: str = ""

    def judged(self, measures: Mapping[str, float]) -> float | None:
        """Return the value that the thresholds apply to, None if it was not measured."""
        value = measures.get(self.measure)
        return value if value is None else max(value, measures.get(self.instead, value))

    def bounds(self, config: FilterConfig) -> tuple[float | None, float | None]:
        """Return the minimum and maximum that the settings allow."""
        least, most = (getattr(config, name) if name else None for name in (self.least, self.most))
        return least, most

    def objection(self, value: float, config: FilterConfig) -> str:
        """Return why a value does not pass, "" if it does."""
        least, most = self.bounds(config)
        if self.above is not None and value <= self.above:
            return f"{self.measure} {value:.4g} is not greater than {self.above:.4g} ({self.what})"
        if least is not None and value < least:
            return f"{self.measure} {value:.4g} is below the minimum of {least:.4g} ({self.what})"
        if most is not None and value > most:
            return f"{self.measure} {value:.4g} is above the maximum of {most:.4g} ({self.what})"
        return ""


FILTERS = (
    Filter("duration_s", ReasonCode.ZERO_DURATION, "seconds from the first to the last frame", above=0.0),
    Filter(
        "first_frame",
        ReasonCode.EMPTY_FIRST_FRAME,
        "surface area of the first frame, relative to the largest frame",
        above=0.0,
    ),
    Filter(
        "size",
        ReasonCode.OBJECT_TOO_SMALL_IN_UNION_BBOX,
        "√area of the largest frame, relative to the diagonal of the box around all frames",
        least="min_size",
    ),
    Filter(
        "motion",
        ReasonCode.NO_MOTION,
        "largest distance that the surface moves, relative to the diagonal of the box around all frames",
        least="min_motion",
        instead="appearance_change",
    ),
    Filter(
        "centroid_excursion",
        ReasonCode.CENTROID_EXCURSION,
        "largest distance of the centroid from its start, in edge lengths of the object's own box",
        most="max_centroid_excursion",
    ),
    Filter(
        "scale_excursion",
        ReasonCode.SCALE_EXCURSION,
        "edge of the box around all frames, relative to that of the box around 98 % of the surface",
        most="max_scale_excursion",
    ),
    Filter(
        "foreground",
        ReasonCode.SMALL_FOREGROUND,
        "share of the bounding sphere's disc that the silhouette fills",
        least="min_foreground",
    ),
    Filter(
        "visible",
        ReasonCode.HIDDEN_SURFACE,
        "share of the surface that is visible from outside",
        least="min_visible",
    ),
    Filter(
        "flicker",
        ReasonCode.FLICKER,
        "share of the surface that appears or vanishes between consecutive frames",
        most="max_flicker",
    ),
    Filter(
        "distinct_poses",
        ReasonCode.FEW_POSES,
        "frames that show different poses",
        least="min_distinct_poses",
    ),
    Filter(
        "start_jump",
        ReasonCode.START_JUMP,
        "motion from frame 0 to 1, relative to the largest later step",
        most="max_start_jump",
    ),
    Filter(
        "backdrop_share",
        ReasonCode.BACKDROP,
        "share of the surface that belongs to a sky or a ground",
        most="max_backdrop_share",
    ),
    Filter(
        "emissive_share",
        ReasonCode.EMISSIVE,
        "share of the visible surface that emits light",
        most="max_emissive_share",
    ),
    Filter(
        "outline_share",
        ReasonCode.OUTLINE,
        "share of the surface that belongs to inverted hulls (outlines)",
        most="max_outline_share",
    ),
    Filter(
        "frame_gap_s",
        ReasonCode.FRAME_GAP,
        "seconds between neighboring frames",
        most="max_frame_gap_s",
    ),
    Filter(
        "faces",
        ReasonCode.FACE_LIMIT,
        "non-degenerate triangles in the largest frame",
        least="min_faces",
        most="max_faces",
    ),
    Filter(
        "texture_pixels",
        ReasonCode.TEXTURE_LIMIT,
        "pixels over all textures of the file",
        least="min_texture_pixels",
        most="max_texture_pixels",
    ),
    Filter(
        "tokens",
        ReasonCode.TOKEN_LIMIT,
        "latent tokens of the largest frame, known after voxelization",
        most="max_tokens",
    ),
)
"""The filters in the order in which they are applied: the first that a clip does not pass gives the reason."""


@dataclass(frozen=True)
class Refusal:
    """Reason why a clip is dropped."""

    code: ReasonCode
    message: str


def missing_measures(clips: Iterable[Mapping[str, float]]) -> dict[str, int]:
    """Count the clips that an older version measured, which lack some measures: measure -> clips without it.

    Args:
        clips: measures of each clip. Clips without a visible first frame, and of one frame, have few measures in any
            version; tokens are counted only for clips that pass everything else.
    """
    recorded = [measures for measures in clips if measures.get("first_frame") != 0.0 and "duration_s" in measures]
    expected = [one.measure for one in FILTERS if one.measure != "tokens"]
    counts = {name: sum(name not in measures for measures in recorded) for name in expected}
    return {name: count for name, count in counts.items() if count}


def judge(clip: MeasuredClip, config: FilterConfig) -> Refusal | None:
    """Return the first filter's refusal of a clip, or None if the clip passes. Missing measures pass."""
    for one in FILTERS:
        value = one.judged(clip.measures)
        if value is not None and (objection := one.objection(value, config)):
            return Refusal(one.code, f"clip {clip.name!r}: {objection}")
    return judge_license(clip, config)


def judge_metadata(metadata: Mapping[str, Any], config: FilterConfig) -> Refusal | None:
    """Apply `FilterConfig.where`, which needs nothing but the metadata of the source."""
    if not config.where or parse_expression(config.where).matches(metadata):
        return None
    return Refusal(ReasonCode.NOT_SELECTED, f"its metadata does not satisfy --where {config.where!r}")


def judge_license(clip: MeasuredClip, config: FilterConfig) -> Refusal | None:
    """Apply the license filter alone."""
    if not config.licenses or clip.license in config.allowed_licenses:
        return None
    stated = f"stated as {clip.license_text!r}" if clip.license_text else "the asset states none"
    code = ReasonCode.LICENSE if clip.license else ReasonCode.LICENSE_UNKNOWN
    return Refusal(code, f"license {clip.license or 'unknown'} ({stated}) is not among {config.licenses}")

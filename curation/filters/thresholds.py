"""The quality filters: what each measures, which setting bounds it, and the reason code of what it drops.

A decision depends on recorded measures and on the settings alone, so it can be made again from a ledger, with other
thresholds, without looking at an asset: `helix4d filter` does that.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from helix4d.core import ConfigError, ReasonCode
from helix4d.curation.filters.licenses import parse_license_list


@dataclass(frozen=True)
class FilterConfig:
    """What a clip must be in order to become a sample. `None` turns a bound off."""

    min_size: float = 0.05
    """Least √area of the frame that shows most, as a share of the union diagonal: object_too_small_in_union_bbox."""
    min_motion: float = 0.01
    """Clips whose surface moves less than this share of the union diagonal are filtered: no_motion."""
    max_centroid_excursion: float | None = None
    """Farthest that the centroid may get from its start, in edges of the object's own box: centroid_excursion."""
    max_scale_excursion: float | None = None
    """How much larger the union box may be than the box around 98 % of the surface: scale_excursion."""
    min_foreground: float | None = None
    """Least share of the picture that the silhouette fills: small_foreground."""
    min_visible: float | None = None
    """Least share of the surface that is visible from outside: hidden_surface."""
    max_flicker: float | None = None
    """Largest share of the surface that may pop between neighboring frames: flicker."""
    min_faces: int | None = None
    """Least triangles of the frame that has most: face_limit."""
    max_faces: int | None = None
    """Most triangles of a frame: face_limit."""
    min_texture_pixels: int | None = None
    """Least pixels of all images together: texture_limit."""
    max_texture_pixels: int | None = None
    """Most pixels of all images together: texture_limit."""
    licenses: str = ""
    """Licenses to keep, as in cc0,by,by-sa; others end as license, unknown ones as license_unknown. Empty: all."""

    def __post_init__(self) -> None:
        for name in ("min_size", "min_motion", "min_foreground", "min_visible", "max_flicker"):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= 1:
                raise ConfigError(f"{name} {value}: a share from 0 to 1 is needed")
        for name in ("max_centroid_excursion", "max_scale_excursion"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < float("inf"):
                raise ConfigError(f"{name} {value}: a number of 0 or more is needed")
        for what in ("faces", "texture_pixels"):
            low, high = getattr(self, f"min_{what}"), getattr(self, f"max_{what}")
            if any(value is not None and value < 0 for value in (low, high)):
                raise ConfigError(f"min_{what} {low}, max_{what} {high}: numbers of 0 or more are needed")
            if low is not None and high is not None and low > high:
                raise ConfigError(f"min_{what} {low} is more than max_{what} {high}: nothing could pass")
        # One spelling and order, so that equal demands are equal settings.
        object.__setattr__(self, "licenses", ",".join(sorted(parse_license_list(self.licenses))))

    @property
    def allowed_licenses(self) -> frozenset[str]:
        """Names of the licenses to keep; empty for all."""
        return frozenset(filter(None, self.licenses.split(",")))


@dataclass(frozen=True)
class MeasuredClip:
    """A clip as the filters see it; the ledger keeps one for every clip that could be measured.

    Attributes:
        key: of the sample that it would be or is.
        name: of the animation.
        measures: name of a measure -> its value.
        license: `cc0`, `by`, ...; "" where unknown.
        license_text: what the file and its source say.
        geometry_hash: of its shape, for near-duplicates.
        reason: why it was dropped, None for one that was kept.
    """

    key: str
    name: str
    measures: Mapping[str, float]
    license: str = ""
    license_text: str = ""
    geometry_hash: str = ""
    reason: ReasonCode | None = None

    def to_json(self) -> dict[str, Any]:
        """The values as JSON."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> MeasuredClip:
        """The inverse of `to_json`."""
        reason = values["reason"]
        return replace(cls(**values), reason=None if reason is None else ReasonCode(reason))


@dataclass(frozen=True)
class Filter:
    """One measure and its bounds.

    Attributes:
        measure: its name.
        code: the reason of what it drops.
        what: what the number is, for messages and reports.
        above: the value must be above this, whatever the settings.
        least, most: the settings of `FilterConfig` that bound it; "" for none.
    """

    measure: str
    code: ReasonCode
    what: str
    above: float | None = None
    least: str = ""
    most: str = ""

    def bounds(self, config: FilterConfig) -> tuple[float | None, float | None]:
        """Least and most that the settings allow."""
        least, most = (getattr(config, name) if name else None for name in (self.least, self.most))
        return least, most

    def objection(self, value: float, config: FilterConfig) -> str:
        """What is wrong with a value, "" for one that passes."""
        least, most = self.bounds(config)
        if self.above is not None and value <= self.above:
            return f"{self.measure} {value:.4g}, more than {self.above:.4g} is needed ({self.what})"
        if least is not None and value < least:
            return f"{self.measure} {value:.4g}, least {least:.4g} ({self.what})"
        if most is not None and value > most:
            return f"{self.measure} {value:.4g}, most {most:.4g} ({self.what})"
        return ""


FILTERS = (
    Filter("duration_s", ReasonCode.ZERO_DURATION, "seconds from the first to the last frame", above=0.0),
    Filter("first_frame", ReasonCode.EMPTY_FIRST_FRAME, "area of the first frame, of the largest one's", above=0.0),
    Filter(
        "size",
        ReasonCode.OBJECT_TOO_SMALL_IN_UNION_BBOX,
        "√area of the object, of the diagonal of the box around all frames",
        least="min_size",
    ),
    Filter(
        "motion",
        ReasonCode.NO_MOTION,
        "farthest that the surface moves, of the diagonal of the box around all frames",
        least="min_motion",
    ),
    Filter(
        "centroid_excursion",
        ReasonCode.CENTROID_EXCURSION,
        "farthest that the centroid gets from its start, in edges of the object's own box",
        most="max_centroid_excursion",
    ),
    Filter(
        "scale_excursion",
        ReasonCode.SCALE_EXCURSION,
        "edge of the box around all frames, over that of the box around 98 % of the surface",
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
        "share of the surface that pops between neighboring frames",
        most="max_flicker",
    ),
    Filter("faces", ReasonCode.FACE_LIMIT, "triangles with area", least="min_faces", most="max_faces"),
    Filter(
        "texture_pixels",
        ReasonCode.TEXTURE_LIMIT,
        "pixels of all images",
        least="min_texture_pixels",
        most="max_texture_pixels",
    ),
)
"""In the order in which they judge: the first that objects gives the reason."""


@dataclass(frozen=True)
class Refusal:
    """Why a clip is dropped."""

    code: ReasonCode
    message: str


def judge(clip: MeasuredClip, config: FilterConfig) -> Refusal | None:
    """The first objection to a clip, or None for one that is kept. Measures that were not taken do not count."""
    for refuse in FILTERS:
        value = clip.measures.get(refuse.measure)
        if value is not None and (wrong := refuse.objection(value, config)):
            return Refusal(refuse.code, f"clip {clip.name!r}: {wrong}")
    return judge_license(clip, config)


def judge_license(clip: MeasuredClip, config: FilterConfig) -> Refusal | None:
    """The license filter alone."""
    if not config.licenses or clip.license in config.allowed_licenses:
        return None
    told = f"the file or its source says {clip.license_text!r}" if clip.license_text else "nobody names one"
    code = ReasonCode.LICENSE if clip.license else ReasonCode.LICENSE_UNKNOWN
    return Refusal(code, f"license {clip.license or 'unknown'} ({told}), kept are {config.licenses}")

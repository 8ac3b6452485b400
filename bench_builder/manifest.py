"""A manifest file becomes a typed list of videos to build: stills with their hashes, prompts, seeds and generators.

The manifest records everything that a video depends on, so builds are reproducible. The stills are not part of this
repository: an entry records the public address and the sha256 of its still.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from helix4d.core import ConfigError, sha256_file
from helix4d.core.settings import read_settings

HELIX4DBENCH = Path(__file__).with_name("helix4dbench.yaml")
"""The benchmark's own manifest."""


class Category(StrEnum):
    """Categories of motion, as named in the paper."""

    MORPHING = "morphing"
    EMERGING = "emerging"
    SHATTERING = "shattering"
    TRANSPARENT_TRANSLUCENT = "transparent-translucent"
    VOLUMETRIC = "volumetric"


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where the stills are published."""

    repository: str
    license: str
    commit: str
    folder: str
    url: str
    """Template of a still's address, with placeholders {commit} and {still}."""

    def __post_init__(self) -> None:
        if not re.fullmatch("[0-9a-f]{40}", self.commit):
            raise ConfigError(f"source.commit is {self.commit!r}: must be a full commit hash of 40 hexadecimal digits")
        if not all(name in self.url for name in ("{commit}", "{still}")) or not self.url.startswith("https://"):
            raise ConfigError(f"source.url is {self.url!r}: must be an https address with {{commit}} and {{still}}")


@dataclass(frozen=True, kw_only=True)
class Framing:
    """How a still is placed in the generator's frame, and how many generated frames are kept."""

    background: tuple[int, ...]
    """Color behind the still's alpha: red, green, blue, 0 to 255."""
    fill: float
    """Longest side of the object as a fraction of the frame's."""
    frames: int

    def __post_init__(self) -> None:
        if len(self.background) != 3 or not all(0 <= c <= 255 for c in self.background):
            raise ConfigError(f"framing.background is {list(self.background)}: must be three numbers from 0 to 255")
        if not 0 < self.fill <= 1:
            raise ConfigError(f"framing.fill is {self.fill}: must be above 0 and at most 1")
        if self.frames < 1:
            raise ConfigError(f"framing.frames is {self.frames}: must be at least 1")


@dataclass(frozen=True, kw_only=True)
class Generator:
    """The settings of one image-to-video model."""

    checkpoint: str
    """Hub repository in diffusers' layout."""
    published: tuple[str, ...]
    """Names of the settings below that are the model's published defaults; this project chose the others."""
    size: int
    """Pixels per side of the square frame."""
    multiple: int
    """Divisor of `size`: the VAE's spatial stride times the patch size."""
    steps: int
    guidance: tuple[float, ...]
    """Guidance scale of each expert, low noise first."""
    boundary_ratio: float | None
    """Point of the schedule at which the experts change; null for a model with a single expert."""
    flow_shift: float
    num_frames: int
    """Generated frames, 4k + 1: the VAE's temporal stride is 4, and the first frame is encoded alone."""
    fps: int

    def __post_init__(self) -> None:
        if unknown := sorted(set(self.published) - set(self.__dataclass_fields__)):
            raise ConfigError(f"{self.checkpoint}: published lists {unknown}, which are not settings")
        for name, value in [("multiple", self.multiple), ("steps", self.steps), ("fps", self.fps)]:
            if value < 1:
                raise ConfigError(f"{self.checkpoint}: {name} is {value}: must be at least 1")
        if self.size < self.multiple or self.size % self.multiple:
            raise ConfigError(f"{self.checkpoint}: size is {self.size}: must be a multiple of {self.multiple}")
        if self.num_frames < 1 or self.num_frames % 4 != 1:
            raise ConfigError(f"{self.checkpoint}: num_frames is {self.num_frames}: must be 4k + 1, such as 17")
        if len(self.guidance) != (1 if self.boundary_ratio is None else 2):
            raise ConfigError(
                f"{self.checkpoint}: {len(self.guidance)} guidance values with boundary_ratio {self.boundary_ratio}: "
                "two experts need two values and a boundary, one expert needs one value and null"
            )
        if self.boundary_ratio is not None and not 0 < self.boundary_ratio < 1:
            raise ConfigError(f"{self.checkpoint}: boundary_ratio is {self.boundary_ratio}: must be between 0 and 1")


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One video: a still, and the prompt that animates it."""

    id: str
    still: str
    """File name in the source's folder."""
    sha256: str
    category: Category
    prompt: str
    negative_prompt: str
    seed: int

    def __post_init__(self) -> None:
        if not re.fullmatch("[a-z0-9]+(-[a-z0-9]+)*", self.id):
            raise ConfigError(f"id is {self.id!r}: must be lowercase letters and digits joined by hyphens")
        if not re.fullmatch(r"[A-Za-z0-9_-]+\.(webp|png|jpg|jpeg)", self.still):
            raise ConfigError(f"{self.id}: still is {self.still!r}: must be the bare name of an image file")
        if not re.fullmatch("[0-9a-f]{64}", self.sha256):
            raise ConfigError(f"{self.id}: sha256 is {self.sha256!r}: must be 64 lowercase hexadecimal digits")
        if not self.prompt.strip() or not self.negative_prompt.strip():
            raise ConfigError(f"{self.id}: prompt and negative_prompt must not be empty")
        if not 0 <= self.seed < 2**63:
            raise ConfigError(f"{self.id}: seed is {self.seed}: must be between 0 and 2^63 − 1")


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """A benchmark: its videos and the settings that they share."""

    name: str
    version: int
    note: str
    count: int
    """Expected number of entries, which catches one lost in editing."""
    source: Source
    framing: Framing
    seed_rule: str
    """How the seeds were made, for readers."""
    common_prompt: str
    common_negative_prompt: str
    default_model: str
    models: dict[str, Generator]
    entries: tuple[Entry, ...]

    def __post_init__(self) -> None:
        if len(self.entries) != self.count:
            raise ConfigError(f"count is {self.count}, but there are {len(self.entries)} entries")
        for name in ("id", "still", "sha256", "seed"):
            times = Counter(getattr(entry, name) for entry in self.entries)
            if repeated := sorted(str(value) for value, n in times.items() if n > 1):
                raise ConfigError(f"several entries share the same {name}: {', '.join(repeated)}")
        if self.default_model not in self.models:
            raise ConfigError(f"default_model is {self.default_model!r}: must be one of {sorted(self.models)}")
        for name, model in self.models.items():
            if model.num_frames < self.framing.frames:
                raise ConfigError(
                    f"models.{name}: num_frames is {model.num_frames}: "
                    f"must be at least framing.frames ({self.framing.frames})"
                )


def read_manifest(path: Path = HELIX4DBENCH) -> Manifest:
    """Read a manifest.

    Raises:
        ConfigError: if a value is unknown, missing, repeated or impossible; the message names the file and the entry.
    """
    return read_settings(Manifest, path)


def full_prompt(manifest: Manifest, entry: Entry) -> str:
    """Prompt of the generator: the entry's own, then the common one."""
    return f"{entry.prompt} {manifest.common_prompt}"


def full_negative_prompt(manifest: Manifest, entry: Entry) -> str:
    """Negative prompt of the generator: the entry's own, then the common one."""
    return f"{entry.negative_prompt}, {manifest.common_negative_prompt}"


def still_url(manifest: Manifest, entry: Entry) -> str:
    """Public address of an entry's still."""
    return manifest.source.url.replace("{commit}", manifest.source.commit).replace("{still}", entry.still)


def verify_stills(manifest: Manifest, folder: Path, entries: Sequence[Entry] | None = None) -> list[str]:
    """Check a folder of stills.

    Args:
        manifest: addresses and hashes of the stills.
        folder: folder with the stills.
        entries: entries to check; all of the manifest's by default.

    Returns:
        One line per missing or different still.
    """
    problems = []
    for entry in manifest.entries if entries is None else entries:
        path = folder / entry.still
        if not path.is_file():
            problems.append(f"{entry.id}: {path} is missing: download it from {still_url(manifest, entry)}")
        elif (digest := sha256_file(path)) != entry.sha256:
            problems.append(f"{entry.id}: {path} has sha256 {digest}, expected {entry.sha256}: different or corrupt")
    return problems

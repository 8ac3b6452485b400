"""A manifest file becomes a typed list of videos to build: stills with their hashes, words, seeds and generators.

Everything that a video depends on stands in the manifest, so that two people who build it build the same. The stills
themselves are never part of this repository: an entry names its public address and the sha256 of its bytes.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from helix4d.core import ConfigError, sha256_file
from helix4d.train.config import build, read_values

HELIX4DBENCH = Path(__file__).with_name("helix4dbench.yaml")
"""The benchmark's own manifest."""


class Category(StrEnum):
    """The phenomena that the paper names."""

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
    """An address with {commit} and {still} in it."""

    def __post_init__(self) -> None:
        if not re.fullmatch("[0-9a-f]{40}", self.commit):
            raise ConfigError(f"source.commit is {self.commit!r}: all 40 hexadecimal digits, or it may come to move")
        if not all(name in self.url for name in ("{commit}", "{still}")) or not self.url.startswith("https://"):
            raise ConfigError(f"source.url is {self.url!r}: an https address with {{commit}} and {{still}} in it")


@dataclass(frozen=True, kw_only=True)
class Framing:
    """How a still is laid into the generator's frame, and how many frames are kept of what comes out."""

    background: tuple[int, ...]
    """Red, green, blue, 0 to 255, under the still's alpha."""
    fill: float
    """The object's longest side as a share of the frame's."""
    frames: int

    def __post_init__(self) -> None:
        if len(self.background) != 3 or not all(0 <= c <= 255 for c in self.background):
            raise ConfigError(f"framing.background is {list(self.background)}: three numbers from 0 to 255")
        if not 0 < self.fill <= 1:
            raise ConfigError(f"framing.fill is {self.fill}: a share, above 0 and at most 1")
        if self.frames < 1:
            raise ConfigError(f"framing.frames is {self.frames}: at least 1")


@dataclass(frozen=True, kw_only=True)
class Generator:
    """The settings of one image-to-video model."""

    checkpoint: str
    """Hub repository in diffusers' layout."""
    published: tuple[str, ...]
    """Names of the settings below that are the model's published defaults; the others are ours."""
    size: int
    """Pixels per side of the square frame."""
    multiple: int
    """What `size` must be a multiple of: the VAE's spatial stride times the patch."""
    steps: int
    guidance: tuple[float, ...]
    """One per expert, low noise first."""
    boundary_ratio: float | None
    """Where the schedule passes from one expert to the other; None for a model with one."""
    flow_shift: float
    num_frames: int
    """Generated frames, 4k + 1: the VAE's temporal stride is 4, and the first frame stands alone."""
    fps: int

    def __post_init__(self) -> None:
        if unknown := sorted(set(self.published) - set(self.__dataclass_fields__)):
            raise ConfigError(f"{self.checkpoint}: published names {unknown}, which are no settings")
        for name, value in [("multiple", self.multiple), ("steps", self.steps), ("fps", self.fps)]:
            if value < 1:
                raise ConfigError(f"{self.checkpoint}: {name} is {value}: at least 1")
        if self.size < self.multiple or self.size % self.multiple:
            raise ConfigError(f"{self.checkpoint}: size is {self.size}: a multiple of {self.multiple}")
        if self.num_frames < 1 or self.num_frames % 4 != 1:
            raise ConfigError(f"{self.checkpoint}: num_frames is {self.num_frames}: 4k + 1, such as 17")
        if len(self.guidance) != (1 if self.boundary_ratio is None else 2):
            raise ConfigError(
                f"{self.checkpoint}: {len(self.guidance)} guidance values with boundary_ratio {self.boundary_ratio}: "
                "two experts need two values and a boundary, one expert needs one value and null"
            )
        if self.boundary_ratio is not None and not 0 < self.boundary_ratio < 1:
            raise ConfigError(f"{self.checkpoint}: boundary_ratio is {self.boundary_ratio}: between 0 and 1")


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One video: a still and what shall happen to it."""

    id: str
    still: str
    """The file's name in the source's folder."""
    sha256: str
    category: Category
    prompt: str
    negative_prompt: str
    seed: int

    def __post_init__(self) -> None:
        if not re.fullmatch("[a-z0-9]+(-[a-z0-9]+)*", self.id):
            raise ConfigError(f"{self.id!r}: an id is lowercase words and digits joined by hyphens")
        if not re.fullmatch(r"[A-Za-z0-9_-]+\.(webp|png|jpg|jpeg)", self.still):
            raise ConfigError(f"{self.id}: still is {self.still!r}: the bare name of an image file")
        if not re.fullmatch("[0-9a-f]{64}", self.sha256):
            raise ConfigError(f"{self.id}: sha256 is {self.sha256!r}: 64 lowercase hexadecimal digits")
        if not self.prompt.strip() or not self.negative_prompt.strip():
            raise ConfigError(f"{self.id}: prompt and negative_prompt must say something")
        if not 0 <= self.seed < 2**63:
            raise ConfigError(f"{self.id}: seed is {self.seed}: from 0 to 2^63 − 1")


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """A benchmark: its videos and all that they share."""

    name: str
    version: int
    note: str
    count: int
    """How many entries there are: an entry lost in editing does not go unnoticed."""
    source: Source
    framing: Framing
    seed_rule: str
    """How seeds were made, for people."""
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
                raise ConfigError(f"the same {name} in several entries: {', '.join(repeated)}")
        if self.default_model not in self.models:
            raise ConfigError(f"default_model is {self.default_model!r}: one of {sorted(self.models)}")
        for name, model in self.models.items():
            if model.num_frames < self.framing.frames:
                raise ConfigError(
                    f"models.{name}: num_frames is {model.num_frames}, fewer than the {self.framing.frames} to be kept"
                )


def read_manifest(path: Path = HELIX4DBENCH) -> Manifest:
    """Read a manifest, strictly.

    Raises:
        ConfigError: for unknown, missing or repeated values and impossible ones, with the file and the entry.
    """
    values = read_values(path)
    models = values.get("models")
    if not isinstance(models, dict) or not all(isinstance(model, dict) for model in models.values()):
        raise ConfigError(f"{path}: models: expected a mapping of names to settings, found {models!r}")
    try:
        generators = {str(name): build(Generator, model, f"models.{name}") for name, model in models.items()}
        manifest: Manifest = build(Manifest, {**values, "models": generators}, "manifest")
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error
    return manifest


def full_prompt(manifest: Manifest, entry: Entry) -> str:
    """What the generator is told: the entry's words, then those of all entries."""
    return f"{entry.prompt} {manifest.common_prompt}"


def full_negative_prompt(manifest: Manifest, entry: Entry) -> str:
    """What the generator is told to avoid."""
    return f"{entry.negative_prompt}, {manifest.common_negative_prompt}"


def still_url(manifest: Manifest, entry: Entry) -> str:
    """The public address of an entry's still."""
    return manifest.source.url.replace("{commit}", manifest.source.commit).replace("{still}", entry.still)


def verify_stills(manifest: Manifest, folder: Path, entries: Sequence[Entry] | None = None) -> list[str]:
    """One line per still that is missing from a folder or is not the one listed; empty if all are there.

    Args:
        manifest: what is listed.
        folder: what is there.
        entries: whose stills are looked for; None is all of the manifest.
    """
    problems = []
    for entry in manifest.entries if entries is None else entries:
        path = folder / entry.still
        if not path.is_file():
            problems.append(f"{entry.id}: no file {path}: download it from {still_url(manifest, entry)}")
        elif (found := sha256_file(path)) != entry.sha256:
            problems.append(f"{entry.id}: {path} has sha256 {found}, listed is {entry.sha256}: another or damaged file")
    return problems

"""The settings of a training run, from YAML files that may inherit from one another.

`inherits: OTHER.yaml` (relative to the file) is read first and overridden key by key. Unknown keys are errors.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

import yaml

from helix4d.core import ConfigError
from helix4d.model.device import DEVICES
from helix4d.model.networks.config import VideoConfig
from helix4d.model.networks.flow import Checkpointing


class Stage(StrEnum):
    """Which of the three networks is trained."""

    STRUCTURE = "structure"
    GEOMETRY = "geometry"
    MATERIAL = "material"


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """What is read. Roots are folders or URLs of any file system that fsspec knows."""

    latents: str
    """What `helix4d encode` wrote."""
    images: str
    """What `helix4d curate` wrote: the shards that the latents were made from."""
    split: str = "train"
    statistics: str = "trellis2"
    """`trellis2`, or `computed`: the encoded folder's own."""
    image_size: int = 512
    """Pixels per side of the encoded images."""
    workers: int = 4
    """Threads that read ahead."""
    ahead: int = 2
    """Steps read ahead."""
    max_broken: int = 16
    """Clips, over all ranks and the whole run, that may be missing or broken before the run stops."""


@dataclass(frozen=True, kw_only=True)
class NetworkConfig:
    """What is trained, and from where."""

    checkpoint: str | None = None
    """Folder or hub repository in TRELLIS.2's layout; None trains from scratch."""
    flow: str | None = None
    """The flow's place in it, such as `ckpts/slat_flow_img2shape_dit_1_3B_512_bf16`."""
    scratch: dict[str, Any] | None = None
    """`FlowConfig` of a network with random weights."""
    image_encoder: str = "facebook/dinov3-vitl16-pretrain-lvd1689m"
    """Folder or hub repository of the DINOv3 that makes the condition."""
    offline: bool = False
    """Read the hub's local cache only."""
    trainable: tuple[str, ...] = ("blocks.*.self_attn.*",)
    """Patterns of parameter names; what matches none is frozen."""
    video: VideoConfig = field(default_factory=VideoConfig)
    first_frame: bool = True
    """Frame 0 clean, at timestep 0 and without loss. Off (an ablation): a frame like the others."""
    precision: str = "bfloat16"
    """Of the activations inside the blocks, and of frozen parameters: bfloat16 or float32."""
    checkpointing: Checkpointing = Checkpointing.KEEP_ATTENTION
    compile: bool = False
    """torch.compile each block."""
    shard: bool = False
    """Spread what is trained over the ranks (FSDP2), for full fine-tuning. One rank alone has nothing to spread."""


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """AdamW with TRELLIS.2's values; rate, batch and steps are the paper's as a third party transcribed them."""

    lr: float = 2e-5
    warmup: int = 0
    """Steps of linear warm-up."""
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = 0.01
    max_norm: float = 1.0
    """The gradient is never longer than this."""
    clip_percentile: float = 95.0
    """Nor, once the history is full, than this percentile of it."""
    clip_history: int = 1000
    ema: float = 0.9999


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """Where results go and how often. Nothing here changes a parameter."""

    output: str = "runs"
    """The run's folder is `output/name`."""
    log_every: int = 10
    save_every: int = 500
    keep_last: int = 3
    keep_every: int = 5000
    """Checkpoints at multiples of this are kept for good; 0 keeps none."""
    tensorboard: bool = False
    """Event files beside metrics.jsonl (needs the package tensorboard)."""
    preview_every: int = 0
    """Steps between previews; 0 makes none."""
    preview_clips: int = 2
    preview_split: str = "val"
    preview_models: str | None = None
    """Folder or hub repository with the decoders; by default the network's checkpoint."""
    preview_guidance: float = 1.0
    device: str = "auto"
    """cuda, cpu, or auto: cuda where there is one."""


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """One run: one stage of one experiment."""

    name: str
    stage: Stage
    data: DataConfig
    network: NetworkConfig = field(default_factory=NetworkConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    run: RunConfig = field(default_factory=RunConfig)
    steps: int = 20_000
    batch: int = 32
    """Clips per step over all ranks; the same clips for any number of ranks."""
    tokens_per_microbatch: int = 140_000
    """A rank's share of a step is cut into pieces of at most this many tokens (one clip at least)."""
    condition_dropout: float = 0.1
    """Share of clips whose condition is zeroed, all frames together."""
    seed: int = 0

    def __post_init__(self) -> None:
        at_least_one = {
            "steps": self.steps,
            "batch": self.batch,
            "tokens_per_microbatch": self.tokens_per_microbatch,
            "data.workers": self.data.workers,
            "optimizer.clip_history": self.optimizer.clip_history,
            "run.log_every": self.run.log_every,
            "run.save_every": self.run.save_every,
            "run.keep_last": self.run.keep_last,
        }
        for name, value in at_least_one.items():
            if value < 1:
                raise ConfigError(f"{name} is {value}: it must be at least 1")
        not_negative = {
            "data.ahead": self.data.ahead,
            "data.max_broken": self.data.max_broken,
            "optimizer.warmup": self.optimizer.warmup,
            "run.keep_every": self.run.keep_every,
            "run.preview_every": self.run.preview_every,
        }
        for name, value in not_negative.items():
            if value < 0:
                raise ConfigError(f"{name} is {value}: it must not be negative")
        if len(self.optimizer.betas) != 2:
            raise ConfigError(f"optimizer.betas are {list(self.optimizer.betas)}: AdamW takes two")
        if self.run.device not in DEVICES:
            raise ConfigError(f"run.device is {self.run.device!r}: one of {', '.join(DEVICES)}")
        if not 0 <= self.condition_dropout <= 1:
            raise ConfigError(f"condition_dropout is {self.condition_dropout}: it is a share, between 0 and 1")
        if self.network.precision not in ("bfloat16", "float32"):
            raise ConfigError(f"precision is {self.network.precision!r}: bfloat16 or float32")
        if self.run.device not in ("auto", "cpu", "cuda"):
            raise ConfigError(f"run.device is {self.run.device!r}: auto, cpu or cuda")
        if self.data.statistics not in ("trellis2", "computed"):
            raise ConfigError(f"statistics is {self.data.statistics!r}: trellis2 or computed")
        if (self.network.scratch is None) == (self.network.checkpoint is None):
            raise ConfigError("network: give either checkpoint (and flow) or scratch")
        if self.network.checkpoint is not None and self.network.flow is None:
            raise ConfigError("network: a checkpoint needs flow, the place of the network in it")
        if "/" in self.name or not self.name:
            raise ConfigError(f"name is {self.name!r}: it becomes a folder's name")

    @property
    def folder(self) -> Path:
        """Where this run writes."""
        return Path(self.run.output) / self.name

    def to_json(self) -> dict[str, Any]:
        """The values as JSON."""
        values: dict[str, Any] = asdict(self)
        return values


def read_config(path: Path, changes: Sequence[str] = ()) -> TrainConfig:
    """`read_settings` of a training run."""
    config: TrainConfig = read_settings(TrainConfig, path, changes)
    return config


def read_settings(kind: Any, path: Path, changes: Sequence[str] = ()) -> Any:
    """Read a dataclass from a file, what it inherits, and `key.key=value` changes in YAML syntax.

    Raises:
        ConfigError: for unknown keys, wrong types and impossible values.
    """
    values = read_values(path)
    for change in changes:
        name, equals, text = change.partition("=")
        if not equals:
            raise ConfigError(f"{change!r}: write key=value, such as optimizer.lr=1e-4")
        *parents, last = name.split(".")
        try:
            inner: dict[str, Any] = {last: yaml.safe_load(text)}
        except yaml.YAMLError as error:
            raise ConfigError(f"{change!r}: the value is not YAML ({' '.join(str(error).split())})") from error
        for parent in reversed(parents):
            inner = {parent: inner}
        values = _merge(values, inner)
    return build(kind, values, str(path))


def read_values(path: Path, seen: tuple[Path, ...] = ()) -> dict[str, Any]:
    """The merged mapping of a file and its ancestors."""
    path = path.resolve()
    if path in seen:
        raise ConfigError(f"{path}: inherits from itself")
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: cannot be read ({' '.join(str(error).split())})") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: no mapping of settings")
    parent = values.pop("inherits", None)
    return values if parent is None else _merge(read_values(path.parent / parent, (*seen, path)), values)


def build(kind: Any, values: Mapping[str, Any], where: str) -> Any:
    """A dataclass from a mapping, strictly: nested dataclasses, enums, tuples, optional values."""
    hints = typing.get_type_hints(kind)
    known = {f.name for f in dataclasses.fields(kind)}
    if unknown := sorted(set(values) - known):
        raise ConfigError(f"{where}: unknown settings {unknown}; known ones are {sorted(known)}")
    try:
        return kind(**{name: _convert(hints[name], value, f"{where}: {name}") for name, value in values.items()})
    except TypeError as error:
        raise ConfigError(f"{where}: {error}") from error


def _convert(kind: Any, value: Any, where: str) -> Any:
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        if value is None and type(None) in inner:
            return None
        return _convert(next(k for k in inner if k is not type(None)), value, where)
    if dataclasses.is_dataclass(kind):
        if not isinstance(value, Mapping):
            raise ConfigError(f"{where}: expected a mapping, found {value!r}")
        return build(kind, value, where)
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise ConfigError(f"{where}: expected a list, found {value!r}")
        return tuple(_convert(inner[0], v, f"{where}[{i}]") for i, v in enumerate(value))
    if origin is dict:
        return dict(value)
    value = _number(value) if kind is float else value
    if isinstance(kind, type) and issubclass(kind, StrEnum):
        try:
            return kind(value)
        except ValueError as error:
            raise ConfigError(f"{where}: {value!r} is not one of {[str(k) for k in kind]}") from error
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise ConfigError(f"{where}: expected {kind.__name__}, found {value!r}")
    return value


def _number(value: Any) -> Any:
    # YAML 1.1 reads 2e-5 as text; only 2.0e-5 is a number to it.
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value


def _merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for name, value in above.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(name), Mapping)
        merged[name] = _merge(merged[name], value) if both else value
    return merged

"""Settings of a training run."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from fractions import Fraction
from pathlib import Path
from typing import Any

from helix4d.core import ConfigError
from helix4d.core.settings import read_settings
from helix4d.curation.config import RunConfig as CurationRun
from helix4d.curation.config import working_folder
from helix4d.curation.places.folder import Place, file_in, is_far, place_of
from helix4d.model.device import DEVICES
from helix4d.model.networks.config import VideoConfig
from helix4d.model.networks.flow import Checkpointing

CONFIG_FILE = "config.json"
"""Name of the file with the settings of a run, in its folder."""


class Stage(StrEnum):
    """Which of the three networks is trained."""

    STRUCTURE = "structure"
    GEOMETRY = "geometry"
    MATERIAL = "material"


@dataclass(frozen=True, kw_only=True)
class Mix:
    """Weights of static clips (of one frame) and animated clips in the sequence of clips."""

    static: float
    animated: float

    def __post_init__(self) -> None:
        if min(self.static, self.animated) < 0 or not self.static + self.animated > 0:
            raise ConfigError(
                f"data.mix is {{static: {self.static:g}, animated: {self.animated:g}}}: weights must not be negative, "
                "and not both 0"
            )

    @property
    def static_share(self) -> Fraction:
        """Share of static clips."""
        static, animated = (Fraction(weight).limit_denominator(10_000) for weight in (self.static, self.animated))
        return static / (static + animated)


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Training data. Roots are folders or URLs of any file system that fsspec supports."""

    latents: str
    """Latent shards, as written by `helix4d encode`."""
    images: str
    """The shards that the latents were encoded from, as written by `helix4d curate`."""
    split: str = "train"
    subset: str | None = None
    """File written by `helix4d select` with the clips to use; null for all."""
    statistics: str = "trellis2"
    """Latent statistics: `trellis2` (published) or `computed` (those of the encoded data)."""
    image_size: int = 512
    """Pixels per side of the encoded images."""
    workers: int = 4
    """Prefetching threads."""
    ahead: int = 2
    """Steps to prefetch."""
    max_broken: int = 16
    """Clips that cannot be used before the run stops: missing, corrupt, or too large for the memory of the device.
    Each counts once, over all ranks and the whole run."""
    max_tokens: int | None = None
    """Omit clips with more latent tokens than this, over all of their frames."""
    mix: Mix | None = None
    """Weights of static and animated clips, such as {static: 1, animated: 3}; by default all clips are equally
    frequent."""
    balance_steps: int = 1
    """Number of steps whose clips are sorted by tokens, so that each step has clips of similar length and ranks wait
    less for each other. The order of the steps is random. 1 leaves the clips in random order."""
    allow_partial: bool = False
    """Train without the clips of missing shards; by default, missing shards stop the run before its first step."""


@dataclass(frozen=True, kw_only=True)
class NetworkConfig:
    """The network to train, and where its weights come from."""

    checkpoint: str | None = None
    """Folder or hub repository in TRELLIS.2's layout; null trains from scratch."""
    flow: str | None = None
    """Path of the flow in the checkpoint, such as `ckpts/slat_flow_img2shape_dit_1_3B_512_bf16`."""
    scratch: dict[str, Any] | None = None
    """`FlowConfig` of a randomly initialized network."""
    image_encoder: str = "facebook/dinov3-vitl16-pretrain-lvd1689m"
    """Folder or hub repository of the DINOv3 that encodes the conditioning images."""
    offline: bool = False
    """Use only the hub's local cache."""
    trainable: tuple[str, ...] | str = ("blocks.*.self_attn.*",)
    """Patterns of parameter names; parameters that match none are frozen. Or `lora:RANK`: freeze all parameters and
    train low-rank updates of the self-attention's matrices."""
    video: VideoConfig = field(default_factory=VideoConfig)
    first_frame: bool = True
    """Keep frame 0 clean, at timestep 0 and without loss. Off (an ablation): treat it like the others."""
    precision: str = "bfloat16"
    """Precision of the blocks' frozen matrices and of their activations: bfloat16 or float32."""
    checkpointing: Checkpointing = Checkpointing.KEEP_ATTENTION
    compile: bool = False
    """Compile each block with torch.compile."""
    shard: bool = False
    """Shard the trainable parameters over the ranks (FSDP2), for full fine-tuning. No effect on a single rank."""

    def __post_init__(self) -> None:
        if isinstance(self.trainable, str) and not re.fullmatch(r"lora:[1-9]\d{0,3}", self.trainable):
            raise ConfigError(
                f"trainable is {self.trainable!r}: must be a list of patterns such as [blocks.*.self_attn.*], or "
                "lora:RANK such as lora:16"
            )

    @property
    def rank(self) -> int | None:
        """Rank of the low-rank updates; None if parameters themselves are trained."""
        return int(self.trainable.removeprefix("lora:")) if isinstance(self.trainable, str) else None


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """AdamW with TRELLIS.2's values; the learning rate is the paper's, as transcribed by a third party."""

    lr: float = 2e-5
    warmup: int = 0
    """Linear warm-up steps."""
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = 0.01
    max_norm: float = 1.0
    """Upper bound of the gradient norm."""
    clip_percentile: float = 95.0
    """Once the history is full, the gradient norm is also clipped to this percentile of past norms."""
    clip_history: int = 1000
    """Past gradient norms to keep."""
    ema: float = 0.9999
    """Decay of the moving average of the weights, per step."""
    ema_warmup: bool = False
    """Start with a smaller decay: (1 + step) / (10 + step) while that is less than `ema`."""


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """Where results are written and how often. No setting here affects the trained parameters."""

    output: str = "runs"
    """Parent of the run's folder, `output/name`: a folder or a URL of any file system that fsspec can write."""
    work: str | None = None
    """Local folder for the last checkpoint and the metrics of a run whose output is a URL; by default in the cache."""
    log_every: int = 10
    save_every: int = 500
    keep_last: int = 3
    keep_every: int = 5000
    """Checkpoints at multiples of this step are kept permanently; 0 disables this."""
    tensorboard: bool = False
    """Also write TensorBoard event files (requires the package tensorboard)."""
    wandb: str | None = None
    """Also log to this project of Weights & Biases (requires the package wandb)."""
    validate_every: int = 0
    """Steps between evaluations of the loss on fixed clips, a multiple of log_every; 0 disables them."""
    validation_clips: int = 16
    validation_split: str = "val"
    preview_every: int = 0
    """Steps between previews; 0 disables them."""
    preview_clips: int = 2
    preview_split: str = "val"
    preview_models: str | None = None
    """Folder or hub repository with the decoders; defaults to the network's checkpoint."""
    preview_guidance: float | None = None
    """Guidance strength of previews and ablations; by default that of `helix4d sample` for the stage."""
    device: str = "auto"
    """cuda, cpu, or auto, which uses cuda if available."""
    patience_s: float = 600.0
    """Seconds for which a write is retried if the disk is full or the store refuses it; then the run stops."""
    timeout_s: float = 1800.0
    """Seconds that a rank waits for the others before it fails. Must exceed `patience_s` and the time of a preview."""


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """A training run: one stage of one experiment. Batch and steps are the paper's, as transcribed by a third party."""

    name: str
    stage: Stage
    data: DataConfig
    network: NetworkConfig = field(default_factory=NetworkConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    run: RunConfig = field(default_factory=RunConfig)
    steps: int = 20_000
    batch: int = 32
    """Clips per step over all ranks. Which clips form a step does not depend on the number of ranks."""
    tokens_per_microbatch: int = 140_000
    """Each rank splits its share of a step into microbatches of at most this many tokens (at least one clip)."""
    condition_dropout: float = 0.1
    """Fraction of clips whose condition is zeroed, in all frames at once."""
    seed: int = 0

    def __post_init__(self) -> None:
        at_least_one = {
            "steps": self.steps,
            "batch": self.batch,
            "tokens_per_microbatch": self.tokens_per_microbatch,
            "data.workers": self.data.workers,
            "data.balance_steps": self.data.balance_steps,
            "optimizer.clip_history": self.optimizer.clip_history,
            "run.log_every": self.run.log_every,
            "run.save_every": self.run.save_every,
            "run.keep_last": self.run.keep_last,
            "run.validation_clips": self.run.validation_clips,
        }
        for name, value in at_least_one.items():
            if value < 1:
                raise ConfigError(f"{name} is {value}: must be at least 1")
        not_negative = {
            "data.ahead": self.data.ahead,
            "data.max_broken": self.data.max_broken,
            "optimizer.warmup": self.optimizer.warmup,
            "run.keep_every": self.run.keep_every,
            "run.preview_every": self.run.preview_every,
            "run.validate_every": self.run.validate_every,
        }
        for name, value in not_negative.items():
            if value < 0:
                raise ConfigError(f"{name} is {value}: must not be negative")
        if self.run.validate_every % self.run.log_every:
            raise ConfigError(
                f"run.validate_every is {self.run.validate_every}: must be a multiple of run.log_every, "
                f"{self.run.log_every}"
            )
        for name, seconds in {"run.patience_s": self.run.patience_s, "run.timeout_s": self.run.timeout_s}.items():
            if not seconds > 0:
                raise ConfigError(f"{name} is {seconds:g}: must be greater than 0")
        if self.data.max_tokens is not None and self.data.max_tokens < 1:
            raise ConfigError(f"data.max_tokens is {self.data.max_tokens}: must be at least 1")
        if len(self.optimizer.betas) != 2:
            raise ConfigError(f"optimizer.betas is {list(self.optimizer.betas)}: AdamW takes two values")
        if self.run.device not in DEVICES:
            raise ConfigError(f"run.device is {self.run.device!r}: must be one of {', '.join(DEVICES)}")
        if not 0 <= self.condition_dropout <= 1:
            raise ConfigError(f"condition_dropout is {self.condition_dropout}: must be between 0 and 1")
        if self.network.precision not in ("bfloat16", "float32"):
            raise ConfigError(f"network.precision is {self.network.precision!r}: must be bfloat16 or float32")
        if self.data.statistics not in ("trellis2", "computed"):
            raise ConfigError(f"data.statistics is {self.data.statistics!r}: must be trellis2 or computed")
        if (self.network.scratch is None) == (self.network.checkpoint is None):
            raise ConfigError("network: set either checkpoint (with flow) or scratch")
        if self.network.checkpoint is not None and self.network.flow is None:
            raise ConfigError("network: checkpoint is set but flow is not: set flow to its path in the checkpoint")
        if "/" in self.name or not self.name:
            raise ConfigError(f"name is {self.name!r}: must be usable as the name of a folder")

    @property
    def place(self) -> Place:
        """Folder or URL of the run."""
        return file_in(place_of(self.run.output), self.name)

    @property
    def is_remote(self) -> bool:
        """Whether the run's output is a URL."""
        return is_far(self.run.output)

    @property
    def folder(self) -> Path:
        """Folder of the run, or the local working folder if its output is a URL."""
        if not self.is_remote:
            return Path(self.run.output) / self.name
        work = None if self.run.work is None else Path(self.run.work) / self.name
        return working_folder(str(self.place), CurationRun(work=work))

    def to_json(self) -> dict[str, Any]:
        """Return the values as JSON."""
        values: dict[str, Any] = asdict(self)
        return values


def read_config(path: Path, changes: Sequence[str] = ()) -> TrainConfig:
    """Read a training run from a YAML file and `key.key=value` changes.

    Raises:
        ConfigError: if a key is unknown, missing or ill-typed, or a value is impossible.
    """
    return read_settings(TrainConfig, path, changes)

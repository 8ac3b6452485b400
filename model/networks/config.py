"""What a network is made of, as frozen dataclasses that refuse impossible combinations at the door.

The field names are those of TRELLIS.2's `ckpts/NAME.json`, so a released file is read as it is; `VideoConfig` is what
Helix4D adds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from enum import StrEnum
from typing import Any, Self

from helix4d.core import ConfigError


class AttentionPattern(StrEnum):
    """Which frames a query frame attends to (Fig. 3 and Table 4 of the paper)."""

    WINDOW_ANCHOR = "window_anchor"
    FULL = "full"
    CAUSAL = "causal"
    WINDOW = "window"
    SPATIAL = "spatial"


class AnchorQueries(StrEnum):
    """What frame 0's own queries see under `window_anchor`."""

    ITSELF = "itself"
    """Frame 0 alone: its keys and values depend on nothing noisy, so sampling computes them once."""
    PAPER_LITERAL = "paper_literal"
    """The window of frame 0, as the mask equation says word by word."""


class TemporalRotary(StrEnum):
    """Where time enters the rotary embedding."""

    REPURPOSED = "repurposed"
    """Helix4D: on the freed low-frequency spatial pairs and the unused pairs."""
    SS4D = "ss4d"
    """SS4D's recipe: one more rotation over all pairs, on top of the spatial one (an ablation)."""
    NONE = "none"
    """No time at all (an ablation, and the base network)."""


@dataclass(frozen=True, kw_only=True)
class _NetworkConfig:
    """Reading and writing the `args` of a TRELLIS.2 configuration."""

    @classmethod
    def from_args(cls, args: Mapping[str, Any]) -> Self:
        """Build from the `args` of a checkpoint's JSON; run-time settings in it (types, checkpointing) are ignored."""
        known = {field.name for field in fields(cls)}
        unknown = sorted(set(args) - known - _RUNTIME_ARGS)
        if unknown:
            raise ConfigError(f"{cls.__name__}: unknown settings {unknown}; known ones are {sorted(known)}")
        values = {name: tuple(v) if isinstance(v, list) else v for name, v in args.items() if name in known}
        return cls(**values)

    def to_args(self) -> dict[str, Any]:
        """The `args` that TRELLIS.2's own constructors take."""
        return {name: list(v) if isinstance(v, tuple) else v for name, v in asdict(self).items()}


# What a released configuration may carry and the architecture does not depend on.
_RUNTIME_ARGS = frozenset(
    {
        "resolution",
        "dtype",
        "use_fp16",
        "use_checkpoint",
        "num_head_channels",
        "rope_freq",
        "resolution_multiplier",
        "voxel_margin",
    }
    | {"block_args", "block_type", "up_block_type", "down_block_type", "num_io_blocks"}
)


@dataclass(frozen=True, kw_only=True)
class FlowConfig(_NetworkConfig):
    """A flow transformer: the sparse-structure, the geometry or the material stage."""

    resolution: int
    in_channels: int
    out_channels: int
    model_channels: int = 1536
    cond_channels: int = 1024
    num_blocks: int = 30
    num_heads: int = 12
    mlp_ratio: float = 5.3334
    pe_mode: str = "rope"
    share_mod: bool = True
    initialization: str = "scaled"
    qk_rms_norm: bool = True
    qk_rms_norm_cross: bool = True

    def __post_init__(self) -> None:
        for name in ("resolution", "in_channels", "out_channels", "model_channels", "cond_channels", "num_heads"):
            _require_positive(self, name)
        if self.num_blocks < 0:
            raise ConfigError(f"num_blocks is {self.num_blocks}: it must not be negative")
        if self.model_channels % self.num_heads:
            raise ConfigError(
                f"model_channels {self.model_channels} does not divide into {self.num_heads} heads: "
                f"{self.model_channels % self.num_heads} channels would be left over"
            )
        if self.head_channels % 2 or self.head_channels < 6:
            raise ConfigError(f"a head has {self.head_channels} channels: three rotary axes need an even number >= 6")
        for name, only in _FLOW_ONLY.items():
            if getattr(self, name) != only:
                raise ConfigError(f"{name} is {getattr(self, name)!r}: TRELLIS.2's networks, and ours, have {only!r}")

    @property
    def head_channels(self) -> int:
        """Channels per head, d."""
        return self.model_channels // self.num_heads

    @property
    def mlp_channels(self) -> int:
        """Width of the feed-forward layer."""
        return int(self.model_channels * self.mlp_ratio)


_FLOW_ONLY = {
    "pe_mode": "rope",
    "share_mod": True,
    "initialization": "scaled",
    "qk_rms_norm": True,
    "qk_rms_norm_cross": True,
}


@dataclass(frozen=True, kw_only=True)
class VideoConfig:
    """Helix4D's three changes to a flow transformer. "(t)": a third party's transcription of the paper."""

    pattern: AttentionPattern = AttentionPattern.WINDOW_ANCHOR
    window: int = 2  # (t) half-width in frames
    anchor_queries: AnchorQueries = AnchorQueries.ITSELF  # ours: the paper's equation is PAPER_LITERAL
    temporal: TemporalRotary = TemporalRotary.REPURPOSED
    kept: float = 0.75  # (t) share of the spatial pairs kept per axis
    training_frames: int = 16
    time_scale: float | None = None  # None: N / training_frames, so that time sweeps the phases of a spatial axis

    def __post_init__(self) -> None:
        if self.window < 0:
            raise ConfigError(f"window is {self.window}: a half-width in frames cannot be negative")
        if not 0.0 <= self.kept <= 1.0:
            raise ConfigError(f"kept is {self.kept}: it is a share of the pairs of an axis, between 0 and 1")
        if self.training_frames < 1:
            raise ConfigError(f"training_frames is {self.training_frames}: at least one frame is needed")
        # Values read from JSON arrive as plain strings.
        object.__setattr__(self, "pattern", AttentionPattern(self.pattern))
        object.__setattr__(self, "anchor_queries", AnchorQueries(self.anchor_queries))
        object.__setattr__(self, "temporal", TemporalRotary(self.temporal))

    @property
    def anchor_sees_only_itself(self) -> bool:
        """Whether frame 0's keys and values can be computed once and kept for a whole sampling run."""
        if self.pattern is AttentionPattern.WINDOW_ANCHOR:
            return self.anchor_queries is AnchorQueries.ITSELF or self.window == 0
        return self.pattern in (AttentionPattern.CAUSAL, AttentionPattern.SPATIAL)

    def scale(self, resolution: int) -> float:
        """Rotary positions per frame for a stage of `resolution` voxels a side."""
        return resolution / self.training_frames if self.time_scale is None else self.time_scale


BASE = VideoConfig(pattern=AttentionPattern.SPATIAL, temporal=TemporalRotary.NONE, kept=1.0)
"""TRELLIS.2 as it is: every frame on its own, all spatial pairs, no time."""


@dataclass(frozen=True, kw_only=True)
class DenseEncoderConfig(_NetworkConfig):
    """The sparse-structure encoder: a 64^3 occupancy to an 8 x 16^3 latent."""

    in_channels: int = 1
    latent_channels: int = 8
    num_res_blocks: int = 2
    channels: tuple[int, ...] = (32, 128, 512)
    num_res_blocks_middle: int = 2
    norm_type: str = "layer"

    def __post_init__(self) -> None:
        _check_dense_vae(self.channels, self.norm_type)


@dataclass(frozen=True, kw_only=True)
class DenseDecoderConfig(_NetworkConfig):
    """The sparse-structure decoder: an 8 x 16^3 latent to 64^3 occupancy logits."""

    out_channels: int = 1
    latent_channels: int = 8
    num_res_blocks: int = 2
    channels: tuple[int, ...] = (512, 128, 32)
    num_res_blocks_middle: int = 2
    norm_type: str = "layer"

    def __post_init__(self) -> None:
        _check_dense_vae(self.channels, self.norm_type)


@dataclass(frozen=True, kw_only=True)
class SparseEncoderConfig(_NetworkConfig):
    """A shape or texture SC-VAE encoder. The shape encoder's six inputs are implied in its released configuration."""

    in_channels: int = 6
    model_channels: tuple[int, ...] = (64, 128, 256, 512, 1024)
    latent_channels: int = 32
    num_blocks: tuple[int, ...] = (0, 4, 8, 16, 4)

    def __post_init__(self) -> None:
        _check_sparse_vae(self.model_channels, self.num_blocks)
        for fine, coarse in zip(self.model_channels, self.model_channels[1:], strict=False):
            if coarse % 8 or (8 * fine) % coarse:
                raise ConfigError(
                    f"a down block from {fine} to {coarse} channels is impossible: {coarse} must be a multiple of 8 "
                    f"and divide {8 * fine}"
                )


@dataclass(frozen=True, kw_only=True)
class SparseDecoderConfig(_NetworkConfig):
    """A shape or texture SC-VAE decoder. `pred_subdiv` is off for the texture, which follows the shape."""

    out_channels: int = 7
    model_channels: tuple[int, ...] = (1024, 512, 256, 128, 64)
    latent_channels: int = 32
    num_blocks: tuple[int, ...] = (4, 16, 8, 4, 0)
    pred_subdiv: bool = True

    def __post_init__(self) -> None:
        _check_sparse_vae(self.model_channels, self.num_blocks)
        for coarse, fine in zip(self.model_channels, self.model_channels[1:], strict=False):
            if coarse % 8 or (8 * fine) % coarse:
                raise ConfigError(
                    f"an up block from {coarse} to {fine} channels is impossible: {coarse} must be a multiple of 8 "
                    f"and divide {8 * fine}"
                )


def _require_positive(config: object, name: str) -> None:
    if getattr(config, name) < 1:
        raise ConfigError(f"{name} is {getattr(config, name)}: it must be at least 1")


def _check_dense_vae(channels: tuple[int, ...], norm_type: str) -> None:
    if not channels:
        raise ConfigError("channels is empty: a dense VAE needs at least one level")
    if norm_type != "layer":
        raise ConfigError(f"norm_type is {norm_type!r}: the released networks, and ours, have 'layer'")


def _check_sparse_vae(model_channels: tuple[int, ...], num_blocks: tuple[int, ...]) -> None:
    if len(model_channels) != len(num_blocks) or not model_channels:
        raise ConfigError(
            f"{len(model_channels)} levels of channels and {len(num_blocks)} of blocks: as many, and not none"
        )
